"""What people are told about steps that failed."""

import os
import signal
from pathlib import Path

import dagster as dg

from recsys_assets.run_events import KILLED, failure_reason


@dg.op
def killed() -> None:
    """Ends without an error, as under the kernel's out-of-memory killer."""
    os.kill(os.getpid(), signal.SIGKILL)


@dg.op
def mistaken() -> None:
    """Fails with an error of its own."""
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
