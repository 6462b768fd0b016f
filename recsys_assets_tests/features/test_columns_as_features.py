"""Columns of every type, and columns that the log carries, as features of rows and of snapshots."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from recsys_assets.datasets.duck import connect, scan, write_parquet
from recsys_assets.datasets.ingest import ROWS, ingest_entities, ingest_events, load_known_ids
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.splits import split
from recsys_assets.features.fit import fit_schema
from recsys_assets.features.history import item_query, sample_query
from recsys_assets.features.history_table import build_history
from recsys_assets.features.pair_feature_files import ITEM_FILE, Sources, write_pair_features
from recsys_assets.features.raw import raw_inputs
from recsys_assets.features.schema import FeatureSchema, encode

DAY = "2026-01-05"
PROFILE: dict[str, Any] = {
    "name": "typed",
    "first_bizdate": DAY,
    "unknown_ids": "keep",
    "tables": {
        "interactions": {
            "user_id": "int64",
            "item_id": "int64",
            "timestamp": "timestamp",
            "liked": "bool",
            "price": {"type": "float64", "of": "item"},
            "tags": {"type": "strings", "of": "item"},
            "device": {"type": "string", "of": "user"},
        },
        "items": {
            "item_id": "int64",
            "new": "bool",
            "size": "int32",
            "released": "date",
            "category": "path",
            "embedding": {"type": "vector", "width": 3},
            "title": {"type": "text", "width": 8},
        },
    },
    "label": "liked",
    "features": {
        "categorical": ["new", "device"],
        "multi_valued": ["category", "tags"],
        "numeric": ["size", "released", "embedding", "title", "price"],
        "log": ["price"],
        "terms": {"column": "category"},
        "affinity": {"width": 2, "folds": 2, "recent": 3},
        "crosses": [["new", "category"]],
        "min_count": 1,
    },
    "split": {"strategy": "leave_last_n", "validation_ratio": 0.3},
}
ITEMS = "item_id,new,size,released,category,embedding,title\n" + "".join(
    f'{item},{"yes" if item % 2 else "no"},{item},2020-01-{item + 1:02},toys.t{item},"[1, {item}, 0.5]",Toy {item}\n'
    for item in range(4)
)  # item 4 is in no table


class Built:
    """The history of a small log, and the files that it was built from."""

    def __init__(self, home: Path, connection: duckdb.DuckDBPyConnection) -> None:
        self.profile = Profile.model_validate({**PROFILE, "landing": home / "landing"})
        self.connection, self.home = connection, home
        self._land()
        load_known_ids(connection, self.profile, DAY)
        for folder in ("events", "users", "items"):
            (home / folder).mkdir()
        ingest_events(connection, self.profile, DAY, home / "events")
        events = home / "events" / ROWS
        for table in ("users", "items"):
            ingest_entities(connection, self.profile, table, DAY, home / table, [events])
        self.splits, self.users, self.items = home / "splits.parquet", home / "users" / ROWS, home / "items" / ROWS
        split(connection, self.profile, [events], DAY)
        write_parquet(connection, "FROM splits", self.splits)
        write_pair_features(connection, self.profile, Sources(self.splits, self.users, self.items), home)
        self.terms = build_history(connection, self.profile, self.splits, self.users, self.items)

    def _land(self) -> None:
        rng = np.random.default_rng(5)
        lines = [
            f"{n % 9},{rng.integers(5)},{DAY} {10 + n // 60}:{n % 60:02}:00,{n % 2},{price},{tags},{device}"
            for n, (price, tags, device) in enumerate(
                zip(
                    rng.choice(["", "1.5", "2.5", "9"], 90),
                    rng.choice(["", "a|b", "c"], 90),
                    ["", "ios"] * 45,
                    strict=True,
                )
            )
        ]
        header = "user_id,item_id,timestamp,liked,price,tags,device"
        for file, text in ((f"interactions/bizdate={DAY}/e.csv", "\n".join([header, *lines])), ("items/i.csv", ITEMS)):
            path = self.home / "landing" / file
            path.parent.mkdir(parents=True)
            path.write_text(text)

    def rows(self, part: str) -> pa.Table:
        query = sample_query(self.profile, self.users, self.items, self.home / ROWS, part)
        return self.connection.sql(query).to_arrow_table()

    def snapshot(self) -> pa.Table:
        return self.connection.sql(item_query(self.profile, self.items, self.home / ITEM_FILE)).to_arrow_table()

    def schema(self) -> FeatureSchema:
        write_parquet(
            self.connection,
            sample_query(self.profile, self.users, self.items, self.home / ROWS, "train"),
            self.home / "train.parquet",
        )
        return fit_schema(self.connection, self.profile, self.home / "train.parquet", self.terms)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    home = tmp_path_factory.mktemp("typed")
    with connect(home) as connection:
        yield Built(home, connection)


def expected(events: pd.DataFrame, key: str, column: str) -> list[Any]:
    """The newest known value of the same user or item before each event, in plain Python."""
    newest: dict[Any, Any] = {}
    found = []
    for row in events.sort_values(["timestamp", "seq"]).to_dict("records"):
        found.append((row["user_id"], row["timestamp"], newest.get(row[key])))
        value = row[column]
        if len(value) if isinstance(value, (list, np.ndarray)) else not pd.isna(value):
            newest[row[key]] = list(value) if isinstance(value, np.ndarray) else value
    return sorted(found, key=lambda each: each[:2])


@pytest.mark.parametrize(("key", "column"), [("item_id", "price"), ("item_id", "tags"), ("user_id", "device")])
def test_a_row_has_the_newest_value_of_the_rows_before_it_and_not_its_own(built: Built, key: str, column: str) -> None:
    events = pd.read_parquet(built.home / "events" / ROWS)
    rows = pa.concat_tables([built.rows(part) for part in ("train", "validation", "test")]).to_pylist()
    found = sorted((row["user_id"], pd.Timestamp(row["timestamp"]), row[column]) for row in rows)
    wanted = expected(events, key, column)
    assert [each[:2] for each in found] == [each[:2] for each in wanted]
    assert [each[2] for each in found] == [each[2] for each in wanted]
    assert any(each[2] is None for each in found)


def test_the_snapshot_has_the_newest_value_of_all(built: Built) -> None:
    newest = built.connection.sql(f"SELECT item_id, price, tags FROM {scan([built.items])} ORDER BY item_id")
    assert built.snapshot().select(["item_id", "price", "tags"]).to_pylist() == newest.to_arrow_table().to_pylist()


def test_every_type_is_encoded_and_an_unknown_item_is_all_unknown(built: Built) -> None:
    schema, rows = built.schema(), built.rows("train")
    kinds = {feature.name: (feature.kind, feature.type, feature.length) for feature in schema.features}
    assert kinds["new"] == ("categorical", "int64", 1)
    assert kinds["category"] == ("multi_valued", "string", 2)
    assert [kinds[name][2] for name in ("size", "released", "embedding", "title", "price")] == [1, 1, 3, 8, 1]
    vocabulary = {feature.name: feature.vocabulary for feature in schema.features}
    assert vocabulary["new"] == [0, 1]
    assert vocabulary["category"] == ["toys", "toys.t0", "toys.t1", "toys.t2", "toys.t3"]
    encoded = encode(schema, rows)
    unknown = np.array(rows["item_id"].to_pylist()) == 4
    assert unknown.any()
    for name in ("size", "released", "embedding", "title"):
        numbers = encoded.numeric[:, schema.columns[name]]
        assert np.isnan(numbers[unknown]).all()
        assert not np.isnan(numbers[~unknown]).any()
    assert (encoded.indices[unknown][:, schema.columns["category"]] == 0).all()
    days = encoded.numeric[~unknown][:, schema.columns["released"]].ravel() - 18262  # 2020-01-01
    assert (days == np.array(rows["item_id"].to_pylist())[~unknown]).all()


def test_the_feed_of_the_onnx_file_takes_every_type_and_every_gap(built: Built) -> None:
    schema, rows = built.schema(), built.rows("test")
    feed = raw_inputs(schema, rows)
    assert feed["embedding"].shape == (len(rows), 3)
    assert feed["new"].dtype == np.int64
    assert set(np.unique(feed["new"])) <= {0, 1, -(2**63)}
