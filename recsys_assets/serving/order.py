"""The supervisor's orders to a generation of processes: which release to open, and how. It imports nothing heavy."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LOOK = 0.1  # seconds between two checks of the processes
LEAVE = 1.0  # seconds in which clients learn that they need a new connection, before the last ones are closed
FINISH = 5  # seconds that requests in flight have after that
RECOMMENDER = "recsys_assets.serving.recommender:KIND"
SERVED_LAST = "served.json"  # the releases that were served last, the newest first


@dataclass(frozen=True)
class Release:
    """A release as a service needs it.

    Attributes:
        number: of the release.
        bizdate: its day.
        served: what `funnel.served.describe_served` says of it; None in the record of an older version, for which the
            partitions are taken that the lake has now.
    """

    number: int
    bizdate: str
    served: Mapping[str, Any] | None = None

    @property
    def partitions(self) -> Sequence[Mapping[str, Any]]:
        """The partitions that it names."""
        found: Sequence[Mapping[str, Any]] = (self.served or {}).get("partitions", ())
        return found

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Release":
        """The release of a store's record."""
        return cls(int(record["number"]), str(record["bizdate"]), record.get("served"))


@dataclass(frozen=True)
class Order:
    """A generation to start.

    Attributes:
        release: to open; None: there is none, and this is what is answered.
        processes: how many shall answer.
        alone: whether nobody answers yet. Then one process says so until the release is open.
        copies: folder of the copies of releases.
        status: file of the `Status`.
        kind: of the service, as in `kinds.py`.
        memory: the most MiB of data that each process may hold; None: as many as it likes.
    """

    release: Release | None
    processes: int
    alone: bool
    copies: str
    status: str
    kind: str = RECOMMENDER
    memory: int | None = None

    @classmethod
    def read(cls, line: str) -> "Order":
        """The order of a line of JSON."""
        content = json.loads(line)
        release = Release(**content.pop("release")) if content["release"] else content.pop("release")
        return cls(release=release, **content)

    def line(self) -> str:
        """The order as a line of JSON."""
        return json.dumps(asdict(self)) + "\n"


def served_last(copies: Path) -> list[Release]:
    """The releases whose copies are kept in a folder, the one that was served last first."""
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
        return [Release(**each) for each in json.loads((copies / SERVED_LAST).read_text(encoding="utf-8"))]
    return []


@dataclass(frozen=True)
class Status:
    """The state of the store and of releases, as the supervisor tells it to the processes that answer.

    Attributes:
        store_answers: whether the store of releases does.
        refused: the number of the newest release, if it cannot be served.
    """

    store_answers: bool = True
    refused: int | None = None
