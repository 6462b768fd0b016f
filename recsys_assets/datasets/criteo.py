"""Criteo's display advertising data (Kaggle 2014) as a source of landing files.

The file is the original `train.txt`: one tab-separated line per row, without a header, with empty fields for missing
values. The columns are the label, 13 integers and 26 hashed categories. Rows are in time order and cover 7 days, but
have no timestamps, so they are spread evenly over the bizdates of the profile (to within one row). Lines land
unchanged, the malformed ones too: ingest rejects those with their reasons.
"""

import datetime as dt
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from recsys_assets.datasets.feed import Content, Feed, LandingError
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import TableName
from recsys_assets.uris import safe_uri

TRAIN_FILE = "train.txt"
# Bytes of a landing file, about 130,000 rows: ingest holds one file at a time, which takes 0.4 GB.
PART = 32 * 2**20
LINE = 2**20  # bytes that a line may have; Criteo's have 250
_PACKED = (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")  # gzip, zip, bzip2, xz, zstd


def feed(profile: Profile, source: str | Path | None, first: dt.date | None, last: dt.date | None) -> Feed:
    """Open `train.txt`; `source` is the file or its folder.

    The file is read twice, in parts: once to count its lines, then day by day.

    Raises:
        LandingError: there is no such file, the profile has no last bizdate, or the file has fewer lines than days.
    """
    file, days = _file(source), _days(profile)
    starts = dict(zip(days, _starts(file, len(days)), strict=True))
    ends = dict(zip(days, [*list(starts.values())[1:], file.stat().st_size], strict=True))

    def day(date: dt.date) -> Iterator[tuple[TableName, Content]]:
        for lines in _parts(file, starts[date], ends[date]):
            yield "interactions", lines

    return Feed([date for date in days if (first or date) <= date <= (last or date)], day)


def _file(source: str | Path | None) -> Path:
    if source is None:
        raise LandingError(f"criteo needs --source: the original {TRAIN_FILE}, or the folder that holds it")
    given = Path(source).expanduser()
    path = given / TRAIN_FILE if given.is_dir() else given
    where = safe_uri(str(source)) if path == given else str(path)
    if not path.is_file():
        raise LandingError(f"--source {where} does not exist: give Criteo's {TRAIN_FILE}, or the folder that holds it")
    with path.open("rb") as file:
        if file.read(8).startswith(_PACKED):
            how = f"unpack it (tar -xzf, gunzip, unzip) and give its {TRAIN_FILE}"
            raise LandingError(f"--source {where} is packed: {how}")
    return path


def _days(profile: Profile) -> list[dt.date]:
    if profile.last_bizdate is None:
        raise LandingError(f"profile '{profile.name}' has no last_bizdate: the rows are spread over the days up to it")
    count = (profile.last_bizdate - profile.first_bizdate).days + 1
    return [profile.first_bizdate + dt.timedelta(days=number) for number in range(count)]


def _starts(file: Path, days: int) -> list[int]:
    """The byte offset of each day's first line."""
    with file.open("rb") as handle:
        ends, last = [], b"\n"
        for content in iter(partial(handle.read, PART), b""):
            ends.append(content.count(b"\n"))
            last = content[-1:]
        lines = sum(ends) + (last != b"\n")  # the last line may lack a line break
        if lines < days:
            raise LandingError(f"{file} has {lines} lines: too few for the {days} days of the profile")
        before = np.cumsum([0, *ends])
        starts = [0]
        for line in (lines * day // days for day in range(1, days)):
            part = int(np.searchsorted(before, line)) - 1  # the part with the end of the previous line
            handle.seek(part * PART)
            breaks = np.flatnonzero(np.frombuffer(handle.read(PART), np.uint8) == ord("\n"))
            starts.append(part * PART + int(breaks[line - before[part] - 1]) + 1)
    return starts


def _parts(file: Path, start: int, end: int) -> Iterator[bytes]:
    """The bytes from `start` to `end` in parts of whole lines."""
    with file.open("rb") as handle:
        handle.seek(start)
        while (place := handle.tell()) < end:
            part = handle.read(min(PART, end - place))
            rest = b"" if part.endswith(b"\n") else handle.readline(LINE)
            if len(rest) == LINE:
                raise LandingError(
                    f"{file}: a line after byte {place:,} is longer than {LINE:,}: is it Criteo's {TRAIN_FILE}?"
                )
            yield part + rest
