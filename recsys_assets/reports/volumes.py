"""Volumes of a day: rows that came, and rows that were rejected, by reason."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from recsys_assets.reports.alarms import Statistic

EVENTS = "interactions"


@dataclass(frozen=True)
class Volume:
    """Rows of a day's events that were kept, and rejected rows by reason."""

    rows: int
    rejected: dict[str, int]

    @property
    def landed(self) -> int:
        """All rows that came."""
        return self.rows + sum(self.rejected.values())


def volume(rows: int, rejected: Path | None) -> Volume:
    """The volume of a day, from the number of its rows and the file of its rejected ones, if it has one."""
    reasons = pq.read_table(rejected, columns=["reason"])["reason"].to_pylist() if rejected else []
    return Volume(rows, dict(sorted(Counter(_plain(reason) for reason in reasons).items())))


def statistics(days: Mapping[str, Volume], today: str) -> list[Statistic]:
    """The number of rows of the day, and the share that was rejected for each reason that occurs on it."""
    now = days[today]
    past: Sequence[Volume] = [each for day, each in sorted(days.items()) if day < today]
    found = [Statistic(EVENTS, "rows", "count", float(now.rows), [float(each.rows) for each in past])]
    for reason, count in now.rejected.items():
        shares = [each.rejected.get(reason, 0) / max(each.landed, 1) for each in past]
        share = count / max(now.landed, 1)
        found.append(Statistic(f"{EVENTS}: {reason}", "rejected", "share", share, shares, rows=float(now.landed)))
    return found


def _plain(reason: str) -> str:
    """A reason without the day that it may name, so that reasons of different days are the same."""
    return " ".join("its day" if len(word) == 10 and word[4:5] == word[7:8] == "-" else word for word in reason.split())
