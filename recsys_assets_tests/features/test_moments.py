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
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from recsys_assets.assets.data.samples import IMPRESSIONS
from recsys_assets.assets.publish.onnx import MODEL
from recsys_assets.datasets.duck import connect, write_parquet
from recsys_assets.datasets.impressions import label_impressions
from recsys_assets.datasets.ingest import ROWS, SHOWN, ingest_entities, ingest_events, load_known_ids
from recsys_assets.datasets.profile import Profile, ProfileError, load_profile
from recsys_assets.datasets.profile_parts import TableName
from recsys_assets.datasets.splits import split
from recsys_assets.features.fit import fit_schema
from recsys_assets.features.history import item_query, sample_query, user_query
from recsys_assets.features.history_table import build_history
from recsys_assets.features.pair_feature_files import ITEM_FILE, USER_FILE, Sources, write_pair_features
from recsys_assets.features.schema import FeatureSchema, encode
from recsys_assets.funnel.known import RANKER, Known, item_trends
from recsys_assets.funnel.requests import moments_of
from recsys_assets.funnel.scoring import Scorer
from recsys_assets.funnel.users import Users
from recsys_assets.metrics import auc
from recsys_assets.models.layers import DropIds
from recsys_assets.ranking.sample_parts import RANKED_PARTS
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
            label_impressions(
                self.connection, self.profile, rule, files["interactions"], files["impressions"], DAYS[-1]
            )
            write_parquet(self.connection, "FROM shown", shown := self.home / IMPRESSIONS)
        write_pair_features(
            self.connection, self.profile, Sources(self.splits, self.users, self.items, impressions=shown), self.home
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
                    ingest_events(self.connection, self.profile, day, folder, table)
                    files[table].append(folder / f"{prefix}{ROWS}")
        sides: dict[TableName, Path] = {"users": self.users, "items": self.items}
        for table, path in sides.items():
            path.parent.mkdir()
            ingest_entities(self.connection, self.profile, table, DAYS[-1], path.parent, files["interactions"])
        return files

    def rows(self, part: str) -> pa.Table:
        return self._table(sample_query(self.profile, self.users, self.items, self.home / ROWS, part))

    def schema(self) -> FeatureSchema:
        pq.write_table(self.rows("train"), self.home / "train.parquet")
        return fit_schema(self.connection, self.profile, self.home / "train.parquet", [])

    def known(self, ranker: Scorer) -> tuple[Known, Users]:
        users = self._table(user_query(self.profile, self.users, self.home / USER_FILE))
        items = self._table(item_query(self.profile, self.items, self.home / ITEM_FILE))
        known = Known(self.profile, item_trends(pq.read_table(self.splits), "online", items), ranker)
        return known, known.users(users)

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
        rows = build(tmp_path, connection, 200, label=True, split={"strategy": "by_day"}).rows("train").to_pylist()
    own = {(row["user_id"], row["timestamp"]): row for row in rows if not row["drawn"]}
    assert sum(row["drawn"] for row in rows) > 500
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


@pytest.fixture(scope="module")
def fitted(built: Built) -> rankers.Ranker:
    """LightGBM with the features of the moment; its ONNX file is next to it in the folder of the world."""
    ranker = fit(built, "lgbm", built.schema(), 20)
    ranker.save(built.home)
    ranker.export(built.home / MODEL, {})
    return ranker


def fit(built: Built, model: str, schema: FeatureSchema, epochs: int) -> rankers.Ranker:
    return rankers.fit(
        model, schema, built.rows("train"), built.rows("validation"), *quick_settings(model, epochs), seed=1
    )


def test_a_ranker_learns_what_the_hour_changes_and_its_onnx_file_is_the_same(
    built: Built, fitted: rankers.Ranker
) -> None:
    test = built.rows("test")
    without = FeatureSchema([feature for feature in built.schema().features if feature.side != "moment"])
    blind = fit(built, "lgbm", without, 20)
    found = [auc(test["label"].to_numpy(), each.predict(encode(each.fitted.schema, test))) for each in (fitted, blind)]
    assert found[0] > 0.78
    assert found[1] < 0.6
    assert rankers.parity(built.home, built.home / MODEL, test)["max_difference"] < 1e-5


def test_a_network_knows_what_to_do_without_a_moment(built: Built, tmp_path: Path) -> None:
    """It has learned from rows whose moment was hidden; what a request leaves out is the same as a null."""
    ranker, test = fit(built, "deepfm", built.schema(), 8), built.rows("test")
    ranker.export(tmp_path / MODEL, {})
    scorer = Scorer(tmp_path / MODEL, ranker.fitted.schema)
    known, unknown = scorer(test), scorer(test.drop(NAMES))
    nulls = {name: pa.nulls(len(test), test[name].type) for name in NAMES}
    for name, column in nulls.items():
        test = test.set_column(test.column_names.index(name), name, column)
    assert auc(labels := test["label"].to_numpy(), known) > 0.78
    assert unknown.mean() == pytest.approx(labels.mean(), abs=0.1)
    assert np.array_equal(scorer(test), unknown)
    assert np.abs(ranker.predict(encode(ranker.fitted.schema, test)) - unknown).max() < 1e-5


def test_networks_hide_ids_and_moments_in_training_and_nothing_else(built: Built) -> None:
    schema = built.schema().without_sequences()
    indices = torch.from_numpy(encode(schema, built.rows("train")).indices)
    hidden = (DropIds(schema, 0.5)(indices) != indices).float().mean(0)
    shares = {feature.name: hidden[schema.columns[feature.name]].item() for feature in schema.sparse}
    assert {name for name, share in shares.items() if share > 0.2} == {"user_id", "item_id", *NAMES}
    assert shares["category"] == 0


def test_candidates_have_the_moment_of_their_request(built: Built, fitted: rankers.Ranker) -> None:
    known, users = built.known(Scorer(built.home / MODEL, fitted.fitted.schema))
    user, item = np.repeat([3, 4], ITEMS), np.tile(np.arange(ITEMS), 2)
    at = {hour: known.moments({"hour": pa.array([hour])}, 1) for hour in (8, 20)}
    morning, evening = (known.describe(users, user, item, moment)[RANKER] for moment in at.values())
    even = known.items.ids.to_numpy()[item] % 2 == 0
    assert (morning > evening)[even].all()
    assert (morning < evening)[~even].all()


def test_a_request_is_of_the_time_of_the_users_first_event_of_the_part(built: Built) -> None:
    events = pq.read_table(built.splits).filter(pc.equal(pq.read_table(built.splits)["part"], "online"))
    first: dict[int, Row] = {}
    for row in events.sort_by([("timestamp", "ascending"), ("seq", "ascending")]).to_pylist():
        first.setdefault(row["user_id"], {**of_time(row["timestamp"]), "device": row["device"]})
    users = np.array([*reversed(first), 999])
    found = pa.table(dict(moments_of(built.profile, built.splits, "online", users))).to_pylist()
    assert found == [*(first[user] for user in users[:-1]), dict.fromkeys(NAMES)]


TABLES = EXAMPLE[EXAMPLE.index("  interactions:") : EXAMPLE.index("label:")]
FAULTS = [
    # text, replacement, message
    ("[hour, weekday, device]", "[hour, bought]", "moment.1: 'bought' is what the label or its part follows from"),
    ("label: bought", "label: hour(timestamp) > 12", "moment.0: 'hour' is made of timestamp, which the"),
    ("[hour, weekday, device]", "[minute]", "'minute' is neither hour nor weekday nor a column of tables.interactions"),
    ("[hour, weekday, device]", "[hour, timestamp]", "'timestamp' is of the event, not of the moment"),
    ("[hour, weekday, device]", "[hour, hour]", "features: 'hour' is named 2 times"),
    ("[user_id, item_id, category]", "[user_id, item_id, device]", "or name it under features.moment"),
    ("device: string", "device: {type: string, of: user}", "'device' is of the user, not of the moment"),
    ("device: string", "device: float32", "'device' is float32, not string or int64 or int32 or bool"),
    ("category: string}", "category: string, device: string}", "'device' is also a column of users, items or the"),
    ("category: string}", "category: string, Hour: int64}", "'hour' is a part of the time, and also a column of items"),
    ("  items:", "  impressions: {user_id: int64, item_id: int64, timestamp: timestamp}\n  items:",
     "'device' must be a column of tables.impressions too, of the type string"),
    (TABLES, "  interactions: {bought: bool, device: string}\n", "moment: needs user_id, item_id and timestamp"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "becomes", "says"), FAULTS)
def test_what_cannot_be_known_at_the_request_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, becomes: str, says: str
) -> None:
    monkeypatch.setenv("RECSYS_LANDING", str(tmp_path))
    assert text in EXAMPLE
    (tmp_path / "app.yaml").write_text(EXAMPLE.replace(text, becomes))
    with pytest.raises(ProfileError) as raised:
        load_profile(str(tmp_path / "app.yaml"))
    assert says in str(raised.value), str(raised.value)
