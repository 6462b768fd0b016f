"""Reports steps that may not begin yet: the pool that they wait for and who holds it, at once and every minute.

A pool (`training`) lets one step at a time run, across all runs of this project. Dagster reports a waiting step as an
engine event that names the pool; the event log knows who holds the pool.
"""

import contextlib
import datetime as dt
import threading
from collections.abc import Callable, Iterator

import dagster as dg
from dagster._utils.concurrency import ConcurrencyKeyInfo

REMINDER = 60.0  # seconds


class Waiting:
    """The steps of a run that wait for a pool; `say` is called with one line per step."""

    def __init__(self, instance: dg.DagsterInstance, run_id: str, say: Callable[[str], None]) -> None:
        self._instance, self._run_id, self._say = instance, run_id, say
        self._pools: dict[str, str] = {}
        self._over = threading.Event()

    def take(self, event: dg.DagsterEvent) -> None:
        """Note a step that begins to wait or to run."""
        step = event.step_key or ""
        if event.event_type == dg.DagsterEventType.STEP_START:
            self._pools.pop(step, None)
        elif event.is_engine_event and (pool := event.engine_event_data.metadata.get("pool")):
            self._pools[step] = str(pool.value)
            self._tell(step)

    @contextlib.contextmanager
    def reminding(self) -> Iterator[None]:
        """Report every minute, while the block runs, what is still waiting."""
        reminder = threading.Thread(target=self._remind, daemon=True)
        reminder.start()
        try:
            yield
        finally:
            self._over.set()
            reminder.join()

    def _remind(self) -> None:
        while not self._over.wait(REMINDER):
            for step in list(self._pools):
                self._tell(step)

    def _tell(self, step: str) -> None:
        """Say who holds the pool, unless that is a step of the same run, which the progress already shows."""
        pool = self._pools.get(step)
        info = self._instance.event_log_storage.get_concurrency_info(pool) if pool else None
        holders = self._holders(info) if info else []
        if info and holders:
            others = len({each.run_id for each in info.pending_steps if not each.assigned_timestamp} - {self._run_id})
            queue = f"; {others} more {'run waits' if others == 1 else 'runs wait'} for it" if others else ""
            self._say(f"{step} waits for the pool '{pool}': {', '.join(holders)}{queue}")

    def _holders(self, info: ConcurrencyKeyInfo) -> list[str]:
        """One text per step of another run that holds the pool."""
        slots = [slot for slot in info.claimed_slots if slot.run_id != self._run_id]
        return [f"run {slot.run_id[:8]} holds it ({self._at_work(slot.run_id, slot.step_key)})" for slot in slots]

    def _at_work(self, run_id: str, step: str) -> str:
        """A step, its bizdate and the time at which it began."""
        run = self._instance.get_run_by_id(run_id)
        day = f" {run.tags['dagster/partition']}" if run and "dagster/partition" in run.tags else ""
        started = [stats.start_time for stats in self._instance.get_run_step_stats(run_id, [step]) if stats.start_time]
        since = f", since {dt.datetime.fromtimestamp(started[0], dt.UTC):%H:%M:%S} UTC" if started else ""
        return f"{step}{day}{since}"
