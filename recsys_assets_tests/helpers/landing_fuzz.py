# ruff: noqa: E501 (each table has one case per line)
"""Generates random landing files of all types: valid ones whose number of rows is known, odd ones, and damaged ones.

Only the generator belongs here; `test_landing_fuzz.py` has the properties that must hold.
"""

import bz2
import decimal
import gzip
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.datasets.profile_parts import Column

Draw = np.random.Generator
Rows = list[list[str]]
# Text that may stand where a value of the type is required; the first entries are valid.
TEXTS = {
    "int64": ["1", "2", "3", "12", "-7", "+5", "007", "", " 2 ", "1_2", "1e0", "0x1", "1.0", "--1", "9" * 19, "９", "nan"],
    "float32": ["1", "4.5", ".5", "1.", "2e0", "", "1_0.5", " 2", "0x1p3", "inf", "nan", "1e39", "4,5", "five"],
    "string": ["a", "b", "c", "", "Ærø", "日本", "a b", "𝄞", "null", "x" * 70_000],
    "strings": ["a|b", "a", "", "|", "a||b", "|a", "日|本", "日"],
    "timestamp": ["1767571200", "1767600000", "2026-01-05T10:00:00Z", "2026-01-05 12:00:00+01:00", "", "2026-01-06", "1_700"],
}  # fmt: skip
INTEGERS = [0, 1, 2, 3, 12, -7, 127]
HUGE = [2**31, 2**53, 2**63 - 1]
SECONDS = [1_767_571_200, 1_767_600_000, 1_767_657_599]


@dataclass(frozen=True)
class Fuzzed:
    """A file to land: the end of its name, its bytes, and its number of rows, None if that is unknown."""

    name: str
    content: bytes
    rows: int | None


def fuzzed(draw: Draw, columns: dict[str, Column]) -> Fuzzed:
    """One random file of the table; one in four is damaged."""
    kind = draw.choice(["parquet", "csv", "tsv"])
    if kind == "parquet":
        found = _parquet(draw, columns)
    else:
        found = _compressed(draw, _csv(draw, columns) if kind == "csv" else _tsv(draw, columns))
    return found if draw.random() < 0.75 else Fuzzed(found.name, _damaged(draw, found.content), None)


def _parquet(draw: Draw, columns: dict[str, Column]) -> Fuzzed:
    rows, names = int(draw.choice([0, 1, 2, 20, 300])), list(columns)
    tame = draw.random() < 0.5  # otherwise few files would have an accepted row
    arrays = [_array(draw, spec.type, rows, tame) for spec in columns.values()]
    if draw.random() < 0.05:
        names[0] = names[1]
    if draw.random() < 0.05:
        arrays, names = arrays[:-1], names[:-1]
    buffer = io.BytesIO()
    size, codec = int(draw.choice([1, 7, 1000])), str(draw.choice(["snappy", "zstd", "gzip", "none"]))
    try:
        pq.write_table(pa.table(arrays, names), buffer, row_group_size=size, compression=codec)
    except pa.ArrowException:  # Parquet does not support every type
        return _parquet(draw, columns)
    return Fuzzed("f.parquet", buffer.getvalue(), rows)


def _array(draw: Draw, declared: str, rows: int, tame: bool) -> pa.Array:
    """A column of a random type, which may be one that cannot be converted to the declared type."""
    makers = _MAKERS[declared]
    chosen = makers[0] if tame else makers[int(draw.integers(len(makers)))]
    if not tame and draw.random() < 0.1:
        chosen = _WRONG[int(draw.integers(len(_WRONG)))]
    kind, values = chosen
    pool = [values[n] for n in draw.integers(0, len(values), rows)]
    gaps = draw.random(rows) < (0.05 if tame else 0.2)
    filled = [None if gap else value for gap, value in zip(gaps, pool, strict=True)]
    if pa.types.is_dictionary(kind):
        return pa.array(filled, kind.value_type).dictionary_encode()
    if pa.types.is_list(kind) and pa.types.is_dictionary(kind.value_type):
        lists = pa.array(filled, pa.list_(kind.value_type.value_type))
        entries = lists.values.dictionary_encode().cast(kind.value_type)
        return pa.ListArray.from_arrays(lists.offsets, entries, mask=lists.is_null())
    if pa.types.is_floating(kind):
        return pa.array(filled, pa.float64()).cast(kind, safe=False)
    return pa.array(filled, kind)


def _made(values: list[Any], *kinds: pa.DataType) -> list[tuple[pa.DataType, list[Any]]]:
    return [(kind, values) for kind in kinds]


_LISTS: list[Any] = [["a", "b"], ["a", None], ["", "b"]]
_TEXT_TYPES = (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()))
_DECIMALS = [decimal.Decimal(text) for text in ("1", "2", "3.00", "1.50", "-7")]
_SMALL = (pa.int64(), pa.int8(), pa.int32(), pa.uint8(), pa.uint64(), pa.float64(), pa.float32(), pa.float16())
_WIDE = (pa.decimal32(5, 2), pa.decimal64(10, 2), pa.decimal128(38, 2), pa.decimal256(60, 2))
_NUMBERS = [
    *_made([1, 2, 3, 12, 100], *_SMALL, pa.dictionary(pa.int8(), pa.int64())),
    *_made([*INTEGERS, *HUGE], pa.int64()),
    *_made([1, 2**63, 2**64 - 1], pa.uint64()),
    *_made([1.0, 2.5, float("nan"), float("inf"), -0.0, 2.0**60], pa.float64(), pa.float32()),
    *_made([1.0, 2.5, float("nan"), 3.0], pa.float64(), pa.float32(), pa.float16()),
    *_made(_DECIMALS, *_WIDE),
    *_made([None], pa.null()),
]
_BYTES = [b"a", b"\xff\xfe", "日".encode()]
_MAKERS: dict[str, list[tuple[pa.DataType, list[Any]]]] = {
    "int64": _NUMBERS,
    "float32": _NUMBERS,
    "string": [
        *_made(["a", "b", "c", "", "日本", "\x00"], *_TEXT_TYPES),
        *_made([1, 2], pa.int64(), pa.uint64()),
        *_made(_BYTES, pa.binary(), pa.binary_view(), pa.large_binary(), pa.binary()),
        *_made([None], pa.null()),
        *_made(['{"a": 1}'], pa.json_()),
    ],
    "strings": [
        *_made(_LISTS, *map(pa.list_, _TEXT_TYPES), *map(pa.large_list, _TEXT_TYPES[:3])),
        *_made(_LISTS, pa.list_(pa.string(), 2), pa.list_view(pa.string()), pa.large_list_view(pa.string())),
        *_made([[], [None]], pa.list_(pa.null())),
        *_made(["a|b", "", "|"], *_TEXT_TYPES),
        *_made([[1, 2]], pa.list_(pa.int64())),
        *_made([[["a"]]], pa.list_(pa.list_(pa.string()))),
    ],
    "timestamp": [
        *_made(SECONDS, pa.int64(), pa.float64(), pa.timestamp("s"), pa.uint64()),
        *_made([s * 1000 for s in SECONDS], pa.int64(), pa.timestamp("ms", "Asia/Tokyo")),
        *_made([s * 10**9 for s in SECONDS], pa.int64(), pa.timestamp("ns", "UTC")),
        *_made([s * 10**6 for s in SECONDS], pa.timestamp("us")),
        *_made([-(2**62), 2**62, 0], pa.int64(), pa.timestamp("s"), pa.timestamp("ms"), pa.timestamp("us")),
        *_made([20_458, 0], pa.date32(), pa.int32()),
        *_made(SECONDS, pa.float32()),
    ],
}
_WRONG = [
    *_made([True, False], pa.bool_()),
    *_made([1, 2], pa.duration("ns"), pa.time32("s")),
    *_made([{"x": 1}], pa.struct({"x": pa.int64()})),
    *_made([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    *_made([b"0123456789abcdef"], pa.binary(16), pa.uuid()),
    *_made(["text"], pa.string()),
]


def _records(draw: Draw, columns: dict[str, Column]) -> Rows:
    """Lines of fields; some lines have one field too many or too few."""
    found: Rows = []
    odd = draw.random() < 0.5
    for _ in range(int(draw.choice([0, 1, 2, 20, 200]))):
        pools = [TEXTS[spec.type] for spec in columns.values()]
        fields = [pool[int(draw.integers(0, len(pool) if odd else 3))] for pool in pools]
        if odd and draw.random() < 0.05:
            fields = fields[:-1] if draw.random() < 0.5 else [*fields, "more"]
        found.append(fields)
    return found


def _csv(draw: Draw, columns: dict[str, Column]) -> Fuzzed:
    records, end = _records(draw, columns), str(draw.choice(["\n", "\r\n", "\r"]))
    quote: Callable[[str], str] = (lambda text: f'"{text}"') if draw.random() < 0.3 else str
    header = list(columns)
    if draw.random() < 0.1:
        header[0] = "other"
    lines = [",".join(quote(field) if field != "4,5" else '"4,5"' for field in record) for record in [header, *records]]
    text = end.join(lines) + (end if draw.random() < 0.7 else "")
    rows = sum(line != "" for line in lines[1:])  # an empty line does not count
    return Fuzzed("f.csv", (b"\xef\xbb\xbf" if draw.random() < 0.2 else b"") + text.encode(), rows)


def _tsv(draw: Draw, columns: dict[str, Column]) -> Fuzzed:
    records, end = _records(draw, columns), str(draw.choice(["\n", "\r\n", "\r"]))
    text = "".join("\t".join(record) + end for record in records)
    return Fuzzed("f.tsv", text.encode(), len(records))


def _compressed(draw: Draw, file: Fuzzed) -> Fuzzed:
    codec = draw.choice(["", "", ".gz", ".bz2", ".zst"])
    write: dict[str, Callable[[bytes], bytes]] = {
        ".gz": lambda data: gzip.compress(data, mtime=0),
        ".bz2": bz2.compress,
        ".zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
    }
    content = write[codec](file.content) if codec else file.content
    return Fuzzed(file.name + str(codec), content, file.rows)


def _damaged(draw: Draw, content: bytes) -> bytes:
    """The bytes truncated, or with some of them changed, inserted or removed."""
    if not content:
        return b"\x00"
    place, length = int(draw.integers(len(content))), int(draw.choice([1, 4, 100]))
    noise = [b"\x00" * length, draw.bytes(length), b'"', b"\xe9", b"\r", b"\n\n"][int(draw.integers(6))]
    match int(draw.integers(4)):
        case 0:
            return content[:place]
        case 1:
            return content[:place] + noise + content[place:]
        case 2:
            return content[:place] + content[place + length :]
    return content[:place] + noise + content[place + len(noise) :]
