"""The reasons that people read for steps that failed."""

import os
import signal
from pathlib import Path

import dagster as dg

from recsys_assets.run_events import KILLED, failure_reason


@dg.op
def killed() -> None:
    """End without an error, as when the kernel runs out of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


@dg.op
def mistaken() -> None:
    """Fail with an error."""
    raise ValueError("three\nlines\nlong")


@dg.job(executor_def=dg.multiprocess_executor)
def both() -> None:
    """Two steps that fail."""
    killed()
    mistaken()


def test_a_killed_step_is_said_to_have_been_killed_and_another_has_its_own_error(tmp_path: Path) -> None:
    with (
        dg.DagsterInstance.local_temp(str(tmp_path)) as instance,
        dg.execute_job(dg.reconstructable(both), instance=instance) as result,
    ):
        said = {event.step_key: failure_reason(event) for event in result.all_events if event.is_step_failure}
    assert said == {"killed": KILLED, "mistaken": "ValueError: three"}
