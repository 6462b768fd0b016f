"""`recsys land --source postgresql://…`: the answer to a SELECT of a real server becomes days, in its own types."""

import shlex
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from recsys_assets.cli import main
from recsys_assets.datasets import log_postgres
from recsys_assets.datasets.feed import LandingError
from recsys_assets.datasets.landing import land, landed_bizdates, landing_files
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.datasets.text_files import LandedFileError
from recsys_assets.lake import Lake
from recsys_assets_tests.datasets.test_files import with_files
from recsys_assets_tests.datasets.test_files_page import COMMANDS
from recsys_assets_tests.helpers.postgres_server import PASSWORD, Postgres, postgres
from recsys_assets_tests.helpers.shop import DAY, T, bytes_in, ingest, lake, rows, shop

__all__ = ["lake", "shop"]  # fixtures

FILL = f"""
CREATE TABLE log AS SELECT 1 + n % 3 AS user_id, (10 + n % 4)::numeric(20, 2) AS item_id,
    (1 + n % 5)::numeric AS rating, to_timestamp({T} + 40000 * n) AS at FROM generate_series(0, 11) AS n;
CREATE SEQUENCE s;
CREATE TYPE place AS ENUM ('home', 'cart');
CREATE TABLE typed (user_id varchar, item_id numeric, rating real, at timestamp, zoned timestamptz, born date, ok bool,
    tags text[], kinds place[], vector int[], ids jsonb, code char(4), size bigint);
INSERT INTO typed VALUES ('u''1', 9007199254740993, 1.5, '2026-01-05 00:30', '2026-01-05 00:30+01', '2026-01-05', true,
    ARRAY['a|b', NULL, ''], ARRAY['home', 'cart']::place[], ARRAY[1, 2], '["x"]', 'ab', 9007199254740993),
    ('', 'NaN', 'NaN', 'infinity', '-infinity', '0044-03-15 BC', NULL, NULL, '{{}}', NULL, NULL, NULL, NULL),
    (NULL, NULL, NULL, '2026-01-05 12:00', NULL, NULL, false, ARRAY[]::text[], NULL, NULL, NULL, 'abcd', -1);
"""
QUERY = "SELECT user_id, item_id, rating, at AS timestamp FROM log WHERE 5 % 3 = 2 ORDER BY at -- all of it;"
TYPED = """
name: shop
first_bizdate: 2026-01-01
landing: ${RECSYS_LANDING}/shop
tables:
  interactions:
    {user_id: string, item_id: int64, rating: float64, timestamp: {type: timestamp, column: at}, zoned: timestamp,
     born: date, ok: bool, tags: strings, kinds: strings, vector: {type: vector, width: 2}, ids: strings, code: string,
     size: int64}
split: {strategy: by_day}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres(FILL) as running:
        yield running


def landed(profile: Profile) -> list[dict[str, Any]]:
    files = [file for day in landed_bizdates(profile) for file in landing_files(profile, "interactions", day)]
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def test_a_query_lands_and_the_password_comes_from_the_environment_or_the_address(
    server: Postgres, shop: Profile, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_postgres, "_ROWS", 5)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    report = land(shop, server.address(), query=QUERY)
    assert (report.rows, report.rejected, len(report.bizdates)) == (12, {}, 6)
    assert ingest(lake, shop) == {"rows": 3}
    assert rows(lake)[["user_id", "item_id", "rating"]].to_numpy().tolist() == [[1, 10, 1], [2, 11, 2], [3, 12, 3]]
    monkeypatch.delenv("PGPASSWORD")
    source = server.address(quote(PASSWORD, safe=""))
    said = CliRunner().invoke(
        main, ["land", str(tmp_path / "shop.yaml"), "--query", QUERY], env={"RECSYS_SOURCE": source}
    )
    assert "12 events of 6 days" in said.output and "0 days are new or changed" in said.output
    assert [file.name for file in landing_files(shop, "interactions", DAY)] == ["from-shop-0000.parquet"]


def test_the_command_of_the_documentation_lands(
    server: Postgres, shop: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (command,) = [each for each in COMMANDS if "postgresql://" in each]
    for name, value in {"PGPASSWORD": PASSWORD, "PGPORT": str(server.port)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(main, shlex.split(command)[1:]).exit_code == 0
    assert landed_bizdates(shop)[0] == DAY


@pytest.mark.usefixtures("shop")
def test_every_type_keeps_its_values(server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop.yaml").write_text(TYPED)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    profile = with_files(load_profile(), timezone="Europe/Berlin")
    report = land(profile, server.address(), query="TABLE typed")
    assert report.rejected == {"timestamp is missing": 1}
    assert report.bizdates == [DAY]
    first, last = landed(profile)
    assert str(first.pop("at")) == "2026-01-05 00:30:00" and str(first.pop("zoned")) == "2026-01-04 23:30:00+00:00"
    assert str(first.pop("born")).startswith("2026-01-05")
    assert first == {
        "user_id": "u'1",
        "item_id": "9007199254740993",
        "rating": 1.5,
        "ok": True,
        "tags": ["a|b", None, ""],
        "kinds": ["home", "cart"],
        "vector": [1.0, 2.0],
        "ids": '["x"]',
        "code": "ab",
        "size": 9007199254740993,
    }
    assert {name: value for name, value in last.items() if value is not None and name != "at"} == {
        "ok": False,
        "tags": [],
        "code": "abcd",
        "size": -1,
    }


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("SELECT * FROM lost", r'--query cannot be answered by postgresql://\*\*\*@.*: relation "lost" does not exist'),
        ("SELECT * FROM log", "lacks the column 'timestamp'; it has user_id, item_id, rating, at"),
        ("DELETE FROM log RETURNING *, at AS timestamp", "--query cannot be answered by .*syntax error"),
        ("SELECT 1) AS x; DROP TABLE log; SELECT * FROM (SELECT 1", "cannot be answered by .*multiple commands"),
        ("SELECT *, at AS timestamp, nextval('s') FROM log", "cannot execute nextval.. in a read-only transaction"),
        ("SELECT *, at AS timestamp FROM (SELECT 'x' AS user_id, 1 AS item_id, 1 AS rating, now() AS at) AS a",
         "column 'user_id' is .*string, where the profile says int64"),
        ("SELECT user_id, item_id, 1 / (rating - 5) AS rating, at AS timestamp FROM log", "division by zero"),
        ("", "needs --query"),
    ],
)  # fmt: skip
def test_a_query_that_cannot_be_used_is_named_and_changes_nothing(
    server: Postgres, shop: Profile, query: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    before = bytes_in(shop.landing)
    with pytest.raises((LandingError, LandedFileError), match=says):
        land(shop, server.address(), query=query)
    after = bytes_in(shop.landing)
    after.pop(".lock")
    assert after == before
    server.run("psql", server.address(), "-v", "ON_ERROR_STOP=1", "-c", "TABLE log")


@pytest.mark.parametrize(
    ("password", "host", "says"),
    [
        ("wr0ng", "127.0.0.1:{port}", "cannot be reached .*authentication failed.*PGPASSWORD"),
        ("wr0ng", "127.0.0.1:1", "cannot be reached .*refused"),
        ("wr0ng@x", "127.0.0.1:{port}", r"postgresql://\*\*\*: write postgresql://USER@HOST/DATABASE"),
    ],
)
def test_a_server_that_refuses_is_named_without_the_password(
    server: Postgres, shop: Profile, password: str, host: str, says: str
) -> None:
    address = f"postgresql://reader:{password}@{host.format(port=server.port)}/shop"
    with pytest.raises(LandingError, match=says) as refused:
        land(shop, address, query=QUERY)
    assert "wr0ng" not in "".join(traceback.format_exception(refused.value))


def test_a_connection_that_is_lost_on_the_way_leaves_nothing(
    server: Postgres, shop: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_postgres, "_ROWS", 5)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    ended = "SELECT n AS user_id, 1 AS item_id, 1 AS rating, now() AS timestamp FROM generate_series(1, 9) AS n "
    with pytest.raises(LandingError, match="the connection to .* was lost .*terminating connection.*run the command"):
        land(shop, server.address(), query=f"{ended} WHERE n < 7 OR pg_terminate_backend(pg_backend_pid())")
    assert landed_bizdates(shop) == []
    assert [path.name for path in shop.landing.iterdir() if path.name.startswith(".")] == [".lock"]


def test_the_names_of_the_files_are_those_of_the_database() -> None:
    names = {"postgresql://h/my-log": "my-log", "postgres://u:p@h:1,i:2/a%20b?sslmode=require": "a b"}
    assert {address: log_postgres.database_of(address) for address in names} == names
    assert log_postgres.database_of("postgresql://h") == "postgresql"
