# ruff: noqa: E501 (each table has one case per line)
"""The types of columns beyond integers, floats and texts: what is read from which form, and what is rejected."""

import datetime as dt
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_assets.datasets.duck import connect
from recsys_assets.datasets.ingest import REJECTED, ROWS, ingest_entities, ingest_events
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.tables import LandedFileError
from recsys_assets.datasets.text_vectors import text_vectors

SPECS: dict[str, Any] = {
    "path": {"type": "path"},
    "vector": {"type": "vector", "width": 2},
    "text": {"type": "text", "width": 16},
}


def profile_of(home: Path, columns: dict[str, Any]) -> Profile:
    content = {
        "name": "typed",
        "first_bizdate": "2026-01-01",
        "landing": home / "landing",
        "tables": {
            "interactions": {"user_id": "int64", "item_id": "int64", "timestamp": "timestamp", "liked": "int64"},
            "items": {"item_id": "int64", **columns},
        },
        "label": "liked = 1",
        "split": {"strategy": "by_day"},
    }
    return Profile.model_validate(content)


def ingest(home: Path, profile: Profile) -> tuple[pa.Table, list[str]]:
    """The items, and the reasons of the rejected rows."""
    folder = home / "out"
    folder.mkdir()
    with connect(folder) as connection:
        ingest_entities(connection, profile, "items", "2026-01-05", folder)
    bad = folder / REJECTED
    return pq.read_table(folder / ROWS), pq.read_table(bad)["reason"].to_pylist() if bad.exists() else []


def land(home: Path, file: str, content: str | pa.Table) -> None:
    path = home / "landing" / "items" / file
    path.parent.mkdir(parents=True)
    if isinstance(content, str):
        path.write_text(content)
    else:
        pq.write_table(content, path)


def read(home: Path, kind: str, values: list[str] | pa.Array) -> list[Any]:
    """The values of a column of a type, from a TSV (texts) or a Parquet file; "rejected" for those that are not."""
    profile = profile_of(home, {"value": SPECS.get(kind, kind)})
    if isinstance(values, list):
        land(home, "i.tsv", "".join(f"{place}\t{value}\n" for place, value in enumerate(values)))
    else:
        land(home, "i.parquet", pa.table({"item_id": range(len(values)), "value": values}))
    rows, reasons = ingest(home, profile)
    assert set(reasons) <= {f"value is not of type {kind}"}
    found = dict(zip(rows["item_id"].to_pylist(), rows["value"].to_pylist(), strict=True))
    assert len(found) + len(reasons) == len(values)
    return [found.get(place, "rejected") for place in range(len(values))]


R, N = "rejected", None
WHOLE_VECTORS = pa.array([[1, 2], [3, 4]], pa.list_(pa.int64(), 2))
CASES: list[tuple[str, str, Any, list[Any]]] = [
    # what, type, landed, read
    ("words", "bool", ["true", "F", "yes", "NO", "1", "0", "", "maybe"], [True, False, True, False, True, False, N, R]),
    ("numbers", "bool", pa.array([0, 1, 2, None]), [False, True, R, N]),
    ("as they are", "bool", pa.array([True, False, None]), [True, False, N]),
    ("int32", "int32", ["7", "-2147483648", "2147483648", "1.0", ""], [7, -(2**31), R, R, N]),
    ("int32 from longs", "int32", pa.array([1, 2**40, 5]), [1, R, 5]),
    ("doubles", "float64", ["0.1", "1e300", "nan", "1e999", ""], [0.1, 1e300, R, R, N]),
    ("decimals of 40 digits", "float64", ["1234567890123456789012345678901234567890.12", "19.99"], [1.2345678901234568e39, 19.99]),
    ("dates", "date", ["2026-01-05", "2026-01-05T23:00:00-02:00", "", "2024-02-29", "2026-02-30", "20260105", "99999-01-01"], [dt.date(2026, 1, 5), dt.date(2026, 1, 5), N, dt.date(2024, 2, 29), R, R, R]),
    ("dates of Parquet", "date", pa.array([dt.date(2026, 1, 5), None, dt.date(1, 1, 1)]), [dt.date(2026, 1, 5), N, dt.date(1, 1, 1)]),
    ("times as dates", "date", pa.array([dt.datetime(2026, 1, 5, 23, 59, tzinfo=dt.UTC)]), [dt.date(2026, 1, 5)]),
    ("paths", "path", ["a.b.c", "..a...b.", ".", "a", "", " a . b "], [["a", "a.b", "a.b.c"], ["a", "a.b"], [], ["a"], [], ["a", "a.b"]]),
    ("paths as lists", "path", pa.array([["a", "b"], [], None]), [["a", "a.b"], [], N]),
    ("JSON lists", "strings", ['["a", "b|c"]', "a|b", "[a|b]", "[1]", '["a"', "[]"], [["a", "b|c"], ["a", "b"], ["[a", "b]"], ["[1]"], ['["a"'], []]),
    ("vectors as text", "vector", ["[0.5, 2]", "0.5|2", "[1e-3,-4]", "[1]", "[1,2,3]", "[1,nan]", "[1,null]", "[1e40,1]", "words", ""], [[0.5, 2], [0.5, 2], [np.float32(1e-3), -4], R, R, R, R, R, R, N]),
    ("vectors", "vector", pa.array([[0.5, 2.0], [1.0], [1.0, float("nan")], [1.0, None], None, [3.0, 4.0]]), [[0.5, 2], R, R, R, N, [3, 4]]),
    ("vectors of integers", "vector", WHOLE_VECTORS, [[1, 2], [3, 4]]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "landed", "expected"), [pytest.param(*rest, id=what) for what, *rest in CASES])
def test_a_value_is_read_or_its_row_rejected(tmp_path: Path, kind: str, landed: Any, expected: list[Any]) -> None:
    assert read(tmp_path, kind, landed) == expected


def test_decimals_of_parquet_are_doubles(tmp_path: Path) -> None:
    wide = pa.array([decimal.Decimal("19.99"), decimal.Decimal(10) ** 39, None], pa.decimal256(60, 4))
    assert read(tmp_path, "float64", wide) == [19.99, 1e39, None]


REFUSED_FILES = [
    ("bool", pa.array([dt.date(2026, 1, 5)] * 3), "is date32.*, where the profile says bool"),
    ("bool", ["maybe"] * 3, "is not of type bool in any row .it holds 'maybe'.: write true or false"),
    ("date", pa.array([1, 2, 3]), "is int64, where the profile says date: write dates like 2026-01-05"),
    ("vector", pa.array([[1.0, 2.0, 3.0]] * 3), "is not of type vector in any row .it holds '.1.0, 2.0, 3.0.'.: write lists of as many"),
    ("vector", pa.array([["a"]] * 3), "is list.*, where the profile says vector"),
    ("int32", pa.array([1e17, 2.0, 3.0]), "holds integers as double, which rounds"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "landed", "says"), REFUSED_FILES)
def test_a_file_of_another_type_is_refused(tmp_path: Path, kind: str, landed: Any, says: str) -> None:
    with pytest.raises(LandedFileError, match=says):
        read(tmp_path, kind, landed)


def test_a_text_is_the_same_vector_at_ingest_and_in_a_service(tmp_path: Path) -> None:
    texts = ["Red running shoes", "Running shoe, red", "Espresso machine", "", "走る靴"]
    found = read(tmp_path, "text", texts)
    assert found[3] is None
    expected = text_vectors(pa.array([text or None for text in texts]), 16)
    assert found == expected.to_pylist()
    one = text_vectors(pa.array(texts[:1]), 16)
    assert one.to_pylist() == found[:1]  # alone or among others


def test_texts_that_are_alike_have_vectors_that_are() -> None:
    texts = ["Red running shoes for men", "Men's red running shoe", "Espresso machine with grinder", " "]
    vectors = np.array(text_vectors(pa.array(texts), 128).to_pylist())
    alike = vectors @ vectors.T
    assert alike[0, 1] > 0.5
    assert abs(alike[0, 2]) < 0.3
    assert np.allclose(np.diag(alike)[:3], 1)
    assert not vectors[3].any()


def test_a_text_may_be_read_as_words_and_as_a_vector(tmp_path: Path) -> None:
    columns = {"title": "string", "title_vector": {"type": "text", "column": "title", "width": 8}, "year": "int64"}
    profile = profile_of(tmp_path, columns)
    land(tmp_path, "i.tsv", "1\tHeat\t1995\n2\t\t1999\n")
    rows, reasons = ingest(tmp_path, profile)
    assert not reasons
    assert rows["title"].to_pylist() == ["Heat", None]
    assert [value and len(value) for value in rows["title_vector"].to_pylist()] == [8, None]
    assert rows["year"].to_pylist() == [1995, 1999]


def test_events_of_several_days_may_carry_texts(tmp_path: Path) -> None:
    content = profile_of(tmp_path, {}).model_dump()
    content["tables"]["interactions"]["title"] = {"type": "text", "width": 4, "of": "item"}
    profile = Profile.model_validate(content | {"tables": {"interactions": content["tables"]["interactions"]}})
    found = []
    with connect(tmp_path) as connection:
        for day in ("2026-01-05", "2026-01-06"):
            path = tmp_path / "landing" / "interactions" / f"bizdate={day}" / "e.csv"
            path.parent.mkdir(parents=True)
            path.write_text(f"user_id,item_id,timestamp,liked,title\n1,1,{day},1,Heat\n1,2,{day},1,\n")
            (tmp_path / day).mkdir()
            ingest_events(connection, profile, day, tmp_path / day)
            found.append(tmp_path / day / ROWS)
        (tmp_path / "items").mkdir()
        ingest_entities(connection, profile, "items", "2026-01-06", tmp_path / "items", found)
    titles = pq.read_table(tmp_path / "items" / ROWS)["title"].to_pylist()
    assert titles == text_vectors(pa.array(["Heat", None]), 4).to_pylist()


def test_a_rejected_row_keeps_its_text(tmp_path: Path) -> None:
    profile = profile_of(tmp_path, {"title": {"type": "text"}, "year": "int64"})
    land(tmp_path, "i.csv", "item_id,title,year\n1,Heat,1995\n2,Dune,soon\n3,Alien,1979\n")
    ingest(tmp_path, profile)
    assert pq.read_table(tmp_path / "out" / REJECTED).select(["title", "year"]).to_pylist() == [
        {"title": "Dune", "year": "soon"}
    ]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"type": "vector"}, "a vector needs a width"),
        ({"type": "string", "width": 3}, "a vector needs a width"),
        ({"type": "vector", "width": 0}, "greater than or equal to 1"),
        ({"type": "decimal"}, "decimals are read as float64"),
        ({"type": "date", "min": 1}, "min and max are for numbers, not date"),
    ],
)
def test_settings_that_do_not_fit_the_type_are_refused(tmp_path: Path, spec: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        profile_of(tmp_path, {"value": spec})
