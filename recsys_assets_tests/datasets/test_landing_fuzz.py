"""Random landing files: every row is accepted or rejected, every error is a named one, and nothing takes long.

`RECSYS_FUZZ_FILES=2000` tries that many files; `RECSYS_FUZZ_SEED` sets a different seed.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys_assets.datasets.duck import connect
from recsys_assets.datasets.ingest import REJECTED, ROWS, ingest_entities, ingest_events
from recsys_assets.datasets.landing import contents
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import TableName
from recsys_assets.datasets.tables import LandedFileError
from recsys_assets_tests.helpers.landing_fuzz import Fuzzed, fuzzed

DAY = "2026-01-05"
FILES = int(os.environ.get("RECSYS_FUZZ_FILES", "120"))
SEED = int(os.environ.get("RECSYS_FUZZ_SEED", "10"))
LIMIT = 5.0  # seconds of processor time per file


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    events = {"user_id": "int64", "item_id": "string", "rating": "float32", "tags": "strings", "timestamp": "timestamp"}
    people = {"user_id": "int64", "joined": "timestamp", "score": "float32", "tags": "strings", "name": "string"}
    items = {"item_id": "string", "year": "int64"}
    return Profile.model_validate(
        {
            "name": "shop",
            "first_bizdate": "2026-01-01",
            "landing": tmp_path_factory.mktemp("landing"),
            "tables": {"interactions": events, "users": people, "items": items},
            "label": "rating > 3",
            "split": {"strategy": "by_day"},
        }
    )


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(tmp_path) as connection:
        for table, ids in {"user": "range(-10, 130)", "item": "(VALUES ('a'), ('b'), ('c'), ('日本'))"}.items():
            connection.execute(f"CREATE TABLE known_{table} AS SELECT id, '' AS since FROM {ids} AS known(id)")
        yield connection


def land(profile: Profile, table: TableName, file: Fuzzed) -> Path:
    """Make the file the only one in the table's folder."""
    day = f"bizdate={DAY}" if table == "interactions" else ""
    for found in (DAY, None):
        for old in contents(profile, table, found).files:
            old.unlink()
    path = profile.landing / table / day / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file.content)
    return path


def ingested(connection: duckdb.DuckDBPyConnection, profile: Profile, table: TableName, folder: Path) -> dict[str, int]:
    folder.mkdir()
    if table == "interactions":
        return ingest_events(connection, profile, DAY, folder)
    return ingest_entities(connection, profile, table, DAY, folder)


def test_every_row_of_a_random_file_is_kept_or_rejected_or_the_file_is_named(
    shop: Profile,
    connection: duckdb.DuckDBPyConnection,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    draw, kept, refused, slowest = np.random.default_rng(SEED), 0, 0, 0.0
    tables: list[TableName] = ["interactions", "users", "items"]
    for number in range(FILES):
        table = tables[number % 3]
        file = fuzzed(draw, shop.tables[table])
        path, folder = land(shop, table, file), tmp_path / str(number)
        start = time.process_time()
        try:
            counts = ingested(connection, shop, table, folder)
        except LandedFileError as error:
            assert str(path) in str(error), number
            refused += 1
            continue
        finally:
            slowest = max(slowest, time.process_time() - start)
        written = pq.read_metadata(folder / ROWS).num_rows
        rejected = pq.read_table(folder / REJECTED) if (folder / REJECTED).exists() else None
        aside = rejected["row"].to_pylist() if rejected else []
        assert (written, len(aside)) == (counts["rows"], sum(counts.values()) - counts["rows"]), number
        assert len(set(aside)) == len(aside), number
        assert file.rows in (None, written + len(aside)), (number, file.name, counts)
        kept += written
    assert slowest < LIMIT
    assert kept > FILES, "the files hold rows that are kept"
    assert FILES / 10 < refused < FILES / 1.5
    record_property("found", f"{FILES} files, {refused} refused, {kept} rows kept, the slowest took {slowest:.2f} s")
