"""Days without events: their partitions are alike, so a run makes the first one as any other day and copies the rest.

A log of 20 years has thousands of them. Each is a partition like those of other days, in the lake and in the UI.
"""

from dataclasses import dataclass, field

import dagster as dg

from recsys_assets.datasets.ingest import EVENTS_OF_DAYS
from recsys_assets.datasets.landing import contents, empty_until
from recsys_assets.datasets.landing_files import Found
from recsys_assets.datasets.profile import Profile
from recsys_assets.io_managers import Output


@dataclass(frozen=True)
class _Pattern:
    """Content that the partitions of all days without events share."""

    files: dict[str, bytes]
    metrics: dict[str, float]
    checks: list[dg.AssetCheckResult]


@dataclass
class EmptyDays:
    """The days of a run that had no events, before the day `until`."""

    profile: Profile
    until: str
    _pattern: _Pattern | None = field(default=None, init=False)

    @classmethod
    def of(cls, profile: Profile) -> "EmptyDays":
        """Those before the newest day that has landed, if the profile says that days without files are empty."""
        return cls(profile, empty_until(profile))

    def fill(self, output: Output) -> bool:
        """Give a day's partition what the first of these days has; False if there is none, or the day had events."""
        if self._pattern is None or not self._has(output.manifest.bizdate):
            return False
        for name, content in self._pattern.files.items():
            output.path(name).write_bytes(content)
        output.manifest.rows, output.manifest.metrics = 0, dict(self._pattern.metrics)
        output.checks = list(self._pattern.checks)
        return True

    def keep(self, output: Output) -> None:
        """Keep a partition that was just filled in as the pattern of others, if its day had no events."""
        if self._pattern is None and self._has(output.manifest.bizdate):
            files = {path.name: path.read_bytes() for path in output.draft.folder.iterdir()}
            self._pattern = _Pattern(files, dict(output.manifest.metrics), list(output.checks))

    def _has(self, day: str) -> bool:
        tables = EVENTS_OF_DAYS.keys() & self.profile.tables.keys()
        return day < self.until and all(contents(self.profile, table, day) == Found() for table in tables)
