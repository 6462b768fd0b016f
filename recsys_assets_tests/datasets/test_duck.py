"""DuckDB reads files by their exact names, and a connection can only read what it was given."""

from pathlib import Path

import duckdb
import pytest

from recsys_assets.datasets.duck import MemoryLimitInvalid, UnreadableName, connect, quote, scan, write_parquet

NAMES = ["v[12]", "a*b", "what?", "{a,b}", "{1..2}", "50%", "a%20b", "it's", 'a"b', "two words", "x=1", "a;b", "#1"]
NAMES += ["$x", "!a", "[!a]", "**", "~", "back\\slash", "é", "line\nbreak", "file:x", "[", "]"]


def test_a_scan_has_the_columns_of_the_files_and_none_of_their_folders_names(tmp_path: Path) -> None:
    folder = tmp_path / "bizdate=2026-01-01" / ".draft=1"
    folder.mkdir(parents=True)
    with connect(tmp_path) as connection:
        assert write_parquet(connection, "SELECT 1 AS user_id", folder / "rows.parquet") == 1
        columns = connection.execute(f"SELECT * FROM {scan([folder / 'rows.parquet'])}").description or []
        assert [column[0] for column in columns] == ["user_id"]
        connection.fetchall()


def test_a_scan_keeps_the_order_of_its_files(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.parquet" for number in (2, 1, 3)]
    with connect(tmp_path) as connection:
        for number, file in enumerate(files):
            write_parquet(connection, f"SELECT unnest(range({number * 10}, {number * 10 + 3})) AS row", file)
        # A plain query keeps the order; an aggregate such as list() may read the files in any order.
        rows = [row for (row,) in connection.execute(f"FROM {scan(files)}").fetchall()]
    assert rows == [0, 1, 2, 10, 11, 12, 20, 21, 22]


def test_a_file_is_read_by_its_name_whatever_that_contains(tmp_path: Path) -> None:
    for name in [*NAMES, "v1", "axb", "what!", "a", "1"]:  # the last ones match the patterns among the names
        (tmp_path / name).mkdir()
    with connect(*(tmp_path / name for name in NAMES)) as connection:
        files = [tmp_path / name / f"{name}.parquet" for name in NAMES]
        for number, file in enumerate(files):
            write_parquet(connection, f"SELECT {number} AS number", file)
        assert connection.execute(f"FROM {scan(files)}").fetchall() == [(number,) for number in range(len(NAMES))]
    assert not list((tmp_path / "v1").iterdir())


def test_a_folder_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real[1]" / "v[2]").mkdir(parents=True)
    (tmp_path / "link[3]").symlink_to(tmp_path / "real[1]")
    folder = tmp_path / "link[3]" / "v[2]"
    with connect(tmp_path / "link[3]") as connection:
        write_parquet(connection, "SELECT 1 AS a", folder / "rows.parquet")
        assert connection.execute(f"FROM {scan([folder / 'rows.parquet'])}").fetchall() == [(1,)]


def test_a_name_that_duckdb_cannot_be_told_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableName, match=r"a backslash and one of \[ \* \?: rename the folder"):
        scan([tmp_path / "a\\[1].parquet"])


FORBIDDEN = [
    "SELECT * FROM read_text('/etc/hostname')",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM '{outside}/rows.parquet'",
    "SELECT * FROM read_parquet('{inside}/../outside/rows.parquet')",
    "SELECT * FROM read_text('{inside}/link')",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM read_parquet('https://example.org/x.parquet')",
    "SELECT * FROM read_parquet('s3://bucket/x.parquet')",
    "COPY (SELECT 1) TO '{outside}/written.csv'",
    "ATTACH '{outside}/written.db'",
    "EXPORT DATABASE '{outside}/written'",
    "INSTALL httpfs",
    "INSTALL spatial FROM community",
    "LOAD '{inside}/x.duckdb_extension'",
    "CREATE SECRET (TYPE s3)",
    "SET enable_external_access = true",
    "SET allowed_directories = ['/']",
    "SET lock_configuration = false",
    "RESET lock_configuration",
    "SET autoinstall_known_extensions = true",
    "SET temp_directory = '/tmp'",
    "SELECT * FROM some_python_variable",
]


@pytest.mark.parametrize("statement", FORBIDDEN)
def test_a_connection_reaches_nothing_but_the_folders_it_was_given(tmp_path: Path, statement: str) -> None:
    some_python_variable = [1]  # DuckDB would otherwise find it by its name
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (inside / "link").symlink_to("/etc/hostname")
    with connect(outside) as connection:
        write_parquet(connection, "SELECT 1 AS a", outside / "rows.parquet")
    with connect(inside) as connection, pytest.raises(duckdb.Error):
        connection.execute(statement.format(inside=inside, outside=outside)).fetchall()
    assert [path.name for path in outside.iterdir()] == ["rows.parquet"]
    assert len(some_python_variable) == 1


@pytest.mark.parametrize("lake", ["{tmp}/lake", "file://{tmp}/lake", "file:{tmp}/lake"])
def test_a_connection_reaches_the_lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lake: str) -> None:
    monkeypatch.setenv("RECSYS_LAKE", lake.format(tmp=tmp_path))
    (tmp_path / "lake").mkdir()
    with connect() as connection:
        assert write_parquet(connection, "SELECT 1 AS a", tmp_path / "lake" / "rows.parquet") == 1


def test_what_does_not_fit_into_memory_goes_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_MEMORY", "30MB")
    query = "SELECT range AS a, hash(range) AS b, hash(range + 1) AS c FROM range(800_000) ORDER BY b"
    with connect(tmp_path) as connection:
        assert write_parquet(connection, query, tmp_path / "rows.parquet") == 800_000


@pytest.mark.parametrize("size", ["much", "4 potatoes", "4GB'; SELECT 1; --", ""])
def test_a_memory_limit_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    monkeypatch.setenv("RECSYS_MEMORY", size)
    with pytest.raises(MemoryLimitInvalid, match="RECSYS_MEMORY=.*: give a size, like 4GB"), connect():
        pass


def test_a_literal_holds_any_text() -> None:
    text = "it's; -- \\ \" $$ %"
    with connect() as connection:
        assert connection.execute(f"SELECT {quote(text)}").fetchall() == [(text,)]
