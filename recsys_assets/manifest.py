"""A partition, one asset's data of one bizdate: a manifest that describes the files, and the folder that has them."""

import datetime as dt
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from recsys_assets.datasets.folders import file_hash, is_inside

MANIFEST = "manifest.json"
# Daily assets: partition D holds day D alone. The others hold the state as of the end of D; an asset that reads a daily
# one reads its partitions of every day up to D.
DAILY = frozenset({"interactions"})
# Extended assets: partition D has what its bizdate adds to earlier partitions, all of which its manifest names.
EXTENDED = frozenset({"event_features"})
_OFTEN_EMPTY = ("declined", "below_floor", "fitted", "seconds", "version")  # not in the text if they are empty
_APART = ("mlflow_run_id", "seconds", "version", "fingerprint")  # not in the fingerprint: see `Manifest`
VERSION = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{16}")  # when its upload began (UTC), and a random number


class PartitionMissing(FileNotFoundError):
    """A requested partition is not in the lake; the message says how to make it."""


class PartitionDamaged(RuntimeError):
    """A partition's files are not those that its manifest lists."""


class PartitionOutdated(RuntimeError):
    """A partition was made from other partitions that have been materialized again since."""


class PartitionReplaced(RuntimeError):
    """A partition was materialized again while it was being read: results may mix both versions."""


class GateNotPassed(RuntimeError):
    """A partition failed a blocking check, so nothing may be built on it."""


@dataclass
class Manifest:
    """The description of a partition.

    Attributes:
        schema: the type of each column of each Parquet file.
        files: SHA-256 of each file.
        upstream: the fingerprint of every partition that it was made from, by `asset/bizdate`.
        failed_checks: the blocking checks that failed: nothing may be built on the partition.
        declined: why the method cannot be built on these data, in a sentence; the partition has no files then. Empty
            for all others, and then left out of the text and of the fingerprint, like `below_floor`.
        below_floor: which figure is below the floor of the profile, in a sentence. The partition is kept to be looked
            at, and what needs it is declined.
        fitted: of a partition that keeps the fit of an earlier day: that `bizdate`, and the `events` known then.
        seconds: how long it took to make it; None in a partition of an older version.
        version: the folder inside the partition that has the files (`remote`); empty if they are next to the manifest.
        fingerprint: a hash of all other fields but the MLflow run id, the seconds and the version, which alone differ
            between two equal runs.
    """

    asset: str
    profile: str
    bizdate: str
    rows: int | None = None
    schema: dict[str, dict[str, str]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    code_version: str = "1"
    upstream: dict[str, str] = field(default_factory=dict)
    failed_checks: list[str] = field(default_factory=list)
    declined: str = ""
    below_floor: str = ""
    fitted: dict[str, Any] = field(default_factory=dict)
    mlflow_run_id: str | None = None
    seconds: float | None = None
    version: str = ""
    fingerprint: str = ""

    @classmethod
    def from_json(cls, text: bytes) -> "Manifest":
        """Read a `manifest.json`.

        Raises:
            ValueError, TypeError: it is not a manifest, or was changed after it was written.
        """
        content = json.loads(text)
        manifest = cls(**content)
        # From the fields of the text alone: later versions of the code have more fields.
        if manifest.fingerprint != fingerprint_of(content):
            raise ValueError("it does not fit its own fingerprint: it was edited, or only half of it was copied")
        if manifest.version and not VERSION.fullmatch(manifest.version):
            raise ValueError("its version is none")
        return manifest

    @property
    def name(self) -> str:
        """`asset/bizdate`, the form in which other manifests name it."""
        return f"{self.asset}/{self.bizdate}"

    @property
    def is_usable(self) -> bool:
        """Whether other partitions may be built from it: it passed its blocking checks and nothing else is wrong."""
        return not self.failed_checks and not self.why_not

    @property
    def why_not(self) -> str:
        """Why what needs the partition is declined, although nothing is broken; empty if it can be built on."""
        return self.declined or self.below_floor

    @property
    def fitted_on(self) -> str:
        """The bizdate whose rows its model, or its choice, was fitted on: an earlier one if that was kept."""
        return str(self.fitted.get("bizdate", self.bizdate))

    @property
    def age_of_fit(self) -> int:
        """How many days before its bizdate that was."""
        return (dt.date.fromisoformat(self.bizdate) - dt.date.fromisoformat(self.fitted_on)).days

    @property
    def inputs(self) -> dict[str, str]:
        """The upstream partitions whose change makes this one outdated.

        They are those of its bizdate, days of events, and partitions of an extended asset. Others, a model that was
        kept from another day or yesterday's figures in a report, are only recorded.
        """
        return {
            name: fingerprint
            for name, fingerprint in self.upstream.items()
            if name.partition("/")[0] in DAILY | EXTENDED or name.partition("/")[2] == self.bizdate
        }

    @property
    def extended(self) -> dict[str, str]:
        """The earlier partitions of an extended asset that it extends, or reads, with their fingerprints."""
        return {
            name: fingerprint
            for name, fingerprint in self.upstream.items()
            if name.partition("/")[0] in EXTENDED and name.partition("/")[2] != self.bizdate
        }

    def seal(self) -> "Manifest":
        """Set the fingerprint from the other fields."""
        self.fingerprint = fingerprint_of(self.content())
        return self

    def is_made_from(self, other: "Manifest") -> bool:
        """Whether the other partition, in its present state, is among those that this one was made from."""
        return self.upstream.get(other.name) == other.fingerprint

    def reads(self, name: str) -> bool:
        """Whether the partition was made from the named one (`asset/bizdate`), or would be if it were made now."""
        asset, _, day = name.partition("/")
        return name in self.inputs or (day <= self.bizdate and asset in self.histories)

    @property
    def histories(self) -> set[str]:
        """Daily assets that it reads for every day up to its own."""
        return {asset for name in self.upstream if (asset := name.partition("/")[0]) in DAILY}

    def content(self) -> dict[str, Any]:
        """The content of `manifest.json`."""
        return {name: value for name, value in asdict(self).items() if name not in _OFTEN_EMPTY or value}

    def to_json(self) -> str:
        """The text of `manifest.json`."""
        return json_text(self.content())


@dataclass(frozen=True)
class Partition:
    """A published partition: a local folder to read from, its manifest, and its identity among all at its place.

    The identity is that of the manifest's file (`folders.identity`); a copy from an object store has none. The
    fingerprint is not enough: the same content may come back after a different one.
    """

    folder: Path
    manifest: Manifest
    identity: tuple[int, int, int] | None = None

    def path(self, file: str) -> Path:
        """Path of one of its files.

        Raises:
            PartitionDamaged: the manifest does not list the file, or the file is outside the folder.
        """
        if file not in self.manifest.files:
            raise PartitionDamaged(f"{self.manifest.asset} {self.manifest.bizdate} has no file {file}: {self.folder}")
        if not is_inside(self.folder, file):
            raise PartitionDamaged(
                f"{self.folder}/{MANIFEST} lists {file!r}, which is not a file inside the partition: "
                f"materialize {self.manifest.asset} {self.manifest.bizdate} again"
            )
        return self.folder / file

    def verify(self) -> None:
        """Read all files and compare them with the manifest (about 1.5 GB per second).

        Raises:
            PartitionDamaged: a file is missing, has different bytes, or is outside the folder.
        """
        for file, expected in self.manifest.files.items():
            if file_hash(self.path(file)) != expected:
                raise PartitionDamaged(
                    f"{self.folder / file} is missing or not as its manifest says: "
                    f"run `recsys materialize {self.manifest.asset} --bizdate {self.manifest.bizdate}`"
                )


@dataclass
class Draft:
    """A partition being written: put files into `folder`, fill in `manifest`.

    `kept` has the SHA-256 of files that were taken over from an earlier partition, and need not be read again.
    """

    folder: Path
    manifest: Manifest
    kept: dict[str, str] = field(default_factory=dict)

    def path(self, file: str) -> Path:
        """Where to write one of its files."""
        return self.folder / file


def describe_outdated(manifest: Manifest, outdated: Sequence[str]) -> str:
    """One line for people: which partition is outdated, because of what, and the command that rebuilds it."""
    more = f" and {len(outdated) - 3} more" if len(outdated) > 3 else ""
    named = ", ".join(name.replace("/", " ") for name in outdated[:3])
    return (
        f"{manifest.asset} {manifest.bizdate} is outdated: {named}{more} changed after it was made: "
        f"run `recsys refresh --bizdate {manifest.bizdate}`"
    )


def json_text(content: Mapping[str, Any]) -> str:
    """The text of a JSON file in the lake; the same content gives the same bytes."""
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def fingerprint_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of all fields of a manifest that determine the content."""
    fields = {name: value for name, value in content.items() if name not in _APART}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
