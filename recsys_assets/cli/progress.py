"""The progress of a run on the terminal: one line per step that ended, the steps at work, and why a step failed."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import dagster as dg
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from recsys_assets.cli.waiting import Waiting
from recsys_assets.uris import without_secrets

Type = dg.DagsterEventType


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
        self._waiting = Waiting(instance, run.run_id, self._say)
        columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
        self._live = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._running: dict[str, TaskID] = {}
        self._blocked: dict[str, list[str]] = {}

    def follow(self, events: Iterator[dg.DagsterEvent]) -> Outcome:
        """Print the events until the run has ended."""
        with self._live, self._waiting.reminding():
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
                why = "; ".join(self._blocked.get(step, [])) or reason(event)
                self.outcome.failures[step] = f"{step}: {why}"
                self._end(step, f"[red]✗ {step}[/]  {escape(why)}")
            case Type.RUN_FAILURE | Type.RUN_CANCELED if not self.outcome.failures:
                self.outcome.failures[""] = event.message or "the run failed or was cancelled"
            case Type.ASSET_CHECK_EVALUATION:
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
        figures = ", ".join(f"{name} {_short(value.value)}" for name, value in found.metadata.items())
        text = f"check {found.check_name} failed ({figures})" if figures else f"check {found.check_name} failed"
        if found.blocking:
            self._blocked.setdefault(event.step_key or "", []).append(text)
        else:
            self._say(f"{found.asset_key.to_user_string()}: {text}")


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def reason(event: dg.DagsterEvent) -> str:
    """A failed step's own error: the first line of the error that Dagster wraps, without the module's path."""
    error = event.step_failure_data.error
    if error is None:
        return event.message or "the step failed"
    while error.cause and (error.cls_name or "").startswith("Dagster"):
        error = error.cause
    said = without_secrets(error.message.strip()).partition("\n")[0]
    return re.sub(r"^(?:\w+\.)*(\w+): ", r"\1: ", said)
