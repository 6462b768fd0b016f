"""The place of an application among the processes of a service: shared limits, and what is said of the store."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from recsys_assets.serving.limits import Limits, Rates
from recsys_assets.serving.order import Status


@dataclass(frozen=True)
class Place:
    """Where an application runs.

    Attributes:
        limits: of requests.
        rates: of clients, shared by all processes; None: they are not limited.
        status: the file in which the supervisor says how the store is; None: there is no supervisor.
        supervisor: its process; 0: there is none.
        keeper: the process that looks after those that answer.
        copies: the folder of the copies of releases; None: there is none.
    """

    limits: Limits = Limits()
    rates: Rates | None = None
    status: Path | None = None
    supervisor: int = 0
    keeper: int = 0
    copies: Path | None = None

    def said(self) -> Status:
        """The supervisor's latest words."""
        if self.status:
            with contextlib.suppress(OSError, ValueError, TypeError):
                return Status(**json.loads(self.status.read_text(encoding="utf-8")))
        return Status()

    def memory(self) -> Iterator[int]:
        """Bytes of each process of the service; memory that several share counts for each in equal parts."""
        family = [psutil.Process()]
        if self.keeper and os.getppid() == self.keeper:
            keeper = psutil.Process(self.keeper)
            family = [keeper, *keeper.children()]
        for each in family:
            with contextlib.suppress(psutil.Error):
                yield each.memory_full_info().pss


ALONE = Place()
