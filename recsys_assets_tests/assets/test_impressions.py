"""The example of `docs/sessions.md` on what was shown, in a generated world whose rates are known."""

import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from recsys_assets.arrays import Doubles
from recsys_assets.assets.data.samples import IMPRESSIONS
from recsys_assets.assets.rank import PREDICTIONS
from recsys_assets.datasets.duck import connect
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import KEYS, load_profile
from recsys_assets.features.leakage import count_leaking_rows
from recsys_assets.features.pair_data import ItemSnapshot
from recsys_assets.features.pair_features import candidate_rows
from recsys_assets.lake import Lake
from recsys_assets.ranking.sample_parts import RANKED_PARTS
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.in_process import failed_checks, failures, materialize
from recsys_assets_tests.helpers.worlds import own_environment

EXAMPLES = dict(
    re.findall(r"```yaml\nname: (\w+)\n(.*?)```", (PROJECT / "docs" / "sessions.md").read_text(), re.DOTALL)
)
USERS, ITEMS, DAYS, SHOWN, REQUESTS = 120, 60, 5, 6, 4000
START = int(dt.datetime(2026, 1, 1, tzinfo=dt.UTC).timestamp())
TABLES = [
    "users",
    "items",
    "splits",
    "factors",
    "event_features",
    "rank_samples",
    "feature_schema",
    "user_features",
    "item_features",
]
ASSETS = [*TABLES, "rank_lgbm", "onnx_lgbm"]
POSITIONS = np.array([0.45, 0.3, 0.2, 0.14, 0.1, 0.07])  # the rate at which a shown item is looked at


def land_world(landing: Path) -> tuple[pa.Table, Doubles]:
    """Land a shelf with six places, looked at less and less; returns the impressions and their true rates."""
    rng = np.random.default_rng(3)
    liked = rng.normal(0, 1, (USERS, 3)) @ rng.normal(0, 1, (ITEMS, 3)).T
    user = np.repeat(rng.integers(0, USERS, REQUESTS), SHOWN)
    item = np.argsort(rng.random((REQUESTS, ITEMS)), axis=1)[:, :SHOWN].ravel()
    time = np.repeat(START + np.sort(rng.integers(0, DAYS * 86_400 - 60, REQUESTS)), SHOWN)
    place = np.tile(np.arange(SHOWN), REQUESTS)
    rate = POSITIONS[place] / (1 + np.exp(-liked[user, item]))
    request = pa.array([f"r{number}" for number in np.repeat(np.arange(REQUESTS), SHOWN)])
    ids = {"user_id": user + 1, "item_id": item + 101, "timestamp": time}
    shown = pa.table({**ids, "request_id": request, "position": place + 1})
    touched = shown.filter(pa.array(rng.random(len(rate)) < rate)).drop(["position"])
    wait = rng.integers(1, 600, touched.num_rows)
    touched = touched.set_column(2, "timestamp", pa.array(touched["timestamp"].to_numpy() + wait))
    for name, table in (("impressions", shown), ("interactions", touched.sort_by("timestamp"))):
        days = pc.strftime(table["timestamp"].cast(pa.timestamp("s")), "%Y-%m-%d")
        for day in pc.unique(days).to_pylist():
            folder = landing / name / f"bizdate={day}"
            folder.mkdir(parents=True)
            csv.write_csv(table.filter(pc.equal(days, day)), folder / "rows.csv")
    (landing / "items").mkdir()
    items = {"item_id": np.arange(ITEMS) + 101, "category": [f"c{n % 5}" for n in range(ITEMS)]}
    csv.write_csv(pa.table(items), landing / "items" / "rows.csv")
    return shown, rate


class Shelf:
    """A lake with the example's assets of the last day."""

    def __init__(self, home: Path) -> None:
        (home / "profile.yaml").write_text(f"name: shelf\n{EXAMPLES['shelf']}")
        self.profile = load_profile(str(home / "profile.yaml"))
        self.shown, self.rates = land_world(self.profile.landing)
        self.days = [f"2026-01-0{number + 1}" for number in range(DAYS)]
        assert failures(materialize(["interactions"], self.days[0], self.days[-1])) == {}
        self.result = materialize(ASSETS, self.days[-1])
        assert failures(self.result) == {}
        self.lake = Lake(str(home / "lake"), "shelf")

    def table(self, asset: str, file: str = ROWS) -> pa.Table:
        return pq.read_table(self.lake.read(asset, self.days[-1]).path(file))


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    home = tmp_path_factory.mktemp("shelf")
    with own_environment(home):
        yield Shelf(home)


def test_the_ranked_rows_are_the_impressions_with_their_answers(shelf: Shelf) -> None:
    assert not {each for each in failed_checks(shelf.result) if each.split(":")[0] in TABLES}
    rows = pa.concat_tables([shelf.table("rank_samples", f"{part}.parquet") for part in RANKED_PARTS])
    shown, known = shelf.table("splits", IMPRESSIONS), shelf.table("users")["user_id"]
    assert len(rows) == pc.sum(pc.is_in(shown["user_id"], value_set=known.combine_chunks())).as_py()
    last = START + DAYS * 86_400 - 1800
    assert len(shown) == (shelf.shown["timestamp"].to_numpy() <= last).sum()
    assert pc.sum(rows["label"]).as_py() == len(shelf.table("splits")) - _late(shelf)
    assert {*rows["shown_position"].to_pylist()} == {1, 2, 3, 4, 5, 6}


def _late(shelf: Shelf) -> int:
    """Events that answer an impression whose window reaches beyond the last day."""
    last = dt.datetime(2026, 1, DAYS, 23, 30)  # noqa: DTZ001  the lake's times have no zone
    return int(pc.sum(pc.greater(shelf.table("splits")["timestamp"], pa.scalar(last))).as_py() or 0)


def test_a_place_is_known_in_training_and_held_when_serving(shelf: Shelf) -> None:
    assert {*shelf.table("item_features")["shown_position"].to_pylist()} == {1.0}
    scored = shelf.table("rank_lgbm", PREDICTIONS)
    test = shelf.table("rank_samples", "test.parquet")
    assert scored["item_id"].equals(test["item_id"])
    score, place = scored["score"].to_numpy(), test["shown_position"].to_numpy()
    means = [score[place == number].mean() for number in (1, 3, 6)]
    assert means[0] > 1.3 * means[1] > 1.3 * means[2]


def test_probabilities_are_those_of_a_touch(shelf: Shelf) -> None:
    """Their sum over the test day is that of the true rates, within 10 % and two standard errors."""
    scored = shelf.table("rank_lgbm", PREDICTIONS)
    rate = pa.table({"rate": shelf.rates, **{name: shelf.shown[name] for name in ("user_id", "item_id", "timestamp")}})
    rate = rate.set_column(3, "timestamp", rate["timestamp"].cast(pa.timestamp("s")).cast(scored["timestamp"].type))
    both = scored.join(rate, ["user_id", "item_id", "timestamp"], join_type="inner")
    assert len(both) == len(scored)
    expected, found = (pc.sum(both[name]).as_py() for name in ("rate", "score"))
    assert abs(found - expected) < 0.1 * expected + 2 * np.sqrt(expected)
    assert np.corrcoef(both["rate"].to_numpy(), both["score"].to_numpy())[0, 1] > 0.5


def test_reports_name_the_negatives(shelf: Shelf) -> None:
    (event,) = shelf.result.asset_materializations_for_node("rank_lgbm")
    assert event.metadata["negatives"].value == "shown items that were not touched within 30min"
    assert not [name for name in shelf.lake.manifest("rank_lgbm", shelf.days[-1]).metrics if "correction" in name]


def test_a_row_knows_the_events_before_its_moment_and_no_others(shelf: Shelf) -> None:
    """Counts and the newest items, recounted in plain Python for some rows of each part."""
    events = shelf.table("splits").sort_by([("timestamp", "ascending"), ("seq", "ascending")]).to_pylist()
    for part in RANKED_PARTS:
        rows = shelf.table("rank_samples", f"{part}.parquet").to_pylist()
        for row in rows[:: len(rows) // 40]:
            before = [each for each in events if each["timestamp"] < row["timestamp"]]
            theirs = [each["item_id"] for each in before if each["user_id"] == row["user_id"]]
            of_item = sum(each["item_id"] == row["item_id"] for each in before)
            assert row["user_count"] == pytest.approx(np.log1p(len(theirs)))
            assert row["item_count"] == pytest.approx(np.log1p(of_item))
            assert row["recent_liked"] == theirs[::-1][:50]


def test_the_snapshots_give_what_a_row_after_all_events_has(shelf: Shelf) -> None:
    users, items = shelf.table("user_features"), shelf.table("item_features")
    newest = {each["user_id"]: each["timestamp"] for each in shelf.table("splits").sort_by("timestamp").to_pylist()}
    rows = shelf.table("rank_samples", "test.parquet")
    after = [
        each > newest[user] for user, each in zip(*(rows[n].to_pylist() for n in ("user_id", "timestamp")), strict=True)
    ]
    rows = rows.filter(pa.array(after))
    assert len(rows) > 50
    user, item = (
        pc.index_in(rows[key], value_set=table[key].combine_chunks()).to_numpy().astype(np.int64)
        for key, table in (("user_id", users), ("item_id", items))
    )
    served = candidate_rows(users, ItemSnapshot(items, shelf.profile.features.affinity), user, item)
    for name in ("user_count", "user_item_rate", "recent_liked", "recent_disliked"):
        assert rows[name].to_pylist() == served[name].to_pylist()
    for name in ("user_item_affinity", "user_item_nearby"):
        expected, found = (pc.list_flatten(table[name]).to_numpy() for table in (served, rows))
        assert found == pytest.approx(expected, abs=1e-5)


def test_rows_that_know_more_are_found(shelf: Shelf) -> None:
    rows = shelf.table("rank_samples", "test.parquet")
    place = rows.column_names.index("item_count")
    splits = shelf.lake.read("splits", shelf.days[-1]).path(ROWS)
    with connect() as connection:
        connection.register("changed", rows.set_column(place, "item_count", pc.add(rows["item_count"], 0.5)))
        assert count_leaking_rows(connection, splits, "changed", KEYS["impressions"], impressions=True) > 100


def test_what_happens_later_changes_no_byte_of_a_day(shelf: Shelf) -> None:
    day = shelf.days[-2]
    assert failures(materialize(TABLES[:5], day)) == {}
    files = {asset: shelf.lake.manifest(asset, day).files for asset in TABLES[:5]}
    for table, row in (("interactions", "1,101,{},r0"), ("impressions", "1,101,{},r0,1")):
        folder = shelf.profile.landing / table / f"bizdate={shelf.days[-1]}"
        header = (folder / "rows.csv").read_text().splitlines()[0]
        (folder / "more.csv").write_text(f"{header}\n{row.format(START + (DAYS - 1) * 86_400)}\n")
    assert failures(materialize(["interactions"], shelf.days[-1])) == {}
    assert failures(materialize(TABLES[:5], day)) == {}
    assert {asset: shelf.lake.manifest(asset, day).files for asset in TABLES[:5]} == files
