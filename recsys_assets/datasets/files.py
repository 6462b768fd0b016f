"""How a profile describes files that were not made for this platform (`files`): their text, times and days."""

import codecs
import datetime as dt
import re
import zoneinfo
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Literal

import duckdb
from pydantic import Field, field_validator, model_validator

from recsys_assets.datasets.profile_parts import Part, TableName

Suffix = Literal[".csv", ".tsv"]
_TABLES: tuple[TableName, ...] = ("interactions", "users", "items", "impressions")
_CODES = {"%Y": r"\d{4}", "%m": r"\d{2}", "%d": r"\d{2}"}


@lru_cache(maxsize=64)
def _refused(query: str, text: str) -> str:
    """DuckDB's error for a query of a text, empty if there is none; remembered, as each connection costs 30 ms."""
    try:
        with duckdb.connect() as connection:
            connection.execute(query, [text]).fetchall()
    except duckdb.Error as error:
        return str(error)
    return ""


class TextFormat(Part):
    """The form of text files, and of the times in files of any kind.

    Where `separator`, `quote` or `header` is not given, a `.csv` has commas, quotation marks and a header, and a `.tsv`
    has tabs and neither of the others. Without a header, columns are in the order of the profile.
    """

    separator: str | None = Field(default=None, min_length=1, max_length=1)
    encoding: str = Field(default="utf-8", description="a name that Python knows, such as latin-1 or utf-16")
    quote: str | None = Field(default=None, max_length=1, description="the quotation mark; empty: there are none")
    decimal: Literal[".", ","] = "."
    header: bool | None = None
    missing: tuple[str, ...] = Field(default=(), description="fields of text files that mean that there is no value")
    date_format: str | None = Field(default=None, min_length=1, description="of times that are text, as for strptime")
    time_unit: Literal["s", "ms", "us", "ns"] = Field(default="s", description="of times that are numbers, since 1970")

    @field_validator("separator", "quote")
    @classmethod
    def _is_plain(cls, sign: str | None) -> str | None:
        if sign and (not sign.isascii() or sign in "\r\n"):
            raise ValueError(f"{sign!r}: give one ASCII character that is not a line break")
        return sign

    @field_validator("missing")
    @classmethod
    def _are_words(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        if bad := [word for word in words if not word.strip()]:
            raise ValueError(f"{bad[0]!r} is an empty field, which is missing anyway: give words such as NA")
        return words

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, encoding: str) -> str:
        try:
            b"a".decode(encoding, "replace")
            codecs.getincrementaldecoder(encoding)
        except (LookupError, UnicodeError):
            raise ValueError(f"{encoding!r} is not an encoding: give utf-8, utf-16, latin-1 or the like") from None
        return encoding

    @field_validator("date_format")
    @classmethod
    def _is_readable(cls, pattern: str | None) -> str | None:
        if pattern is None:
            return None
        if refused := _refused("SELECT try_strptime('', $1)", pattern):
            said = refused.splitlines()[0].rpartition(": ")[2]
            raise ValueError(f"{pattern!r} is not a date format ({said}): write it as in %d.%m.%Y %H:%M:%S")
        if "%" not in pattern:
            raise ValueError(f"{pattern!r} has no code: write it as in %d.%m.%Y %H:%M:%S")
        return pattern

    @model_validator(mode="after")
    def _signs_differ(self) -> "TextFormat":
        if self.separator and self.separator == self.quote:
            raise ValueError(f"separator and quote are both {self.separator!r}: they must differ")
        return self

    def separator_of(self, suffix: Suffix) -> str:
        """The separator in files of this suffix."""
        return self.separator or ("\t" if suffix == ".tsv" else ",")

    def quote_of(self, suffix: Suffix) -> str:
        """The quotation mark in files of this suffix; empty if there are none."""
        return self.quote if self.quote is not None else "" if suffix == ".tsv" else '"'

    def header_of(self, suffix: Suffix) -> bool:
        """Whether files of this suffix have a header."""
        return self.header if self.header is not None else suffix != ".tsv"


class Files(TextFormat):
    """The files of a data set; `interactions`, `users` and `items` hold what differs in a table.

    * `day_folder`: the name of a day's folder, with %Y, %m and %d; it may have several levels (`%Y/%m/%d`).
    * `timezone`: an event belongs to its day in this zone, and times without an offset are of this zone. Timestamps in
      the lake are UTC.
    * `missing_days`: `empty` = a day without files that is followed by a landed one had no events.
    """

    day_folder: str = "bizdate=%Y-%m-%d"
    timezone: str = "UTC"
    missing_days: Literal["refuse", "empty"] = "refuse"
    interactions: TextFormat = TextFormat()
    users: TextFormat = TextFormat()
    items: TextFormat = TextFormat()
    impressions: TextFormat = TextFormat()

    @field_validator("timezone")
    @classmethod
    def _is_a_zone(cls, name: str) -> str:
        error = ValueError(f"{name!r} is not a time zone: give one like Europe/Berlin, or UTC")
        try:
            zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            raise error from None
        if _refused("SELECT timezone($1, TIMESTAMP '2026-01-01')", name):
            raise error
        return name

    @field_validator("day_folder")
    @classmethod
    def _names_a_day(cls, pattern: str) -> str:
        codes = re.findall("%.?", pattern)
        if sorted(codes) != sorted(_CODES):
            raise ValueError(f"{pattern!r}: it must have %Y, %m and %d once each, and no other code")
        if any(not part or part.startswith((".", "_")) or re.search(r"[\\*?[]", part) for part in pattern.split("/")):
            raise ValueError(f"{pattern!r}: give names of folders that do not begin with . or _, as in dt=%Y%m%d")
        return pattern

    @model_validator(mode="after")
    def _tables_are_sound(self) -> "Files":
        for table in _TABLES:
            if getattr(self, table).model_fields_set:
                Files.model_validate(self.of(table).model_dump(exclude={str(each) for each in _TABLES}))
        return self

    def of(self, table: TableName) -> "Files":
        """The same for one table, with what differs there."""
        own: TextFormat = getattr(self, table)
        return self.model_copy(update={**dict.fromkeys(_TABLES, TextFormat()), **own.model_dump(exclude_unset=True)})

    def folder_of(self, day: dt.date) -> PurePosixPath:
        """The folder of a day, relative to its table's."""
        values = {"%Y": f"{day.year:04}", "%m": f"{day.month:02}", "%d": f"{day.day:02}"}
        return PurePosixPath(re.sub("%.", lambda code: values[code[0]], self.day_folder))

    def day_of(self, folder: PurePosixPath) -> dt.date | None:
        """The day that a folder, relative to its table's, is named after; None if it is not named after a day."""
        parts = re.split("(%.)", self.day_folder)
        pattern = "".join(f"(?P<{part[1]}>{_CODES[part]})" if part in _CODES else re.escape(part) for part in parts)
        found = re.fullmatch(pattern, str(folder), re.ASCII)
        try:
            return dt.date(int(found["Y"]), int(found["m"]), int(found["d"])) if found else None
        except ValueError:
            return None

    @property
    def folder_patterns(self) -> list[str]:
        """For each level of a day's folder, the pattern of names that are meant to be of a day."""
        levels = [re.split("%(?:.*%)?[Ymd]", part) for part in self.day_folder.split("/")]
        return [_pattern(*level) if len(level) == 2 else level[0] for level in levels]

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        """The time zone of the days."""
        return zoneinfo.ZoneInfo(self.timezone)

    def now(self) -> dt.datetime:
        """The current time in the zone of the days."""
        return dt.datetime.now(self.zone)

    def end_of(self, bizdate: str) -> dt.datetime:
        """The moment at which a day ends; days with a change of the clock have 23 or 25 hours."""
        after = dt.date.fromisoformat(bizdate) + dt.timedelta(days=1)
        return dt.datetime.combine(after, dt.time(), self.zone)

    def day_sql(self, timestamp: str = "timestamp") -> str:
        """SQL for the day of a timestamp (UTC)."""
        return f"{self.local_sql(timestamp)}::DATE"

    def local_sql(self, timestamp: str) -> str:
        """SQL for the local time of a timestamp (UTC)."""
        if self.timezone == "UTC":
            return timestamp
        return f"({timestamp} AT TIME ZONE 'UTC' AT TIME ZONE '{self.timezone}')"

    def utc_sql(self, local: str) -> str:
        """SQL that turns a local TIMESTAMP into UTC. Of an hour that the clock has twice, it is the second one."""
        if self.timezone == "UTC":
            return local
        return f"({local} AT TIME ZONE '{self.timezone}' AT TIME ZONE 'UTC')"


def _pattern(before: str, after: str) -> str:
    """The pattern of a name with a date between two texts: any date, a malformed one too, so that it is reported."""
    return f"{before}{'*' if before else '[0-9]*'}{after}"
