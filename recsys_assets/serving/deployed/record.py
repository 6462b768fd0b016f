"""The record of a deployment: its versions, and which of them answers. It outlives the service and the machine.

`<data>/serving/<profile>/deployments/<name>/deployment.json` is replaced as a whole by every command. The running
service reads it again when it changes; next to it lie the copies of the files of the versions that were served last.
"""

import contextlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from recsys_assets.datasets.disk import private_folder
from recsys_assets.datasets.folders import replacing
from recsys_assets.funnel.served import describe_served
from recsys_assets.lake import Lake
from recsys_assets.serving.deployed.config import DeployConfig
from recsys_assets.serving.order import Release
from recsys_assets.settings import settings

FILE, LOG = "deployment.json", "service.log"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}")


class NoDeployment(LookupError):
    """There is no such deployment, or no such version of it; the message lists those that there are."""

    def __str__(self) -> str:
        return str(self.args[0])


class DeploymentExists(RuntimeError):
    """There is a deployment of this name already, or another command changes it now."""


@dataclass(frozen=True)
class Version:
    """A version of a deployment: the files that it answers from, and how it runs."""

    release: Release
    config: DeployConfig

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Version":
        """The version of a record."""
        return cls(Release(**content["release"]), DeployConfig(**content["config"]))

    def content(self) -> dict[str, Any]:
        """The version for a record."""
        return {"release": asdict(self.release), "config": self.config.model_dump()}


@dataclass(frozen=True)
class Deployment:
    """A deployment: its versions, oldest first, and the number of the one that answers."""

    name: str
    port: int
    current: int
    versions: tuple[Version, ...]

    @classmethod
    def read(cls, text: str) -> "Deployment":
        """The deployment of a record's text."""
        content = json.loads(text)
        versions = tuple(map(Version.of, content["versions"]))
        return cls(content["name"], content["port"], content["current"], versions)

    def text(self) -> str:
        """The text of the record."""
        versions = [each.content() for each in self.versions]
        content = {"name": self.name, "port": self.port, "current": self.current, "versions": versions}
        return json.dumps(content, indent=2) + "\n"

    @property
    def version(self) -> Version:
        """The version that answers."""
        return next(each for each in self.versions if each.release.number == self.current)

    def with_version(self, files: Release, config: DeployConfig) -> "Deployment":
        """The deployment with a further version, which answers."""
        number = self.versions[-1].release.number + 1 if self.versions else 1
        made = Version(replace(files, number=number), config)
        return replace(self, current=number, versions=(*self.versions, made))

    def back(self, bizdate: str | None) -> "Deployment":
        """The deployment with an earlier version: the newest one of a bizdate, or the one before.

        Raises:
            NoDeployment: there is none.
        """
        earlier = [each.release for each in self.versions if each.release.number < self.current]
        fitting = [each.number for each in earlier if bizdate in (None, each.bizdate)]
        if not fitting:
            there = ", ".join(f"{each.number} of {each.bizdate}" for each in earlier) or "none"
            of_day = f" of {bizdate}" if bizdate else ""
            raise NoDeployment(f"{self.name} has no version{of_day} before {self.current}: there are {there}")
        return replace(self, current=fitting[-1])


class Home:
    """The folder of one deployment of a profile.

    Raises:
        NoDeployment: the name is not one.
    """

    def __init__(self, profile: str, name: str) -> None:
        if not NAME.fullmatch(name):
            raise NoDeployment(f"'{name[:100]}' cannot be a name: take small letters, digits, _ and -, at most 48")
        self._all, self.name = settings().data / "serving" / profile / "deployments", name
        self.folder = self._all / name

    @property
    def copies(self) -> Path:
        """The folder of the copies of versions."""
        return self.folder / "copies"

    @property
    def log(self) -> Path:
        """The log of the service."""
        return self.folder / LOG

    @property
    def exists(self) -> bool:
        """Whether there is such a deployment."""
        return (self.folder / FILE).is_file()

    def read(self) -> Deployment:
        """The deployment.

        Raises:
            NoDeployment: there is none.
        """
        try:
            return Deployment.read((self.folder / FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            there = ", ".join(sorted(each.parent.name for each in self._all.glob(f"*/{FILE}"))) or "none"
            raise NoDeployment(
                f"there is no deployment '{self.name}': there are {there}; `recsys deploy create` makes one"
            ) from None

    def write(self, deployment: Deployment) -> None:
        """Replace the record."""
        private_folder(self.folder)
        with replacing(self.folder / FILE) as coming:
            coming.write_text(deployment.text(), encoding="utf-8")

    def remove(self) -> None:
        """Remove the deployment with its copies and its log."""
        shutil.rmtree(self.folder)

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """A block in which no other command changes the deployment.

        Raises:
            DeploymentExists: another command does.
        """
        private_folder(self._all)
        try:
            with FileLock(self._all / f".{self.name}.lock", timeout=0):
                yield
        except Timeout:
            raise DeploymentExists(
                f"another command changes {self.name} now: run it again when that has ended"
            ) from None


def release_of(lake: Lake, model: str, bizdate: str) -> Release:
    """The files of a model's towers, as a release that is yet to be numbered.

    Raises:
        PartitionMissing, PartitionDamaged, PartitionOutdated, GateNotPassed: they are not there, or may not be used.
    """
    manifest = lake.read_sound(f"onnx_{model}", bizdate).manifest
    return Release(0, bizdate, describe_served([manifest]))
