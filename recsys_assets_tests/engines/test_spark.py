"""Assets have the same rows on Spark as on DuckDB: on a real cluster of two executors, from one text of SQL."""

import datetime as dt
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from recsys_assets.datasets.duck import connect, only_row, scan, write_parquet
from recsys_assets.datasets.impressions import label_impressions
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.landing import land
from recsys_assets.datasets.profile import Profile, bundled_profiles, load_profile
from recsys_assets.datasets.splits import SplitError, split
from recsys_assets.engines.dialect import Untranslatable
from recsys_assets.engines.engine import Engine
from recsys_assets.engines.spark import open_spark
from recsys_assets.lake import Lake
from recsys_assets_tests.features.test_history_state import LEFT, describe, describe_on, moments, write_log
from recsys_assets_tests.helpers.in_process import failed_checks, failures, materialize
from recsys_assets_tests.helpers.spark_server import CLUSTER, needs_spark, spark_connect

pytestmark = [pytest.mark.engines, needs_spark]
LAST = dt.date(2026, 3, 31)
DAYS = ["2026-03-30", "2026-03-31"]
ASSETS = {"event_features": [ROWS, *LEFT], "user_features": [ROWS], "item_features": [ROWS]}
SAMPLE = yaml.safe_load(bundled_profiles()["sample"].read_text(encoding="utf-8"))
FEATURES = SAMPLE["features"]
SAMPLES = ["splits", "recall_samples", "rank_samples"]
NEGATIVES = "negative_items"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with spark_connect(tmp_path_factory.mktemp("spark")) as address:
        yield address


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lake."""
    for name in ("RECSYS_DATA", "RECSYS_LAKE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("RECSYS_LANDING", str(tmp_path / "landing"))
    monkeypatch.setenv("RECSYS_PROFILE", "sample")
    return tmp_path


@pytest.fixture
def spark(server: str, folder: Path) -> Iterator[Engine]:  # noqa: ARG001 (the lake)
    with open_spark(server) as engine:
        yield engine


def read(files: list[Path]) -> pa.Table:
    """The rows of files, without DuckDB's marks of columns that are never null."""
    with connect(*(file.parent for file in files)) as connection:
        return connection.sql(f"FROM {scan(files)}").to_arrow_table()


def tables(lake: Lake) -> dict[tuple[str, str, str], pa.Table]:
    """The rows of all files that the assets wrote."""
    return {
        (asset, day, file): read([lake.read(asset, day).path(file)])
        for asset, files in ASSETS.items()
        for day in DAYS
        for file in files
    }


def make(names: list[str], first: str, last: str | None = None) -> None:
    result = materialize(names, first, last)
    assert (failures(result), failed_checks(result)) == ({}, set())


def test_assets_have_the_same_rows_in_the_same_order(
    folder: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = load_profile()
    land(profile, last=LAST, users=120, items=80, events=3000, days=12)
    lake = Lake(str(folder), profile.name)
    make(["interactions"], str(LAST - dt.timedelta(days=11)), str(LAST))
    for day in DAYS:
        make(["users", "items", "splits", "factors", *ASSETS], day)
    made = tables(lake)
    monkeypatch.setenv("RECSYS_ENGINE", server)
    for day in DAYS:
        make([*ASSETS], day)
    assert [*lake.manifest("event_features", DAYS[1]).extended] == [f"event_features/{DAYS[0]}"]
    for key, rows in tables(lake).items():
        assert rows.num_rows and rows.equals(made[key]), key


@pytest.mark.parametrize(
    ("changed", "days", "touch"),
    [
        ({}, DAYS, ["touch_samples"]),  # by_day; the second day takes over files of the first
        (
            {
                "split": {"strategy": "per_user_tail", "online_last_n": 2, "test_ratio": 0.3},
                "negatives": {"rate": 2},
                "features": {**FEATURES, "moment": ["hour", "weekday"]},
            },
            DAYS[:1],
            [],
        ),
        ({"split": {"strategy": "successive", "shares": [6, 1, 2, 1]}}, DAYS[1:], ["touch_samples"]),
    ],
    ids=["by_day", "per_user_tail", "successive"],
)
def test_samples_have_the_same_rows_in_the_same_order(
    folder: Path,
    server: str,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, Any],
    days: list[str],
    touch: list[str],
) -> None:
    (folder / "profile.yaml").write_text(yaml.safe_dump(SAMPLE | changed), encoding="utf-8")
    monkeypatch.setenv("RECSYS_PROFILE", str(folder / "profile.yaml"))
    profile, names = load_profile(), [*SAMPLES, *touch]
    land(profile, last=LAST, users=60, items=50, events=2000, days=12)
    lake = Lake(str(folder), profile.name)
    make(["interactions"], str(LAST - dt.timedelta(days=11)), str(LAST))
    for day in days:
        make(["users", "items", "factors", "event_features", *names, NEGATIVES], day)
    made, popular = all_files(lake, names, days), lake.read(NEGATIVES, days[-1]).manifest.files
    monkeypatch.setenv("RECSYS_ENGINE", server)
    for day in days:
        make([*names, NEGATIVES], day)
    found = all_files(lake, names, days)
    assert lake.read(NEGATIVES, days[-1]).manifest.files == popular
    assert found.keys() == made.keys()
    for file, (rows, manifest) in found.items():
        assert rows.num_rows and rows.equals(made[file][0]), file
        assert manifest == made[file][1], file


VISITS = Profile.model_validate(
    {
        "name": "visits",
        "first_bizdate": "2026-03-20",
        "landing": "nowhere",
        "tables": {
            "interactions": {
                "user_id": "string",
                "item_id": "int64",
                "timestamp": "timestamp",
                "rating": "float32",
                "visit": "string",
                "kind": "string",
            },
            "users": {"user_id": "string"},
            "items": {"item_id": "int64"},
        },
        "label": "rating >= 3.3",  # no float of 32 bits is 3.3
        "rating": "rating",
        "events": {"column": "kind", "weights": {"view": 1, "train": 0.3, "test": 5}, "recall": ["test", "train"]},
        "split": {"strategy": "by_day"},
    }
)
GIVEN = {"train": ["train"], "validation": ["view"], "test": ["test"]}


@pytest.mark.parametrize(
    ("rule", "changed"),
    [
        ({"strategy": "by_day", "online_days": 1, "test_days": 2}, {"files": {"timezone": "America/New_York"}}),
        ({"strategy": "by_day", "online_days": 1_000_000}, {}),  # all are online, so no part is there that models need
        ({"strategy": "leave_last_n", "online_last_n": 1, "test_last_n": 2}, {"session": {"column": "visit"}}),
        ({"strategy": "per_user_tail", "test_ratio": 0.37}, {"session": {"column": "visit", "split": True}}),
        ({"strategy": "successive", "shares": [5, 1, 1, 1]}, {}),
        ({"strategy": "given", "column": "kind", "values": GIVEN}, {}),
        ({"strategy": "given", "column": "kind", "values": {**GIVEN, "test": ["other"]}}, {}),  # not all are listed
    ],
)
def test_every_split_is_the_same(folder: Path, spark: Engine, rule: dict[str, Any], changed: dict[str, Any]) -> None:
    profile = Profile.model_validate(VISITS.model_dump() | changed | {"split": rule})
    write_visits(folder / "events.parquet")
    with connect() as duckdb:
        expected = split_on(duckdb, profile, folder / "events.parquet")
    assert split_on(spark, profile, folder / "events.parquet") == expected


def test_what_spark_does_not_have_is_said(spark: Engine, folder: Path) -> None:
    write_visits(folder / "events.parquet")
    rule = VISITS.model_copy(update={"label": "rating > 3 AND visit <> ''"})
    with pytest.raises(Untranslatable, match="Spark has no TRY; build this asset on DuckDB, without RECSYS_ENGINE"):
        split(spark, rule, [folder / "events.parquet"], "2026-03-31")
    columns = {"user_id": "string", "item_id": "int64", "timestamp": "timestamp"}
    tables = VISITS.model_dump()["tables"] | {"impressions": columns}
    changed = {"tables": tables, "impressions": {"window": "1h"}, "split": {"strategy": "successive"}}
    shown = Profile.model_validate(VISITS.model_dump() | changed)
    assert shown.impressions
    split(spark, shown, [folder / "events.parquet"], "2026-03-31")
    files = [folder / "events.parquet"]
    with pytest.raises(Untranslatable, match="Spark has no ASOF JOIN; build this asset on DuckDB"):
        label_impressions(spark, shown, shown.impressions, files, files, "2026-03-31")


def write_visits(file: Path) -> None:
    """Rows of users and of anonymous sessions, many of them of one moment."""
    rng = np.random.default_rng(6)
    seconds = np.sort(rng.integers(0, 20 * 12, 900)) * 4320
    start = dt.datetime(2026, 3, 20)  # noqa: DTZ001 (UTC, as stored)
    users = [f"user {n}" if n < 12 else f"session:{n}" for n in rng.integers(0, 20, 900)]
    rows = {
        "user_id": pa.array(users),
        "item_id": pa.array(rng.integers(0, 30, 900)),
        "timestamp": pa.array([start + dt.timedelta(seconds=int(each)) for each in seconds], pa.timestamp("us")),
        "seq": pa.array(np.arange(900)),
        "rating": pa.array(rng.choice([1.0, 3.3, 3.299, 4.5], 900), pa.float32()),
        "visit": pa.array([f"{user} {n}" for user, n in zip(users, rng.integers(0, 9, 900), strict=True)]),
        "kind": pa.array(rng.choice(["view", "train", "test"], 900)),
    }
    pq.write_table(pa.table(rows), file)


def split_on(engine: Engine, profile: Profile, events: Path) -> tuple[list[Any], str]:
    """The rows with their parts, in order, and why they are refused, if they are."""
    said, found = "", []
    try:
        split(engine, profile, [events], "2026-03-31")
    except SplitError as error:
        said = str(error)
    for table in ["splits", *(["anonymous"] if profile.session else [])]:
        write_parquet(engine, f"SELECT * FROM {table} ORDER BY user_id, position", events.with_name("splits.parquet"))
        found.append(read([events.with_name("splits.parquet")]))
    assert found[0].num_rows > 500
    return found, said


def all_files(lake: Lake, names: list[str], days: list[str]) -> dict[tuple[str, str, str], tuple[pa.Table, Any]]:
    """The rows of all files of partitions, with the figures that their manifests have."""
    partitions = [lake.read(asset, day) for asset in names for day in days]
    return {
        (each.manifest.asset, each.manifest.bizdate, file.name): (
            read([file]),
            (each.manifest.config, each.manifest.rows, each.manifest.metrics, each.manifest.schema),
        )
        for each in partitions
        for file in sorted(each.folder.glob("*.parquet"))
    }


def test_rows_of_several_days_leave_the_same_state(folder: Path, spark: Engine) -> None:
    """The log has ratings, terms, carried columns, unlisted items, and rows of one second."""
    log = write_log(folder / "log", seed=4)
    cuts = moments(log, 2, seed=4)
    for name in ("duckdb", "spark"):
        (folder / name).mkdir()
    by_duckdb = describe(log, cuts, folder / "duckdb")
    by_spark = describe_on(spark, log, cuts, folder / "spark")
    for one, other in zip(by_duckdb, by_spark, strict=True):
        for file in [ROWS, *LEFT]:
            assert read([other / file]).equals(read([one / file])), file


@pytest.mark.parametrize(
    "query",
    [
        "SELECT (x / 2)::BIGINT AS half FROM numbers ORDER BY x",  # 0.5, 1.5 and 2.5: half to even
        "SELECT big::BIGINT AS big FROM numbers ORDER BY x",  # it is no double
        "SELECT sum(big::HUGEINT * big) / 1e30 AS squares FROM numbers",
        "SELECT x / 3 AS third, 1.5 / x AS share FROM numbers WHERE x > 0 ORDER BY x",
        "SELECT x FROM numbers WHERE TIMESTAMP '2026-01-01' < 'infinity'::TIMESTAMP ORDER BY x DESC",
        "SELECT * REPLACE (x + 1 AS x) FROM numbers ORDER BY x",
        "FROM (FROM numbers UNION ALL BY NAME SELECT 9 AS y, 7 AS x) ORDER BY x, y",
        "SELECT *, lag(x) OVER (ORDER BY x) > 1 AS kept FROM numbers QUALIFY kept ORDER BY x DESC LIMIT 1",
        "SELECT arg_max(x, {'a': big, 'b': x}) FILTER (x < 4) AS x FROM numbers",
        "SELECT count(DISTINCT hash(numbers)) AS rows FROM numbers",
        "SELECT list_contains(words, 'a') AS has FROM numbers ORDER BY x",
        "SELECT coalesce(list_contains(words, 'a'), false)::INTEGER AS has FROM numbers ORDER BY x",
        "SELECT word FROM (SELECT unnest(list_distinct(words)) AS word FROM numbers) GROUP BY word ORDER BY word",
        "SELECT x FROM numbers SEMI JOIN (SELECT 2 AS x) USING (x)",
        "SELECT x FROM numbers ANTI JOIN (SELECT 2 AS x) USING (x) ORDER BY x",
        "SELECT x, row_number() OVER (ORDER BY x DESC) - 1 AS place FROM numbers ORDER BY x",
        "SELECT x FROM numbers WHERE isfinite(CASE x WHEN 1 THEN '-inf' WHEN 2 THEN 'nan' ELSE '1' END::FLOAT)",
        "SELECT x, isodow(DATE '2026-03-01' + (x - 1)::INTEGER) AS weekday FROM numbers ORDER BY x",  # Sunday first
        "SELECT hour(TIMESTAMP '2026-03-29 00:59:59' AT TIME ZONE 'UTC' AT TIME ZONE 'Europe/Berlin') AS hour",
        "SELECT (TIMESTAMP '2026-03-28 23:30:00' AT TIME ZONE 'UTC' AT TIME ZONE 'Europe/Berlin')::DATE AS day",
        "SELECT x FROM numbers WHERE DATE '2026-03-01' + x::INTEGER > DATE '2026-03-05' - 2 ORDER BY x",
        "SELECT ceil((x + 30) * 0.8) - floor(ceil((x + 30) * 0.8) * 0.15) AS place FROM numbers ORDER BY x",
    ],
)
def test_a_statement_says_the_same_on_both(folder: Path, spark: Engine, query: str) -> None:
    rows = "[(1, 4611686018427387905, ['a', 'b']), (2, 3, NULL), (3, 5, []), (5, 9007199254740993, ['b', NULL])]"
    typed = "r[1]::BIGINT AS x, r[2]::BIGINT AS big, r[3]::VARCHAR[] AS words"
    file = folder / "numbers.parquet"
    numbers = f"CREATE OR REPLACE TEMP TABLE numbers AS SELECT * FROM {scan([file])}"
    with connect() as duckdb:
        write_parquet(duckdb, f"SELECT {typed} FROM (SELECT unnest({rows}) AS r)", file)
        duckdb.execute(numbers)
        expected = duckdb.execute(query).fetchall()
    spark.execute(numbers)
    assert expected and spark.execute(query).fetchall() == expected


def test_a_sum_that_64_bits_cannot_hold_is_an_error(spark: Engine) -> None:
    from pyspark.errors import PySparkException

    assert only_row(spark, f"SELECT sum(x) FROM (SELECT {2**62} AS x UNION ALL SELECT 1)") == (2**62 + 1,)
    with pytest.raises(PySparkException, match="ARITHMETIC_OVERFLOW|overflow"):
        only_row(spark, f"SELECT sum(x) FROM (SELECT {2**62} AS x UNION ALL SELECT {2**62})")


def test_files_are_written_in_order_and_read_whatever_their_names(folder: Path, spark: Engine) -> None:
    (place := folder / "bizdate=2026-01-01" / "a [b] {c}*").mkdir(parents=True)
    rows = "SELECT id::BIGINT AS id, id::BIGINT % 7 AS part FROM (SELECT unnest(range(200000)) AS id)"
    for engine, file in ((spark, "one.parquet"), (spark, "again.parquet")):
        assert write_parquet(engine, f"{rows} ORDER BY part, id DESC", place / file) == 200_000
    assert [each.name for each in sorted(place.iterdir())] == ["again.parquet", "one.parquet"]
    assert (place / "one.parquet").read_bytes() == (place / "again.parquet").read_bytes()
    with connect(place) as duckdb:
        expected = duckdb.sql(f"{rows} ORDER BY part, id DESC").to_arrow_table()
    assert read([place / "one.parquet"]).equals(expected)
    names = spark.execute(f"SELECT * FROM {scan([place / 'one.parquet'])} ORDER BY part, id DESC LIMIT 1").fetchall()
    assert names == [(199_997, 0)]
    write_parquet(spark, "SELECT 5 AS id ORDER BY id", place / "one.parquet")
    assert only_row(spark, f"SELECT count(*), max(id) FROM {scan([place / 'one.parquet'])}") == (1, 5)


@pytest.mark.usefixtures("folder")
def test_a_cluster_of_its_own_has_two_executors_and_ends_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process has sessions of one kind, so this one, whose sessions are those of Spark Connect, starts another."""
    monkeypatch.setenv("RECSYS_ENGINE", CLUSTER)
    fresh = {name: value for name, value in os.environ.items() if not name.startswith("SPARK_")}  # set by the session
    done = subprocess.run([sys.executable, "-c", ON_A_CLUSTER], env=fresh, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ['[(10, "it\'s")] 2', "0"]


ON_A_CLUSTER = """
import psutil
from recsys_assets.engines.chosen import open_engine

def executors():
    children = psutil.Process().children(recursive=True)
    return sum("CoarseGrainedExecutorBackend" in " ".join(each.cmdline()) for each in children)

with open_engine() as engine:
    print(engine.execute("SELECT count(*), 'it''s' FROM (SELECT unnest(range(10)))").fetchall(), executors())
print(executors())
"""
