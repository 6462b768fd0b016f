"""Features of the moment, with the example of `docs/columns.md`: their values in rows, what they teach, and serving."""

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from recsys_assets.assets.data.samples import IMPRESSIONS, RANKED_PARTS
from recsys_assets.datasets.duck import connect, write_parquet
from recsys_assets.datasets.impressions import label_impressions
from recsys_assets.datasets.ingest import ROWS, SHOWN, ingest_entities, ingest_events, load_known_ids
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.datasets.splits import split
from recsys_assets.features.fit import fit_schema
from recsys_assets.features.history import build_history, item_query, sample_query, user_query
from recsys_assets.features.pair_feature_files import ITEM_FILE, USER_FILE, write_pair_features
from recsys_assets.features.schema import FeatureSchema, encode
from recsys_assets.funnel.known import RANKER, Known, item_trends
from recsys_assets.funnel.requests import moments_of
from recsys_assets.funnel.scoring import Scorer
from recsys_assets.metrics import auc
from recsys_assets.training import rankers
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.ranking_rows import quick_settings

(EXAMPLE,) = re.findall(r"```yaml\n(name: app.*?)```", (PROJECT / "docs" / "columns.md").read_text(), re.DOTALL)
DAYS = ["2026-01-05", "2026-01-06", "2026-01-07"]  # Monday to Wednesday
USERS, ITEMS = 90, 40
BERLIN = ZoneInfo("Europe/Berlin")
NAMES = ["hour", "weekday", "device"]
Row = dict[str, Any]


def land(profile: Profile, table: str, events: int) -> None:
    """Land random events: before noon people buy what has an even id, and after noon the rest; the device is noise."""
    rng = np.random.default_rng(events)
    for day in DAYS:
        minutes = rng.permutation(24 * 60 * 60 // 20)[:events] * 20
        user, item = rng.integers(1, USERS + 1, events), rng.integers(1, ITEMS + 1, events)
        wanted = (minutes < 12 * 3600) == (item % 2 == 0)
        values = {
            "user_id": user,
            "item_id": item,
            "timestamp": [f"{day} {dt.timedelta(seconds=int(m))!s:0>8}" for m in minutes],  # local time
            "bought": rng.random(events) < np.where(wanted, 0.85, 0.15),
            "device": rng.choice(["phone", "web", ""], events),
        }
        folder = profile.landing / table / f"bizdate={day}"
        folder.mkdir(parents=True)
        rows = zip(*(values[name] for name in profile.tables[table]), strict=True)  # type: ignore[index]
        lines = [",".join(profile.tables[table]), *(",".join(map(str, row)) for row in rows)]  # type: ignore[index]
        (folder / "e.csv").write_text("\n".join(lines) + "\n")


@dataclass
class Built:
    """The files of a small log, and a connection with its history."""

    profile: Profile
    connection: duckdb.DuckDBPyConnection
    home: Path

    def __post_init__(self) -> None:
        self.splits, self.users, self.items = self.home / "splits.parquet", *(self.home / f"{t}" / ROWS for t in "ui")
        files = self._ingest()
        split(self.connection, self.profile, files["interactions"], DAYS[-1])
        write_parquet(self.connection, "FROM splits", self.splits)
        shown = None
        if rule := self.profile.impressions:
            label_impressions(self.connection, self.profile, rule, *files.values(), DAYS[-1])
            write_parquet(self.connection, "FROM shown", shown := self.home / IMPRESSIONS)
        write_pair_features(
            self.connection, self.profile, self.splits, self.users, self.items, self.home, impressions=shown
        )
        build_history(self.connection, self.profile, self.splits, self.users, self.items)

    def _ingest(self) -> dict[str, list[Path]]:
        """Ingest all days; returns the files of events, and of impressions."""
        load_known_ids(self.connection, self.profile, DAYS[-1])
        files: dict[str, list[Path]] = {"interactions": [], "impressions": []}
        for day in DAYS:
            (folder := self.home / day).mkdir()
            for table, prefix in (("interactions", ""), ("impressions", SHOWN)):
                if table in self.profile.tables:
                    ingest_events(self.connection, self.profile, day, folder, table)  # type: ignore[arg-type]
                    files[table].append(folder / f"{prefix}{ROWS}")
        for table, path in (("users", self.users), ("items", self.items)):
            path.parent.mkdir()
            ingest_entities(self.connection, self.profile, table, DAYS[-1], path.parent, files["interactions"])  # type: ignore[arg-type]
        return files

    def rows(self, part: str) -> pa.Table:
        return self._table(sample_query(self.profile, self.users, self.items, self.home / ROWS, part))

    def schema(self) -> FeatureSchema:
        pq.write_table(self.rows("train"), self.home / "train.parquet")
        return fit_schema(self.connection, self.profile, self.home / "train.parquet", [])

    def known(self, ranker: Scorer) -> Known:
        users = self._table(user_query(self.profile, self.users, self.home / USER_FILE))
        items = self._table(item_query(self.profile, self.items, self.home / ITEM_FILE))
        return Known(self.profile, users, item_trends(pq.read_table(self.splits), "online", items), ranker)

    def _table(self, query: str) -> pa.Table:
        return self.connection.sql(query).to_arrow_table()


def build(home: Path, connection: duckdb.DuckDBPyConnection, events: int, **changes: Any) -> Built:
    """The example with changed settings, on so many events a day."""
    content = {**yaml.safe_load(EXAMPLE), "landing": str(home / "landing"), **changes}
    (home / "app.yaml").write_text(yaml.safe_dump(content))
    profile = load_profile(str(home / "app.yaml"))
    for table in ("interactions", "impressions"):
        if table in profile.tables:
            land(profile, table, events)
    (profile.landing / "items").mkdir()
    lines = [f"{item},{'coffee' if item % 2 == 0 else 'wine'}" for item in range(1, ITEMS + 1)]
    (profile.landing / "items" / "i.csv").write_text("\n".join(["item_id,category", *lines]) + "\n")
    return Built(profile, connection, home)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    home = tmp_path_factory.mktemp("app")
    with connect(home) as connection:
        yield build(home, connection, 1500)


def of_time(time: dt.datetime) -> Row:
    local = time.replace(tzinfo=dt.UTC).astimezone(BERLIN)
    return {"hour": local.hour, "weekday": local.isoweekday()}


def test_an_event_has_its_own_moment_in_the_profiles_time_zone(built: Built) -> None:
    events = {(e["user_id"], e["timestamp"]): e["device"] for e in pq.read_table(built.splits).to_pylist()}
    found = [row for part in RANKED_PARTS for row in built.rows(part).to_pylist()]
    assert {row["weekday"] for row in found} == {1, 2, 3}
    for row in found:
        device = events[row["user_id"], row["timestamp"]]
        assert {name: row[name] for name in NAMES} == {**of_time(row["timestamp"]), "device": device}
    assert {row["device"] for row in found} == {"phone", "web", None}
    sides = {f.name: (f.side, f.kind, f.type) for f in built.schema().features if f.side == "moment"}
    assert sides == {
        "hour": ("moment", "categorical", "int64"),
        "weekday": ("moment", "categorical", "int64"),
        "device": ("moment", "categorical", "string"),
    }


def test_a_drawn_negative_has_the_moment_of_its_event(tmp_path: Path) -> None:
    with connect(tmp_path) as connection:
        rows = build(tmp_path, connection, 200, label=True).rows("train").to_pylist()
    own = {(row["user_id"], row["timestamp"]): row for row in rows if not row["drawn"]}
    assert sum(row["drawn"] for row in rows) > 1000
    for row in rows:
        assert [row[name] for name in NAMES] == [own[row["user_id"], row["timestamp"]][name] for name in NAMES]


def test_an_impression_has_its_own_moment(tmp_path: Path) -> None:
    log = {"user_id": "int64", "item_id": "int64", "timestamp": "timestamp", "device": "string"}
    own = {"interactions": log, "impressions": log, "items": {"item_id": "int64", "category": "string"}}
    window = {"label": True, "impressions": {"window": "2h"}, "split": {"strategy": "by_day"}}
    with connect(tmp_path) as connection:
        app = build(tmp_path, connection, 300, tables=own, **window)
        landed = [pq.read_table(tmp_path / day / f"{SHOWN}{ROWS}").to_pylist() for day in DAYS]
        rows = [row for part in RANKED_PARTS for row in app.rows(part).to_pylist()]
    devices = {(e["user_id"], e["item_id"], e["timestamp"]): e["device"] for day in landed for e in day}
    assert len(rows) > 500
    for row in rows:
        device = devices[row["user_id"], row["item_id"], row["timestamp"]]
        assert {name: row[name] for name in NAMES} == {**of_time(row["timestamp"]), "device": device}


def without_moment(schema: FeatureSchema) -> FeatureSchema:
    return FeatureSchema([feature for feature in schema.features if feature.side != "moment"])


def test_a_ranker_learns_what_the_hour_changes_and_its_onnx_file_is_the_same(built: Built, tmp_path: Path) -> None:
    schema, (train, validation, test) = built.schema(), map(built.rows, RANKED_PARTS)
    found = {}
    for name, known in (("with", schema), ("without", without_moment(schema))):
        ranker = rankers.fit("lgbm", known, train, validation, *quick_settings("lgbm", 20), seed=1)
        found[name] = auc(test["label"].to_numpy(), ranker.predict(encode(known, test)))
        ranker.save(tmp_path / name)
        ranker.export(tmp_path / name / "model.onnx", {})
    print(found)
    assert found["with"] > 0.78 > 0.6 > found["without"]
    assert rankers.parity(tmp_path / "with", tmp_path / "with" / "model.onnx", test)["max_difference"] < 1e-5


def test_a_network_knows_what_to_do_without_a_moment(built: Built, tmp_path: Path) -> None:
    schema, (train, validation, test) = built.schema(), map(built.rows, RANKED_PARTS)
    ranker = rankers.fit("deepfm", schema, train, validation, *quick_settings("deepfm", 8), seed=1)
    ranker.save(tmp_path)
    ranker.export(tmp_path / "model.onnx", {})
    known = Scorer(tmp_path / "model.onnx", schema)(test)
    scores = Scorer(tmp_path / "model.onnx", schema)(test.drop(["hour", "weekday", "device"]))
    print(auc(test["label"].to_numpy(), known), auc(test["label"].to_numpy(), scores), scores.mean(), scores.std(), known.std())


def test_candidates_have_the_moment_of_their_request(built: Built) -> None:
    pass
