"""The deployed towers as a kind of service: a version is opened from its checked copy, and answers with vectors."""

import contextlib
import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from recsys_assets.datasets.profile import load_profile
from recsys_assets.funnel.tower_file import TowerFile
from recsys_assets.guard import App
from recsys_assets.lake import Lake
from recsys_assets.manifest import Partition
from recsys_assets.serving.deployed.application import create_towers_app
from recsys_assets.serving.kinds import Kind, guarded
from recsys_assets.serving.order import Order, Release
from recsys_assets.serving.place import Place
from recsys_assets.serving.requests import Problem
from recsys_assets.serving.snapshot import Snapshots
from recsys_assets.settings import settings

ITEM, USER = "item", "user"


@dataclass(frozen=True)
class Towers:
    """A version that is open.

    Attributes:
        deployment: its name.
        model: of the towers.
        number: of the version.
        bizdate: of the towers.
        zone: the time zone of the profile.
        towers: by side, `item` and `user`.
        files: by side, the hash of the tower's file.
    """

    deployment: str
    model: str
    number: int
    bizdate: str
    zone: ZoneInfo
    towers: dict[str, TowerFile]
    files: dict[str, str]

    def now(self) -> dt.datetime:
        """The present time in the profile's time zone."""
        return dt.datetime.now(self.zone)

    @cached_property
    def head(self) -> dict[str, object]:
        """The keys with which every answer begins."""
        about = {"deployment": self.deployment, "model": self.model}
        return {**about, "version": self.number, "bizdate": self.bizdate}

    def warm_up(self) -> None:
        """Encode an empty row of both sides, so that the first request finds everything loaded."""
        for tower in self.towers.values():
            tower(tower.table([{}]))


class Opened(NamedTuple):
    """A version that is open, and its number."""

    number: int
    engine: Towers


class Held:
    """Holds the version that a process answers from, or nothing yet."""

    def __init__(self, towers: Towers | None) -> None:
        self._towers = towers

    @property
    def is_ready(self) -> bool:
        """Whether a version is open."""
        return self._towers is not None

    @property
    def opened(self) -> Opened:
        """The version that answers, and its number.

        Raises:
            Problem: none is open yet.
        """
        if self._towers is None:
            raise Problem(503, "no version is open yet: see the log of the deployment")
        return Opened(self._towers.number, self._towers)


def open_version(order: Order, release: Release) -> Towers:
    """The version, opened from its checked copy and asked once."""
    profile, copies = load_profile(), Path(order.copies)
    (asset,) = (each["partition"].partition("/")[0] for each in release.partitions)
    kept = Snapshots(copies, profile.name)
    files = kept.open(release, Lake.of(settings().lake, profile)).read(asset, release.bizdate)
    zone, model = profile.files.zone, asset.removeprefix("onnx_")
    hashes = {side: files.manifest.files[f"{side}.onnx"] for side in (ITEM, USER)}
    towers = Towers(copies.parent.name, model, release.number, release.bizdate, zone, towers_of(files), hashes)
    towers.warm_up()
    kept.remember(release)
    return towers


def towers_of(files: Partition) -> dict[str, TowerFile]:
    """Both towers of a partition of `onnx_<model>`."""
    return {side: TowerFile(files.path(f"{side}.onnx")) for side in (ITEM, USER)}


@contextlib.contextmanager
def application(towers: Towers | None, port: int, place: Place) -> Iterator[App]:
    """The guarded application over a version."""
    yield guarded(create_towers_app(Held(towers), place), port, place)


KIND = Kind(open_version, application, lambda _: None)
