"""Writes a generated shop log: views, carts and orders, and a table of items; seeded, the same bytes each time.

    python benchmarks/shop_log.py FOLDER            # 3,000 users, 1,500 items, about 150,000 events of 90 days
    recsys init FOLDER/events.csv --items-file FOLDER/items.csv --name shop
    recsys land shop.yaml --source FOLDER/events.csv --items-file FOLDER/items.csv
    RECSYS_PROFILE=shop.yaml recsys materialize '+funnel_report'
    RECSYS_PROFILE=shop.yaml python benchmarks/funnel_merges.py BIZDATE

The shop is that of `recsys_assets_tests/helpers/shop_log.py`: there is no table of users, and a share of the events has
no user. Items have their category and a price, which differs between categories. The higher `--focus`, the more a
user's visits are of few items, and of the popular ones.
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

from recsys_assets_tests.helpers.shop_log import FIRST_ITEM, Shop, generate


def items_of(shop: Shop, seed: int) -> pa.Table:
    """item_id, category and price: a level of the category, times a factor of the item."""
    rng = np.random.default_rng(seed)
    levels = rng.normal(3, 0.8, shop.categories.max() + 1)
    prices = np.exp(levels[shop.categories] + rng.normal(0, 0.4, len(shop.categories)))
    return pa.table(
        {
            "item_id": np.arange(len(shop.goods)) + FIRST_ITEM,
            "category": [f"c{each}" for each in shop.categories],
            "price": np.round(prices, 2),
        }
    )


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--users", type=int, default=3000)
    parser.add_argument("--items", type=int, default=1500)
    parser.add_argument("--visits", type=int, default=123_000)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--focus", type=float, default=0.7, help="how much users keep to few items")
    parser.add_argument("--anonymous", type=float, default=0.05, help="the share of events without a user")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    shop = generate(given.users, given.items, given.visits, given.days, given.seed, given.anonymous, given.focus)
    given.folder.mkdir(parents=True, exist_ok=True)
    csv.write_csv(shop.events, given.folder / "events.csv")
    csv.write_csv(items_of(shop, given.seed), given.folder / "items.csv")
    print(f"{shop.events.num_rows:,} events")


if __name__ == "__main__":
    main()
