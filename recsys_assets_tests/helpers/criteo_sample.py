"""Generated lines in Criteo's format, for benchmarks and tests: any number of rows, with a known signal.

Each slot has as many distinct values as in the Kaggle set, the k-th most frequent one about 1/k as often as the first,
and the same share of missing values; integers are log-normal. The log-odds of a click are a sum: a weight for each
value of some slots, and the logarithms of some integers.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv

from recsys_assets.arrays import Ints

# From the Kaggle set, by column: the numbers of distinct values of C1 to C26, and the shares of rows in which
# I1 to I13 and C1 to C26 are missing.
SIZES = [1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683, 8351593, 3194]
SIZES += [27, 14992, 5461306, 10, 5652, 2173, 4, 7046547, 18, 15, 286181, 105, 142572]
MISSING = [0.45, 0, 0.21, 0.22, 0.03, 0.22, 0.04, 0, 0.04, 0.45, 0.04, 0.76, 0.22]
MISSING_SLOTS = [0, 0, 0.03, 0.03, 0, 0.12, 0, 0, 0, 0, 0, 0.03, 0]
MISSING_SLOTS += [0, 0, 0.03, 0, 0, 0.44, 0.44, 0.03, 0.76, 0, 0.03, 0.44, 0.44]
SIGNAL_SLOTS, SIGNAL_INTEGERS = (1, 5, 7, 10, 16, 25), (2, 4, 10)  # counted from 0
CHUNK = 2**18  # rows generated at a time
HEX = np.array([f"{byte:02x}".encode() for byte in range(256)])

Hashes = npt.NDArray[np.uint32]


def write_lines(path: Path, rows: int, seed: int = 1) -> None:
    """Write a `train.txt` of `rows` lines; the same rows and seed give the same bytes."""
    options = pa.csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    with path.open("wb") as file:
        for number, start in enumerate(range(0, rows, CHUNK)):
            rng = np.random.default_rng([seed, number])
            pa.csv.write_csv(_chunk(rng, min(CHUNK, rows - start)), file, options)


def _chunk(rng: np.random.Generator, rows: int) -> pa.Table:
    integers = [_integers(rng, rows, column) for column in range(len(MISSING))]
    slots = [_hashes(rng, rows, slot) for slot in range(len(SIZES))]
    odds = np.full(rows, -1.2)
    for column in SIGNAL_INTEGERS:
        odds += 0.3 * (np.log1p(integers[column]) - 2.0)
    for slot in SIGNAL_SLOTS:
        odds += slots[slot] / 2**31 - 1.0  # a value's hash is its weight, from -1 to 1
    columns = [pa.array((rng.random(rows) < 1 / (1 + np.exp(-odds))).astype(np.int8))]
    columns += [_with_gaps(rng, pa.array(found), share) for found, share in zip(integers, MISSING, strict=True)]
    columns += [_with_gaps(rng, _text(found), share) for found, share in zip(slots, MISSING_SLOTS, strict=True)]
    return pa.table(columns, [str(number) for number in range(len(columns))])


def _integers(rng: np.random.Generator, rows: int, column: int) -> Ints:
    return np.floor(np.exp(rng.normal(1 + column % 4, 1.5, rows))).astype(np.int64)


def _hashes(rng: np.random.Generator, rows: int, slot: int) -> Hashes:
    """Values of a slot: frequency ranks, mixed over 32 bits by odd factors, which keep distinct ranks distinct."""
    place = np.floor(SIZES[slot] ** rng.random(rows)).astype(np.uint32)
    mixed = (place + np.uint32(slot * 97_003)) * np.uint32(2_654_435_761)
    mixed = (mixed ^ (mixed >> np.uint32(15))) * np.uint32(2_246_822_519)
    return mixed ^ (mixed >> np.uint32(13))


def _text(hashes: Hashes) -> pa.Array:
    """Each hash as eight hexadecimal digits."""
    digits = HEX[hashes.astype(">u4").view(np.uint8)]
    offsets = np.arange(0, 8 * len(hashes) + 1, 8, dtype=np.int32)
    return pa.StringArray.from_buffers(len(hashes), pa.py_buffer(offsets), pa.py_buffer(digits))


def _with_gaps(rng: np.random.Generator, values: pa.Array, share: float) -> pa.Array:
    return pa.compute.if_else(pa.array(rng.random(len(values)) >= share), values, pa.scalar(None, values.type))
