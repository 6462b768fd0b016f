"""A generated shop: a seeded log of views, carts and orders by users with tastes, whose probabilities are known.

Tests and benchmarks land it with `land_shop`. Every visit is a view of one item, drawn from the user's own
probabilities, so people come back to items; some views are followed by a cart, and some carts by an order.
"""

import datetime as dt
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from recsys_assets.arrays import Doubles, Ints

KINDS = ("view", "cart", "order")
WIDTH, CATEGORIES = 4, 12  # dimensions of tastes, and kinds of goods
FIRST = dt.date(2026, 1, 1)
DAY_SECONDS = 86_400
FIRST_USER, FIRST_ITEM = 1, 1001  # ids


@dataclass(frozen=True)
class Shop:
    """The truth and its log.

    Attributes:
        tastes: (U, 4) of users.
        goods: (I, 4) of items.
        appeal: (I,) log of how popular an item is with everyone.
        categories: (I,) numbers of the items' categories.
        events: user_id (null if anonymous), item_id, timestamp (seconds since 1970) and kind, in order of time.
    """

    tastes: Doubles
    goods: Doubles
    appeal: Doubles
    categories: Ints
    events: pa.Table

    def probabilities(self, users: Ints) -> Doubles:
        """(N, I) the chance of each item to be the one that a visit of the user views; `users` (N,) counts from 0."""
        return _softmax(self.appeal + self.tastes[users] @ self.goods.T)

    def views(self) -> "Shop":
        """The shop with its views alone, and no column for the kind."""
        return replace(self, events=self.events.filter(pc.equal(self.events["kind"], "view")).drop(["kind"]))

    def first_views(self) -> "Shop":
        """The shop with the first view of each item by each user: the next new item has the same odds as before."""
        views = self.views().events
        pairs = np.stack([views["user_id"].to_numpy(), views["item_id"].to_numpy()])
        first = np.sort(np.unique(pairs, axis=1, return_index=True)[1])
        return replace(self, events=views.take(pa.array(first)))


def generate(
    users: int, items: int, visits: int, days: int, seed: int = 1, anonymous: float = 0.0, focus: float = 0.7
) -> Shop:
    """A shop with `visits` visits over `days` days; the share `anonymous` of the rows has no user.

    The higher `focus`, the more a user's visits are of few items.
    """
    rng = np.random.default_rng(seed)
    categories = rng.integers(0, CATEGORIES, items)
    goods = rng.normal(0, 1, (CATEGORIES, WIDTH))[categories] + rng.normal(0, 0.5, (items, WIDTH))
    appeal = rng.permutation(-1.1 * focus * np.log(np.arange(1, items + 1)))
    shop = Shop(rng.normal(0, focus, (users, WIDTH)), goods, appeal, categories, pa.table({}))
    activity = rng.dirichlet(np.full(users, 2.0))
    visitor = np.sort(rng.choice(users, visits, p=activity))
    item = _draw(shop, visitor, rng)
    start = int(dt.datetime.combine(FIRST, dt.time(), dt.UTC).timestamp())
    seconds = start + rng.integers(0, days * DAY_SECONDS - 600, visits)
    events = _with_follow_ups(shop, visitor, item, seconds, rng)
    hidden = rng.random(events.num_rows) < anonymous
    named = pc.if_else(pa.array(hidden), pa.scalar(None, pa.int64()), events["user_id"])
    return replace(shop, events=events.set_column(0, "user_id", named))


def land_shop(shop: Shop, landing: Path, with_users: bool = True, with_items: bool = True) -> list[str]:
    """Write the log as one CSV file per day, and the tables of users and items; returns the bizdates."""
    days = pc.strftime(shop.events["timestamp"].cast(pa.timestamp("s")), "%Y-%m-%d")
    bizdates: list[str] = sorted(pc.unique(days).to_pylist())
    for day in bizdates:
        folder = landing / "interactions" / f"bizdate={day}"
        folder.mkdir(parents=True, exist_ok=True)
        csv.write_csv(shop.events.filter(pc.equal(days, day)), folder / "events.csv")
    users = {"user_id": np.arange(len(shop.tastes)) + FIRST_USER, "region": np.arange(len(shop.tastes)) % 5}
    items = {"item_id": np.arange(len(shop.goods)) + FIRST_ITEM, "category": [f"c{each}" for each in shop.categories]}
    for name, table, wanted in (("users", users, with_users), ("items", items, with_items)):
        if wanted:
            (landing / name).mkdir(parents=True, exist_ok=True)
            csv.write_csv(pa.table(table), landing / name / "rows.csv")
    return bizdates


def _softmax(logits: Doubles) -> Doubles:
    grown = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Doubles = grown / grown.sum(axis=1, keepdims=True)
    return shares


def _draw(shop: Shop, visitors: Ints, rng: np.random.Generator) -> Ints:
    """(N,) an item for each visit, from its user's probabilities; visitors (N,) are in ascending order."""
    point, found = rng.random(len(visitors)), np.empty(len(visitors), np.int64)
    for user in np.unique(visitors):
        rows = slice(*np.searchsorted(visitors, [user, user + 1]))
        bounds = np.cumsum(shop.probabilities(np.array([user]))[0])
        found[rows] = np.minimum(np.searchsorted(bounds, point[rows], side="right"), len(bounds) - 1)
    return found


def _with_follow_ups(shop: Shop, user: Ints, item: Ints, seconds: Ints, rng: np.random.Generator) -> pa.Table:
    """The views, the carts a minute later and the orders four minutes after these; people order what they like."""
    match = (shop.tastes[user] * shop.goods[item]).sum(axis=1)
    carted = rng.random(len(user)) < 1 / (1 + np.exp(4.5 - match))
    ordered = carted & (rng.random(len(user)) < 1 / (1 + np.exp(2.5 - match)))
    steps = [np.ones(len(user), bool), carted, ordered]
    columns = {
        "user_id": np.concatenate([user[step] + FIRST_USER for step in steps]),
        "item_id": np.concatenate([item[step] + FIRST_ITEM for step in steps]),
        "timestamp": np.concatenate([seconds[step] + wait for step, wait in zip(steps, (0, 60, 300), strict=True)]),
        "kind": pa.array(np.repeat(KINDS, [step.sum() for step in steps])),
    }
    order = [("timestamp", "ascending"), ("user_id", "ascending"), ("item_id", "ascending")]
    return pa.table(columns).sort_by(order)
