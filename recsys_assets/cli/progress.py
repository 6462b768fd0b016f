"""The progress of a run on the terminal: one line per step that ended, the steps at work, and why a step failed.

Steps that may not begin yet are reported at once and every minute: the pool that they wait for, and who holds it. A
pool (`training`) lets two steps at a time run, across all runs of this project. Dagster reports a waiting step as an
engine event that names the pool; the event log knows who holds the pool.
"""

import contextlib
import datetime as dt
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import dagster as dg
from dagster._utils.concurrency import ConcurrencyKeyInfo
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from recsys_assets.run_events import check_text, failure_reason

Type = dg.DagsterEventType
REMINDER_SECONDS = 60.0  # seconds


class WaitingSteps:
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
            self._report(step)

    @contextlib.contextmanager
    def remind_in_block(self) -> Iterator[None]:
        """Report every minute, while the block runs, what is still waiting."""
        reminder = threading.Thread(target=self._remind, daemon=True)
        reminder.start()
        try:
            yield
        finally:
            self._over.set()
            reminder.join()

    def _remind(self) -> None:
        while not self._over.wait(REMINDER_SECONDS):
            for step in list(self._pools):
                self._report(step)

    def _report(self, step: str) -> None:
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


@dataclass
class Outcome:
    """The outcome of a run: seconds of the steps that succeeded, reasons of those that failed, steps never begun."""

    seconds: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    unbuilt: list[str] = field(default_factory=list)


class Follower:
    """Prints a run's events; on a terminal also a live line per step at work."""

    def __init__(self, console: Console, instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
        self.console, self.steps, self.outcome = console, run.step_keys_to_execute or [], Outcome()
        self._waiting = WaitingSteps(instance, run.run_id, self._say)
        columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
        self._live = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._running: dict[str, TaskID] = {}
        self._blocked: dict[str, list[str]] = {}

    def follow(self, events: Iterator[dg.DagsterEvent]) -> Outcome:
        """Print the events until the run has ended."""
        with self._live, self._waiting.remind_in_block():
            for event in events:
                self._waiting.take(event)
                self._take(event)
        ended = self.outcome.seconds.keys() | self.outcome.failures.keys()
        self.outcome.unbuilt = [step for step in self.steps if step not in ended]
        return self.outcome

    def _take(self, event: dg.DagsterEvent) -> None:
        step = event.step_key or ""
        match event.event_type:
            case Type.STEP_START:
                self._running[step] = self._live.add_task(step)
            case Type.STEP_SUCCESS:
                seconds = event.step_success_data.duration_ms / 1000
                self.outcome.seconds[step] = seconds
                self._end(step, f"[green]✓[/] {step}  {seconds:,.1f} s")
            case Type.STEP_FAILURE:
                why = "; ".join(self._blocked.get(step, [])) or failure_reason(event)
                self.outcome.failures[step] = f"{step}: {why}"
                self._end(step, f"[red]✗ {step}[/]  {escape(why)}")
            case Type.RUN_FAILURE | Type.RUN_CANCELED if not self.outcome.failures:
                self.outcome.failures[""] = event.message or "the run failed or was cancelled"
            case Type.ASSET_CHECK_EVALUATION if event.step_key:  # not what the run found outdated
                self._check(event)

    def _end(self, step: str, line: str) -> None:
        if step in self._running:
            self._live.remove_task(self._running.pop(step))
        done = len(self.outcome.seconds) + len(self.outcome.failures)
        self.console.print(f"[dim]{done:>3}/{len(self.steps)}[/] {line}", highlight=False, soft_wrap=True)

    def _say(self, line: str) -> None:
        """Print a line that does not report the end of a step."""
        self.console.print(f"      [yellow]{escape(line)}[/]", highlight=False, soft_wrap=True)

    def _check(self, event: dg.DagsterEvent) -> None:
        found = event.asset_check_evaluation_data
        if found.passed:
            return
        text = check_text(found)
        if found.blocking:
            self._blocked.setdefault(event.step_key or "", []).append(text)
        else:
            self._say(f"{found.asset_key.to_user_string()}: {text}")
