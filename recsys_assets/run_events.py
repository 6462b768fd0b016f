"""Events of runs in words, for the terminal and for alerts: why a step failed, and which check."""

import re

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluation
from dagster._core.executor.child_process_executor import ChildProcessCrashException

from recsys_assets.uris import without_secrets

# Dagster's own error is the name of a class: the process could not say why it ended.
KILLED = (
    "the step's process was killed: by somebody, or by the kernel because memory ran out (`dmesg` says which). Nothing "
    "was published; free memory if there was none, and run it again"
)


def failure_reason(event: dg.DagsterEvent) -> str:
    """A failed step's own error: the first line of the error that Dagster wraps, without the module's path."""
    error = event.step_failure_data.error
    if error is None:
        return event.message or "the step failed"
    while error.cause and (error.cls_name or "").startswith("Dagster"):
        error = error.cause
    return KILLED if error.cls_name == ChildProcessCrashException.__name__ else first_line(error.message)


def first_line(message: str) -> str:
    """The first line of an error, without secrets and without the path of the error's module."""
    said = without_secrets(message.strip()).partition("\n")[0]
    return re.sub(r"^(?:\w+\.)*(\w+): ", r"\1: ", said)


def check_text(found: AssetCheckEvaluation) -> str:
    """A failed check and the figures that it recorded."""
    figures = ", ".join(f"{name} {_short_text(value.value)}" for name, value in found.metadata.items())
    return f"check {found.check_name} failed ({figures})" if figures else f"check {found.check_name} failed"


def _short_text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
