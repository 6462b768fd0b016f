"""A log without tables of users and items, and the profiles of `docs/columns.md`: built, in the form of the stores."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_assets.assets.publish.collections import families
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import load_profile
from recsys_assets.stores.columns import encode_texts
from recsys_assets.stores.mongo.documents import check_table, encode_rows
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.environment import forget_tracking_uri
from recsys_assets_tests.helpers.in_process import failed_checks
from recsys_assets_tests.helpers.worlds import World

ITEMS, LANDED_ITEMS = 40, 24
DAYS = ["2026-01-01", "2026-01-02", "2026-01-03"]
PAGE = (PROJECT / "docs" / "columns.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(name: shop.*?)```", PAGE, re.DOTALL)
BUILT = """
    users items splits factors event_features rank_samples feature_schema user_features item_features recall_samples
    negative_items recall_term i2i_itemcf i2i_swing hitrate_popularity hitrate_term
    """.split()  # noqa: SIM905
VALUES = {
    "user_id": [f"u{n}" for n in range(60)],
    "item_id": [str(n) for n in range(ITEMS)],
    "bought": ["yes", "no"],
    "price": ["", "9.99", "15"],
    "category": ["", "phone.smart", "toy"],
    "device": ["", "ios", "web"],
}


@contextmanager
def open_log(home: Path, profile: str, **fixed: str) -> Iterator[World]:
    """A world with 600 events; `fixed` are columns that have one value in all rows."""
    with pytest.MonkeyPatch.context() as patch:
        (home / "own.yaml").write_text(profile)
        patch.setenv("RECSYS_DATA", str(home))
        patch.setenv("RECSYS_PROFILE", str(home / "own.yaml"))
        forget_tracking_uri(patch)
        world = World(home, load_profile())
        rng = np.random.default_rng(3)
        known = LANDED_ITEMS if world.profile.unknown_ids == "keep" else ITEMS
        for day in DAYS:
            folder = world.profile.landing / "interactions" / f"bizdate={day}"
            folder.mkdir(parents=True)
            lines = [
                ",".join([*(fixed.get(name) or rng.choice(some) for name, some in VALUES.items()), time_of(day, n)])
                for n in range(200)
            ]
            (folder / "e.csv").write_text("\n".join([",".join([*VALUES, "timestamp"]), *lines]) + "\n")
        (world.profile.landing / "items").mkdir()
        (world.profile.landing / "items" / "i.csv").write_text(items_file(known))
        world.run(["interactions"], DAYS[0], DAYS[-1])
        yield world


def items_file(number: int) -> str:
    rows = [f'{n},Item {n},"[0.1, {n}, 2]",phone/smart,2020-01-{n % 28 + 1:02},true,19.99,{n}' for n in range(number)]
    return "\n".join(["item_id,title,picture,category,released,in_stock,price,stock", *rows]) + "\n"


def time_of(day: str, n: int) -> str:
    return f"{day} {n // 60:02}:{n % 60:02}:00"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], World]:
    """The world of an example, in which `BUILT` has been built once."""

    @cache
    def build(example: str) -> World:
        with open_log(tmp_path_factory.mktemp("log"), example) as world:
            world.result = world.run(BUILT, DAYS[-1])
            return world

    return build


@pytest.mark.parametrize("example", EXAMPLES, ids=["log alone", "unknown ids", "types"])
def test_the_examples_of_the_docs_are_built_and_every_store_can_hold_them(
    built: Callable[[str], World], example: str
) -> None:
    world = built(example)
    without_terms = {"recall_term:can_be_built", "hitrate_term:can_be_built"}  # which are declined
    expected = set() if world.profile.features.terms else without_terms
    assert {name for name in failed_checks(world.result) if "better" not in name} == expected
    read = {name: world.read(name, DAYS[-1]) for name in BUILT}
    inputs = {name: partition for name, partition in read.items() if not partition.manifest.declined}
    for name, collection in families(world.profile)["mongo"].items():
        if set(collection.reads) <= inputs.keys():
            check_for_stores(name, collection.table(world.profile, inputs))


def check_for_stores(name: str, table: pa.Table) -> None:
    """Check that MongoDB and Redis can hold every column, with its gaps."""
    check_table(name, table)
    assert sum(len(rows) for rows in encode_rows(name, DAYS[-1], table)) == len(table)
    for column in table.column_names:
        if not pa.types.is_list(table[column].type) or not pa.types.is_struct(table[column].type.value_type):
            encode_texts(column, table[column].combine_chunks(), table[0].combine_chunks())


def test_items_of_the_log_are_rows_with_gaps_in_every_snapshot(built: Callable[[str], World]) -> None:
    world = built(EXAMPLES[1])
    assert table(world, "items")["title"].null_count == ITEMS - LANDED_ITEMS
    assert table(world, "item_features").num_rows == ITEMS
    assert table(world, "splits").num_rows == 600


def table(world: World, asset: str) -> pa.Table:
    return pq.read_table(world.read(asset, DAYS[-1]).path(ROWS))


@pytest.mark.parametrize("fixed", [{"user_id": "u1"}, {"item_id": "3"}], ids=["one user", "one item"])
def test_a_log_of_one_user_or_one_item_is_built_as_far_as_samples(tmp_path: Path, fixed: dict[str, str]) -> None:
    with open_log(tmp_path, EXAMPLES[0], **fixed) as world:
        # Nothing is left that could be recommended, so what is judged by new items has no query to evaluate.
        world.run([name for name in BUILT if "hitrate" not in name and name != "recall_term"], DAYS[-1])
        assert table(world, "users").num_rows == (1 if "user_id" in fixed else 60)
        assert table(world, "items").num_rows == (1 if "item_id" in fixed else ITEMS)


def test_an_event_of_a_day_before_makes_users_outdated(tmp_path: Path) -> None:
    with open_log(tmp_path, EXAMPLES[0]) as world:
        world.run(["users"], DAYS[-1])
        assert set(world.read("users", DAYS[-1]).manifest.upstream) == {f"interactions/{day}" for day in DAYS}
        file = world.profile.landing / "interactions" / f"bizdate={DAYS[0]}" / "e.csv"
        file.write_text(file.read_text() + f"new,1,yes,,,,{DAYS[0]} 23:00:00\n")
        world.run(["interactions"], DAYS[0])
        assert world.lake.outdated_inputs(world.read("users", DAYS[-1]).manifest) == [f"interactions/{DAYS[0]}"]
