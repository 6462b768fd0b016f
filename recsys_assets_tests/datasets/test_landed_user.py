"""Landing files without a user: every form is kept, other rows keep their bytes, and what cannot be kept is refused."""

import bz2
import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_assets.datasets import landed_user
from recsys_assets.datasets.duck import connect_without_lake
from recsys_assets.datasets.files import Files
from recsys_assets.datasets.landed_user import CannotRewrite, UserFile, names_user
from recsys_assets.datasets.profile_parts import Column
from recsys_assets.datasets.text_files import LandedFileError, read_bytes

COLUMNS = {
    "user_id": Column(type="string", column="who"),
    "item_id": Column(type="int64"),
    "note": Column(type="string"),
}
ODD = ['O"Neil', "Zoë 🙂", "007", "1e3", "a,b", "it's", "[x]*?", "%_"]


def file_of(path: Path, content: bytes, **form: object) -> UserFile:
    path.write_bytes(content)
    return UserFile(path, COLUMNS, Files.model_validate(form))


def count_rows(file: UserFile, user: int | str) -> tuple[int, int]:
    with connect_without_lake() as connection:
        return landed_user.count_rows(connection, file, user)


def without_user(file: UserFile, user: int | str) -> bytes:
    with connect_without_lake() as connection:
        return landed_user.without_user(connection, file, user)


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


@pytest.mark.parametrize("user", ODD)
def test_each_line_of_a_csv_with_odd_ids_keeps_its_bytes(tmp_path: Path, user: str) -> None:
    lines = [f'{quoted(each)},{number},"two\r\nlines"\r\n' for number, each in enumerate(ODD)]
    text = "".join(["who,item_id,note\r\n", *lines, "\r\n", 'x,9,5" wide\n', *lines])
    file = file_of(tmp_path / "events.csv", text.encode())
    assert count_rows(file, user) == (2, 0)
    gone = f'{quoted(user)},{ODD.index(user)},"two\r\nlines"\r\n'
    assert without_user(file, user).decode() == text.replace(gone, "")


def test_an_id_that_looks_like_a_number_is_the_text_as_it_is(tmp_path: Path) -> None:
    file = file_of(tmp_path / "events.csv", b"who,item_id,note\n7,1,a\n007,2,b\n7.0,3,c\n 7,4,d\n+7,5,e\n")
    assert without_user(file, "007") == b"who,item_id,note\n7,1,a\n7.0,3,c\n 7,4,d\n+7,5,e\n"
    numbers = UserFile(file.path, {**COLUMNS, "user_id": Column(type="int64", column="who")}, Files())
    assert without_user(numbers, 7) == b"who,item_id,note\n7.0,3,c\n 7,4,d\n"  # what ingest takes for 7


def test_forms_that_a_profile_describes_are_kept(tmp_path: Path) -> None:
    text = "anna;1;à\r\nbo;2;b\r\nanna;3;é"
    form = {"separator": ";", "encoding": "latin-1", "header": False, "quote": ""}
    file = file_of(tmp_path / "events.csv.gz", gzip.compress(text.encode("latin-1")), **form)
    (tmp_path / "new.csv.gz").write_bytes(without_user(file, "anna"))
    assert read_bytes(tmp_path / "new.csv.gz", "gzip") == b"bo;2;b\r\n"
    wide = file_of(
        tmp_path / "wide.tsv.bz2", bz2.compress("bo\t1\t\\N\nanna\t2\tö\n".encode("utf-16")), encoding="utf-16"
    )
    (tmp_path / "new.tsv.bz2").write_bytes(without_user(wide, "bo"))
    assert read_bytes(tmp_path / "new.tsv.bz2", "bz2").decode("utf-16") == "anna\t2\tö\n"


def test_lines_that_are_not_rows_go_if_the_id_is_a_word_of_them(tmp_path: Path) -> None:
    rows = b"anna\t1\ta\n\xff\t2\tb\nbo\tanna\t3\t4\nanna2\t5\nbo\t6\tc\n\nbo \xfe anna\t7\td\n"
    file = file_of(tmp_path / "events.tsv", rows)
    assert count_rows(file, "anna") == (1, 2)
    assert without_user(file, "anna") == b"\xff\t2\tb\nanna2\t5\nbo\t6\tc\n\n"
    assert not names_user("anna2 x-annab", "anna")


def test_json_lines_keep_their_bytes(tmp_path: Path) -> None:
    kept = ['{"who": "bo",   "item_id": 1, "note": "anna"}', "", '{"who":null,"note":[1]}', "bo's line"]
    gone = ['{"note": "\\u00e9", "who": "Zo\\u00eb", "item_id": 2}', '{"who":"Zoë"}', "a line of Zoë"]
    content = "\n".join([gone[0], *kept[:2], gone[1], *kept[2:], gone[2]]) + "\n"
    file = file_of(tmp_path / "events.jsonl", content.encode())
    assert without_user(file, "Zoë").decode() == "\n".join(kept) + "\n"


def test_a_parquet_file_keeps_schema_metadata_row_groups_and_compression(tmp_path: Path) -> None:
    schema = pa.schema(
        [
            pa.field("who", pa.dictionary(pa.int32(), pa.string())),
            ("item_id", pa.int32()),
            ("more", pa.list_(pa.float32())),
        ],
        metadata={b"mine": b"kept"},
    )
    table = pa.table(
        {"who": pa.array(["a", "b", "a", "c"]).dictionary_encode(), "item_id": pa.array([1, 2, 3, 4], pa.int32()),
         "more": [[1.5], None, [float("nan")], []]}, schema)  # fmt: skip
    pq.write_table(table, tmp_path / "events.parquet", compression="gzip", row_group_size=2)
    file = UserFile(tmp_path / "events.parquet", COLUMNS, Files())
    (new := tmp_path / "new.parquet").write_bytes(without_user(file, "a"))
    with pq.ParquetFile(new) as written:
        assert written.schema_arrow.equals(pq.read_schema(file.path), check_metadata=True)
        assert written.num_row_groups == 2
        assert written.metadata.row_group(0).column(0).compression == "GZIP"
        assert written.read().select(["item_id", "more"]).to_pydict() == {"item_id": [2, 4], "more": [None, []]}


def test_a_file_may_lose_all_its_rows(tmp_path: Path) -> None:
    assert without_user(file_of(tmp_path / "a.csv", b"who,item_id,note\na,1,x\n"), "a") == b"who,item_id,note\n"
    assert without_user(file_of(tmp_path / "a.tsv", b"a\t1\tx\n"), "a") == b""
    assert without_user(file_of(tmp_path / "a.ndjson", b'{"who":"a"}\n'), "a") == b""


def test_a_file_that_cannot_be_read_or_written_again_is_refused(tmp_path: Path) -> None:
    backwards = "who,item_id,note\na,1,x\nb,2,y\n".encode("utf-16-be")
    with pytest.raises(CannotRewrite, match=r"cannot be written again byte for byte in utf-16"):
        without_user(file_of(tmp_path / "a.csv", b"\xfe\xff" + backwards, encoding="utf-16"), "a")
    with pytest.raises(LandedFileError, match="lacks the column 'who'"):
        count_rows(file_of(tmp_path / "b.csv", b"user,item_id,note\na,1,x\n"), "a")
    with pytest.raises(LandedFileError, match="runs over several lines"):
        count_rows(file_of(tmp_path / "c.csv", b'who,item_id,note\na,"1,x\nb,2",y\n'), "a")
