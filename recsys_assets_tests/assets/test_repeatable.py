"""A partition depends only on what had landed by its day: rebuilt it is the same, and later days change nothing."""

import datetime as dt
import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_assets.datasets.landing import land, landing_files
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.datasets.profile_parts import TableName
from recsys_assets.manifest import MANIFEST
from recsys_assets_tests.helpers.in_process import failures, materialize
from recsys_assets_tests.helpers.worlds import write_profile

FIRST, DAY, NEXT = "2026-01-01", "2026-01-08", "2026-01-09"
ASSETS = [
    "interactions",
    "users",
    "items",
    "splits",
    "factors",
    "event_features",
    "rank_samples",
    "touch_samples",
    "feature_schema",
    "user_features",
    "item_features",
]
# More rows than one of DuckDB's row groups (122,880), so that several threads take part.
EVENTS = 125_000
FEW_TERMS = 3


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    """The sample profile with a week of landed days; `DAY` is the last."""
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path))
    monkeypatch.setenv("RECSYS_LANDING", str(tmp_path / "landing"))
    monkeypatch.setenv("RECSYS_LAKE", str(tmp_path / "lake"))
    # Each term adds five windows over all rows; a few show the same as many.
    few = {"features": {"terms": {"column": "genres", "window": 10, "max_terms": FEW_TERMS}}}
    monkeypatch.setenv("RECSYS_PROFILE", write_profile(tmp_path / "own.yaml", few))
    profile = load_profile()
    land(profile, first=dt.date.fromisoformat(FIRST), last=dt.date.fromisoformat(DAY), days=8, events=EVENTS)
    return profile


def land_next_day(profile: Profile) -> None:
    """Land the day after, with new users and items, and with changed values for known ones."""
    land(profile, first=dt.date.fromisoformat(NEXT), last=dt.date.fromisoformat(NEXT))
    changes: list[tuple[TableName, str, str]] = [("users", "gender", "X"), ("items", "title", "renamed")]
    for table, column, value in changes:
        (known,) = landing_files(profile, table, DAY)
        (coming,) = landing_files(profile, table, NEXT)
        before, after = pq.read_table(known), pq.read_table(coming)
        old, now = (set(rows[f"{table.removesuffix('s')}_id"].to_pylist()) for rows in (before, after))
        assert now - old, f"no new {table}"
        assert now & old, f"no {table} of before"
        changed = after.set_column(after.column_names.index(column), column, pa.array([value] * len(after)))
        pq.write_table(changed, coming)


def day_in_lake(lake: Path) -> dict[str, str]:
    """The hash of every file in the day's partitions; that of a manifest leaves out the MLflow run and the seconds."""
    found = {}
    for path in sorted(lake.glob(f"*/*/bizdate={DAY}/*")):
        content = path.read_bytes()
        if path.name == MANIFEST:
            content = json.dumps({**json.loads(content), "mlflow_run_id": None, "seconds": None}).encode()
        found[str(path.relative_to(lake))] = hashlib.sha256(content).hexdigest()
    return found


def test_a_partition_is_the_same_when_made_again_and_after_later_days(world: Profile, tmp_path: Path) -> None:
    assert failures(materialize(["interactions"], FIRST, DAY)) == {}
    assert failures(materialize(ASSETS, DAY)) == {}
    first = day_in_lake(tmp_path / "lake")
    assert {file.split("/")[1] for file in first} == set(ASSETS)

    land_next_day(world)
    assert failures(materialize(["interactions", "users", "items"], NEXT)) == {}
    assert failures(materialize(ASSETS, DAY)) == {}
    assert day_in_lake(tmp_path / "lake") == first
