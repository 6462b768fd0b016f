from pathlib import Path

from recsys_assets.datasets.duck import connect, scan, write_parquet


def test_a_scan_has_the_columns_of_the_files_and_none_of_their_folders_names(tmp_path: Path) -> None:
    folder = tmp_path / "bizdate=2026-01-01" / ".draft=1"
    folder.mkdir(parents=True)
    with connect() as connection:
        assert write_parquet(connection, "SELECT 1 AS user_id", folder / "rows.parquet") == 1
        columns = connection.execute(f"SELECT * FROM {scan([folder / 'rows.parquet'])}").description or []
        assert [column[0] for column in columns] == ["user_id"]
        connection.fetchall()


def test_a_scan_keeps_the_order_of_its_files(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.parquet" for number in (2, 1, 3)]
    with connect() as connection:
        for number, file in enumerate(files):
            write_parquet(connection, f"SELECT unnest(range({number * 10}, {number * 10 + 3})) AS row", file)
        # A plain query keeps the order; an aggregate such as list() may take the files in any.
        rows = [row for (row,) in connection.execute(f"FROM {scan(files)}").fetchall()]
    assert rows == [0, 1, 2, 10, 11, 12, 20, 21, 22]
