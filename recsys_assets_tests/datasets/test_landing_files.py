# ruff: noqa: E501 (each table has one case per line)
"""Files of a landing folder: which are read, in which order, and how the others are reported."""

import bz2
import gzip
import os
import socket
from pathlib import Path

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

from recsys_assets.datasets.feed import LandingError
from recsys_assets.datasets.ingest import NotLanded, unread_files
from recsys_assets.datasets.landing import fingerprint, landed_bizdates, landing_files, newest_change
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.tables import LandedFileError
from recsys_assets.lake import Lake
from recsys_assets_tests.helpers.in_process import failures, materialize
from recsys_assets_tests.helpers.shop import (
    CSV,
    DAY,
    GOOD,
    HEADER,
    LINES,
    PARQUET,
    WHOLE,
    csv,
    frame,
    ingest,
    lake,
    put,
    rows,
    shop,
)  # fmt: skip

__all__ = ["lake", "shop"]  # fixtures
HOME = f"interactions/bizdate={DAY}"
TEXT = WHOLE.encode()


def names(profile: Profile) -> list[str]:
    home = profile.landing / HOME
    return [str(path.relative_to(home)) for path in landing_files(profile, "interactions", DAY)]


def test_files_are_read_by_their_paths_part_by_part(shop: Profile) -> None:
    for name in (
        "late.csv",
        "hour=01/b.csv",
        "hour=01/a.csv.gz",
        "hour=00/x/y/z.tsv",
        "hour=00.parquet",
        "hour=02/A.CSV.GZ",
    ):
        put(shop, f"{HOME}/{name}", "")
    assert names(shop) == [
        "hour=00/x/y/z.tsv", "hour=00.parquet", "hour=01/a.csv.gz", "hour=01/b.csv", "hour=02/A.CSV.GZ", "late.csv",
    ]  # fmt: skip
    assert unread_files(shop, "interactions", DAY) == {}


def test_what_somebody_still_writes_is_passed_over_in_folders_too(shop: Profile) -> None:
    put(shop, f"{HOME}/a.csv", WHOLE)
    for name in (
        ".x/a.csv",
        "_temporary/0/a.csv",
        "b.tmp/a.csv",
        "b.csv.tmp",
        "c.parquet.part",
        "_SUCCESS",
        ".a.csv.crc",
        "a.csv~",
        "d.inprogress",
    ):
        put(shop, f"{HOME}/{name}", "?")
    assert names(shop) == ["a.csv"]
    assert unread_files(shop, "interactions", DAY) == {}


@pytest.mark.parametrize(
    "name", ["e.json", "e.zip", "e.xlsx", "e", "e.csv.7z", "e.parquet.gz", "e.gz", "README.md", "hour=00/e.json"]
)
def test_a_file_of_another_form_is_left_out_by_name_and_fails_the_days_check(
    shop: Profile, lake: Lake, name: str
) -> None:
    put(shop, PARQUET, frame(*GOOD))
    put(shop, f"{HOME}/{name}", "{}")
    ((path, why),) = unread_files(shop, "interactions", DAY).items()
    assert (path, why[:25]) == (f"{HOME}/{name}", "is not of a known form (P")
    assert ingest(lake, shop) == {"rows": len(GOOD)}


@pytest.mark.fails_check("*:all_files_are_read")
def test_what_is_left_out_closes_the_gate_and_is_shown(shop: Profile, lake: Lake) -> None:
    put(shop, PARQUET, frame(*GOOD))
    put(shop, f"{HOME}/more.json", "{}")
    put(shop, "users/bizdate=2026-01-03/more.xlsx", "")
    result = materialize(["interactions", "users", "items"], DAY)
    failed = {
        (c.asset_key.to_user_string(), c.check_name): c for c in result.get_asset_check_evaluations() if not c.passed
    }
    assert list(failed) == [("interactions", "all_files_are_read"), ("users", "all_files_are_read")]
    found = failed["interactions", "all_files_are_read"].metadata
    assert found["files"].value == 1
    assert "more.json" in str(found["left_out"].value)
    key = dg.AssetKey("interactions")
    (event,) = [each for each in result.get_asset_materialization_events() if each.asset_key == key]
    assert "more.json" in str(event.materialization.metadata["left out"].value)
    manifest = lake.manifest("interactions", DAY)
    assert (manifest.failed_checks, manifest.metrics["files_left_out"]) == (["all_files_are_read"], 1.0)
    assert "GateNotPassed" in failures(materialize(["splits"], DAY))["splits"]


def test_a_day_of_which_nothing_can_be_read_has_landed_and_fails(shop: Profile, lake: Lake) -> None:
    put(shop, f"{HOME}/events.json", "{}")
    assert landed_bizdates(shop) == [DAY]
    with pytest.raises(
        NotLanded, match=r"2026-01-05 has not landed: .*; events.json is not of a known form \(Parquet, CSV"
    ):
        ingest(lake, shop)


def test_links_are_followed_within_the_landing_folder_only(shop: Profile, lake: Lake, tmp_path: Path) -> None:
    put(shop, f"{HOME}/a.csv", csv(*LINES[:6]))
    put(shop, "staging/late.csv", csv(*LINES[6:]))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x.csv").write_text(WHOLE)
    home = shop.landing / HOME
    (home / "b.csv").symlink_to(shop.landing / "staging" / "late.csv")
    (home / "passwd.csv").symlink_to("/etc/passwd")
    (home / "folder").symlink_to(outside)
    (home / "round").symlink_to(home)
    (home / "self.csv").symlink_to("self.csv")
    (home / "gone.csv").symlink_to("nothing")
    assert names(shop) == ["a.csv", "b.csv"]
    assert {Path(path).name: why for path, why in unread_files(shop, "interactions", DAY).items()} == {
        "passwd.csv": "is a link that leaves the landing folder",
        "folder": "is a link that leaves the landing folder",
        "round": "is a link to a folder around it",
        "self.csv": "is a link that leads nowhere",
        "gone.csv": "is a link that leads nowhere",
    }
    assert ingest(lake, shop) == {"rows": len(GOOD)}


def test_a_days_folder_that_is_a_link_out_of_landing_is_left_out(shop: Profile, lake: Lake, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "e.csv").write_text(WHOLE)
    (shop.landing / "interactions").mkdir()
    (shop.landing / HOME).symlink_to(outside)
    assert names(shop) == []
    with pytest.raises(NotLanded, match=f"bizdate={DAY} is a link that leaves the landing folder"):
        ingest(lake, shop)


def test_two_folders_that_link_to_each_other_end(shop: Profile) -> None:
    for name in ("a", "b"):
        put(shop, f"{HOME}/{name}/x.csv", WHOLE)
    (shop.landing / HOME / "a" / "to_b").symlink_to("../b")
    (shop.landing / HOME / "b" / "to_a").symlink_to("../a")
    assert names(shop) == ["a/to_b/x.csv", "a/x.csv", "b/to_a/x.csv", "b/x.csv"]
    assert set(unread_files(shop, "interactions", DAY).values()) == {"is a link to a folder around it"}


def test_what_is_no_file_is_left_out_and_does_not_hang(shop: Profile) -> None:
    put(shop, f"{HOME}/a.csv", WHOLE)
    os.mkfifo(shop.landing / HOME / "pipe.csv")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(shop.landing / HOME)  # a socket's path has at most 108 characters
        try:
            server.bind("socket.csv")
        finally:
            os.chdir(here)
    os.close(os.open(os.fsencode(shop.landing / HOME) + b"/\xff.csv", os.O_CREAT))
    assert names(shop) == ["a.csv"]
    assert list(unread_files(shop, "interactions", DAY).values()).count("is not a file") == 2
    assert "has a name that is not UTF-8 text" in unread_files(shop, "interactions", DAY).values()


def test_a_new_file_in_a_sub_folder_is_news(shop: Profile) -> None:
    put(shop, f"{HOME}/a.csv", WHOLE)
    before, when = fingerprint(shop, DAY), newest_change(shop, DAY)
    put(shop, f"{HOME}/hour=01/b.csv.gz", gzip.compress(TEXT))
    assert fingerprint(shop, DAY) != before
    assert newest_change(shop, DAY) >= when


def test_users_and_items_are_read_from_sub_folders_too(shop: Profile, lake: Lake) -> None:
    put(shop, "users/eu/more.csv", "user_id,gender,age\n4,F,45\n")
    put(shop, "users/bizdate=2026-01-02/eu/more.csv.gz", gzip.compress(b"user_id,gender,age\n5,M,55\n"))
    assert ingest(lake, shop, "users") == {"rows": 5}
    put(shop, "users/notes.txt", "?")
    put(shop, "users/bizdate=2026-01-02/more.json", "?")
    put(shop, "users/bizdate=2026-01-06/later.json", "?")
    assert list(unread_files(shop, "users", DAY)) == ["users/notes.txt", "users/bizdate=2026-01-02/more.json"]


def test_events_in_no_days_folder_are_an_error(shop: Profile) -> None:
    put(shop, PARQUET, frame(*GOOD))
    put(shop, "interactions/all.csv", WHOLE)
    with pytest.raises(
        LandingError, match=r"interactions/all.csv is not in a day's folder: move it to .*bizdate=YYYY-MM-DD"
    ):
        landed_bizdates(shop)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("e.csv.gz", gzip.compress(TEXT)),
        ("e.csv.gz", gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:])),
        ("e.csv.bz2", bz2.compress(TEXT)),
        ("e.csv.zst", pa.compress(TEXT, codec="zstd", asbytes=True)),
        ("e.tsv.gz", gzip.compress("".join(line.replace(",", "\t") + "\n" for line in LINES).encode())),
        ("e.csv", TEXT.replace(b"\n", b"\r")),
        ("e.csv", TEXT.rstrip()),
    ],
    ids=["gz", "gz in two members", "bz2", "zst", "tsv.gz", "line ends of an old Mac", "no line end at the end"],
)
def test_a_text_is_read_compressed_or_not(shop: Profile, lake: Lake, name: str, content: bytes) -> None:
    put(shop, f"{HOME}/{name}", content)
    assert ingest(lake, shop) == {"rows": len(GOOD)}
    assert rows(lake)["user_id"].tolist() == [row[0] for row in GOOD]


def test_a_line_may_be_longer_than_the_readers_block(shop: Profile, lake: Lake) -> None:
    titles = ["x" * size for size in (10, 1_500_000, 3_000_000, 5)]
    lines = "".join(f"{10 + n},{title},drama\n" for n, title in enumerate(titles))
    put(shop, "items/items.csv", "item_id,title,genres\n" + lines + "20,too,many,fields\n")
    assert ingest(lake, shop, "items") == {"rows": 4, "the line has 4 fields, not 3": 1}
    assert rows(lake, "items").title.tolist() == titles


def encrypted(path: Path) -> None:
    class Kms(pe.KmsClient):  # type: ignore[misc]
        def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:  # noqa: ARG002
            return key_bytes

        def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:  # noqa: ARG002
            return wrapped_key

    table = pa.Table.from_pandas(frame(*GOOD))
    config = pe.EncryptionConfiguration(footer_key="k", column_keys={"k": table.column_names})
    keys = pe.CryptoFactory(lambda _: Kms()).file_encryption_properties(pe.KmsConnectionConfig(), config)
    with pq.ParquetWriter(path, table.schema, encryption_properties=keys) as writer:
        writer.write_table(table)


def test_an_encrypted_file_is_named(shop: Profile, lake: Lake) -> None:
    path = put(shop, PARQUET, b"")
    encrypted(path)
    with pytest.raises(LandedFileError, match=f"{path} cannot be read"):
        ingest(lake, shop)


DAMAGED: list[tuple[str, str, bytes | pa.Table, str]] = [
    # damage, file, content, message
    ("gz cut short", f"{HOME}/e.csv.gz", gzip.compress(TEXT)[:-20], "cannot be read"),
    ("gz that is none", f"{HOME}/e.csv.gz", TEXT, "cannot be read"),
    ("zst cut short", f"{HOME}/e.csv.zst", pa.compress(TEXT, codec="zstd", asbytes=True)[:-9], "cannot be read"),
    ("bz2 cut short", f"{HOME}/e.csv.bz2", bz2.compress(TEXT)[:-20], "cannot be read"),
    ("NUL bytes", CSV, TEXT.replace(b"\n", b"\0\n"), "it holds NUL bytes, so it is not text.: land it again as UTF-8"),
    ("UTF-16 without a mark", CSV, WHOLE.encode("utf-16-le"), "holds NUL bytes"),
    ("parquet without columns", PARQUET, pa.table({}), "lacks the column 'user_id'; it has none"),
    ("parquet with a column twice", PARQUET, pa.table([[1], [1]], ["user_id", "user_id"]), "has more than once the column 'user_id'"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "content", "says"), [pytest.param(*rest, id=what) for what, *rest in DAMAGED])
def test_a_damaged_file_is_named(shop: Profile, lake: Lake, file: str, content: bytes | pa.Table, says: str) -> None:
    path = put(shop, file, b"" if isinstance(content, pa.Table) else content)
    if isinstance(content, pa.Table):
        pq.write_table(content, path)
    with pytest.raises(LandedFileError, match=says) as raised:
        ingest(lake, shop)
    assert str(path) in str(raised.value)


def test_a_line_of_a_tsv_that_holds_nul_is_set_aside(shop: Profile, lake: Lake) -> None:
    lines = [line.replace(",", "\t") for line in LINES]
    put(shop, f"{HOME}/e.tsv", "\n".join([*lines[:3], "1\t1\0\t4\t5", *lines[3:]]) + "\n")
    assert ingest(lake, shop) == {"rows": len(GOOD), "the line is not UTF-8 text": 1}


def test_one_landed_column_may_serve_two_of_the_platforms(shop: Profile, lake: Lake) -> None:
    users = {**shop.tables["users"], "years": shop.tables["users"]["age"].model_copy(update={"column": "age"})}
    both = shop.model_copy(update={"tables": {**shop.tables, "users": users}})
    assert ingest(lake, both, "users") == {"rows": 3}
    assert rows(lake, "users").years.tolist()[:2] == [25, 35]
    put(shop, "users/users.csv", "?")
    (shop.landing / "users/users.csv").unlink()
    pd.DataFrame({"user_id": [1], "gender": ["F"], "age": [25]}).to_parquet(shop.landing / "users/u.parquet")
    assert ingest(lake, both, "users") == {"rows": 1}


def test_a_file_may_have_columns_whose_names_differ_by_case_only(shop: Profile, lake: Lake) -> None:
    put(shop, CSV, "\n".join([HEADER + ",User_ID,RATING", *(line + ",x,y" for line in LINES)]) + "\n")
    assert ingest(lake, shop) == {"rows": len(GOOD)}
