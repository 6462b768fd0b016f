"""A finished day in the lake, as its report reads it: manifests of the last bizdates, and partitions that are there."""

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from recsys_assets.datasets.profile import Profile
from recsys_assets.lake import Lake
from recsys_assets.lineage import Lineage
from recsys_assets.manifest import Manifest, Partition, PartitionDamaged, PartitionMissing

SHOWN_DAYS = 30
REPORT, PAGE, TABLE, CARD = "daily_report", "report.html", "figures.parquet", "model_card.html"


class Absent(LookupError):
    """The input of a section is not there; the message says so in a sentence."""


@dataclass
class Day:
    """A bizdate of a lake.

    Attributes:
        lake: of the data set.
        profile: of the data set.
        bizdate: the day.
        wanted: the assets that the day has when it is finished.
        requests: the folder of the service's log of requests.
        read: partitions that were read so far.
    """

    lake: Lake
    profile: Profile
    bizdate: str
    wanted: Collection[str]
    requests: Path
    read: dict[str, Partition] = field(default_factory=dict)

    @cached_property
    def manifests(self) -> dict[str, Manifest]:
        """Manifests of the wanted assets on the last `SHOWN_DAYS` days up to the day, by `asset/bizdate`."""
        first = (dt.date.fromisoformat(self.bizdate) - dt.timedelta(days=SHOWN_DAYS - 1)).isoformat()
        names = [
            f"{asset}/{day}"
            for asset in sorted(self.wanted)
            for day in self.lake.bizdates(asset)
            if first <= day <= self.bizdate
        ]
        return self.lake.manifests(names)

    @cached_property
    def of_day(self) -> dict[str, Manifest]:
        """The manifests of the day itself, by asset."""
        return {each.asset: each for each in self.manifests.values() if each.bizdate == self.bizdate}

    @cached_property
    def outdated(self) -> list[str]:
        """Wanted assets whose partition of the day is outdated."""
        return [asset for asset in Lineage(self.lake).outdated_assets(self.bizdate) if asset in self.wanted]

    @property
    def yesterday(self) -> str:
        """The bizdate before the day."""
        return (dt.date.fromisoformat(self.bizdate) - dt.timedelta(days=1)).isoformat()

    def reports(self) -> list[dict[str, float]]:
        """The metrics of the reports of earlier days that were made, the oldest first."""
        days = [day for day in self.lake.bizdates(REPORT) if day < self.bizdate][-SHOWN_DAYS:]
        made = self.lake.manifests(f"{REPORT}/{day}" for day in days)
        return [made[name].metrics for name in sorted(made)]

    def history(self, asset: str) -> dict[str, dict[str, float]]:
        """The metrics of an asset on the last days, by bizdate, ascending; days that failed are left out."""
        found = [each for each in self.manifests.values() if each.asset == asset and each.is_usable]
        return {each.bizdate: each.metrics for each in sorted(found, key=lambda each: each.bizdate)}

    def metrics(self, asset: str) -> dict[str, float]:
        """The metrics of an asset on the day.

        Raises:
            Absent: its partition is missing, declined, below its floor, or failed a check.
        """
        return self.sound(asset).metrics

    def sound(self, asset: str) -> Manifest:
        """The manifest of an asset's partition of the day, if something can be built from it.

        Raises:
            Absent: it is missing, declined, below its floor, or failed a check.
        """
        made = self.of_day.get(asset)
        if made is None:
            raise Absent(f"{asset} has no partition of {self.bizdate}.")
        if not made.is_usable:
            raise Absent(f"{asset} cannot be used: {made.why_not or 'it failed ' + ', '.join(made.failed_checks)}.")
        return made

    def open(self, asset: str, bizdate: str = "") -> Partition:
        """A partition, of the day unless another one is named.

        Raises:
            Absent: it is not there, or cannot be used.
        """
        day = bizdate or self.bizdate
        if (name := f"{asset}/{day}") in self.read:
            return self.read[name]
        if not bizdate:
            self.sound(asset)
        try:
            found = self.lake.read(asset, day)
        except (PartitionMissing, PartitionDamaged) as error:
            raise Absent(f"{asset} of {day} cannot be read: {error}.") from error
        if not found.manifest.is_usable:
            raise Absent(f"{asset} of {day} cannot be used.")
        self.read[name] = found
        return found
