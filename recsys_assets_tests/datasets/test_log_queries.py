"""`recsys land --source 'FOLDER/*.parquet' --query …`: a SELECT over Parquet files, which can do no harm."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_assets.datasets.feed import LandingError
from recsys_assets.datasets.landing import land, landing_files
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.tables import LandedFileError
from recsys_assets_tests.datasets.test_landing_log import as_frame, landed_values
from recsys_assets_tests.helpers.shop import DAY, bytes_in, shop

__all__ = ["shop"]  # a fixture

ALL = "SELECT user_id, item_id, rating, timestamp FROM source"


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """A folder with a file, and another one in a folder of it."""
    table = pa.Table.from_pandas(as_frame()).append_column("shop", pa.array(["north"] * 12))
    (tmp_path / "export" / "more").mkdir(parents=True)
    pq.write_table(table.slice(0, 7), tmp_path / "export/1.parquet", row_group_size=3)
    pq.write_table(table.slice(7), tmp_path / "export/more/2.parquet")
    return tmp_path / "export"


def test_a_select_over_files_keeps_their_order_and_types(shop: Profile, export: Path) -> None:
    report = land(shop, f"{export}/**/*.parquet", query=f"{ALL} WHERE shop = 'north' -- all;")
    assert report.rows == 12
    assert landed_values(shop) == [tuple(row) for row in as_frame().itertuples(index=False)]
    assert [file.name for file in landing_files(shop, "interactions", DAY)][0] == "from-export-0000.parquet"
    mean = ALL.replace("rating, timestamp", "avg(rating) AS rating, to_timestamp(max(timestamp)) AS timestamp")
    assert land(shop, str(export / "1.parquet"), query=f"{mean} GROUP BY ALL").rows == 7


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("SELECT * FROM read_parquet('{folder}/export/1.parquet')", "file system operations are disabled"),
        ("SELECT * FROM '{folder}/landing/users/users.csv'", "file system operations are disabled"),
        ("SELECT * FROM read_text('/etc/hostname')", "file system operations are disabled"),
        ("SELECT 1); COPY (SELECT 1) TO '{folder}/stolen.csv'; SELECT * FROM (SELECT 1", "disabled"),
        ("SELECT 1); COPY (SELECT 1) TO '{folder}/export/1.parquet'; SELECT * FROM (SELECT 1", "disabled"),
        ("SELECT 1); ATTACH '{folder}/stolen.db'; SELECT * FROM (SELECT 1", "disabled"),
        ("SELECT 1); SET enable_external_access = true; SELECT * FROM (SELECT 1", "cannot be answered"),
        ("SELECT 1); LOAD httpfs; SELECT * FROM (SELECT 1", "cannot be answered"),
        ("COPY source TO '{folder}/stolen.csv'", "syntax error"),
        ("SELECT * FROM lost", "Table with name lost does not exist"),
        ("SELECT shop FROM source", "lacks the column 'user_id'; it has shop"),
        ("SELECT user_id, item_id, error('no') AS rating, timestamp FROM source", "cannot be answered by .*: .*no"),
        (ALL.replace("user_id,", "shop AS user_id,"), "column 'user_id' is .*string, where the profile says int64"),
    ],
)
def test_a_query_cannot_read_or_write_other_files(
    shop: Profile, export: Path, tmp_path: Path, query: str, says: str
) -> None:
    before = bytes_in(tmp_path)
    with pytest.raises((LandingError, LandedFileError), match=says):
        land(shop, f"{export}/**/*.parquet", query=query.replace("{folder}", str(tmp_path)))
    after = bytes_in(tmp_path)
    after.pop("landing/shop/.lock")
    assert after == before


def test_a_damaged_file_is_named(shop: Profile, export: Path) -> None:
    (export / "2.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(LandingError, match=r"cannot be answered by .*export/\*.parquet: .*2.parquet"):
        land(shop, f"{export}/*.parquet", query=ALL)
