"""Dagster resources: the dataset, the lake, the stores and the tracking server.

Put here the external systems that assets use. Hyper-parameters belong to the assets' config, and the bizdate is a
partition.
"""

import datetime as dt
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import dagster as dg

from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.lake import Lake
from recsys_assets.lineage import Lineage
from recsys_assets.manifest import (
    Partition,
    PartitionMissing,
    PartitionReplaced,
)
from recsys_assets.partitions import days
from recsys_assets.settings import settings
from recsys_assets.tracking import Tracking

if TYPE_CHECKING:
    from recsys_assets.stores.store import Store


class Dataset(dg.ConfigurableResource[Profile]):
    """The dataset profile of this code location."""

    profile: str

    def load(self) -> Profile:
        """The profile, read and checked."""
        return load_profile(self.profile)


class LakeStore(dg.ConfigurableResource[Lake]):
    """The lake's partitions of one dataset.

    The lake's URL, like those of the stores and of MLflow, may hold a password. It is therefore read from the settings
    when it is used and is not part of the configuration, which Dagster's UI and history would show.
    """

    profile: str

    @cached_property
    def lake(self) -> Lake:
        """The lake itself, opened only once, because reading all days of events uses it once per day.

        Raises:
            OtherDataset: it holds a different data set of that name.
        """
        return Lake.of(settings().lake, load_profile(self.profile))

    @cached_property
    def described(self) -> dict[str, str]:
        """The descriptions of the profile's columns, by name; only of those that have one."""
        tables = load_profile(self.profile).tables.values()
        return {name: spec.description for table in tables for name, spec in table.items() if spec.description}

    def read(self, asset: str, bizdate: str, lineage: Lineage | None = None) -> Partition:
        """A partition for another asset to read; those that are read together share a lineage.

        Raises:
            PartitionMissing: it was never materialized.
            GateNotPassed: it failed a blocking check, in this run or an earlier one.
            PartitionOutdated: something that it was built from has been materialized again since.
        """
        return self.lake.read_sound(asset, bizdate, lineage)

    def check_unchanged(self, partitions: Iterable[Partition]) -> None:
        """Check after reading that the partitions belong together and were not replaced in the meantime.

        Raises:
            PartitionReplaced: one of them, or something that it was built from, was materialized again.
        """
        if replaced := [each.manifest.name for each in partitions if not self.lake.is_current(each)]:
            raise PartitionReplaced(f"{', '.join(replaced)} changed while it was being read: run the command again")

    def history(self, asset: str, bizdate: str) -> list[Partition]:
        """The partitions of every day from the first one in the lake up to `bizdate`.

        Raises:
            PartitionMissing: there are none, or a day in between is missing.
        """
        found = [day for day in self.lake.bizdates(asset) if day <= bizdate]
        first = dt.date.fromisoformat(found[0] if found else bizdate)
        missing = sorted(set(days(first, dt.date.fromisoformat(bizdate))) - set(found))
        if missing:
            raise PartitionMissing(
                f"{asset} lacks {len(missing)} of the days up to {bizdate} ({', '.join(missing[:3])}…): land them if "
                "they have not landed (if they had no events, write `files: {missing_days: empty}` in the profile), "
                f"then run `recsys materialize {asset} --bizdate {bizdate}`"
            )
        return [self.read(asset, day) for day in found]


class Stores(dg.ConfigurableResource[None]):
    """The stores that services read."""

    profile: str

    @contextmanager
    def open(self, name: str) -> "Iterator[Store]":
        """Open the store with this name in the registry, to publish collections of the profile's data set.

        Raises:
            OtherDataset: it has collections of a different data set of that name.
        """
        from recsys_assets.stores.registry import open_owned_store

        lake = Lake.of(settings().lake, load_profile(self.profile))
        with open_owned_store(name, lake.profile, lake.owner) as store:
            if store.owner() is None:
                store.claim(lake.owner)
            yield store


def resources() -> dict[str, Any]:
    """The resources of this code location, from the settings."""
    place = settings()
    return {
        "dataset": Dataset(profile=place.profile),
        "lake": LakeStore(profile=place.profile),
        "stores": Stores(profile=place.profile),
        "tracking": Tracking(profile=place.profile),
    }
