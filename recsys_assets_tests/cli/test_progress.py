"""A run whose step may not begin yet reports what it waits for, and which run holds it."""

import io
import threading
import time
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run_iterator
from rich.console import Console

from recsys_assets.cli import progress
from recsys_assets.cli.progress import Follower

POOL = "training"


@dg.op(pool=POOL)
def rank_lgbm() -> None:
    """A step that needs the pool."""


@dg.job(executor_def=dg.in_process_executor)
def everything() -> None:
    """A job with this step."""
    rank_lgbm()


def test_a_step_that_is_held_up_names_the_pool_and_the_run_that_holds_it_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "REMINDER_SECONDS", 0.4)
    (tmp_path / "dagster.yaml").write_text("concurrency: {pools: {granularity: op, default_limit: 1}}")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        slots = instance.event_log_storage
        holder = instance.create_run_for_job(everything, tags={"dagster/partition": "2026-06-30"})
        other = instance.create_run_for_job(everything)
        slots.initialize_concurrency_limit_to_default(POOL)
        assert slots.claim_concurrency_slot(POOL, holder.run_id, "rank_din").is_claimed
        assert not slots.claim_concurrency_slot(POOL, other.run_id, "rank_fm", priority=-1).is_claimed
        release = threading.Timer(2.0, slots.free_concurrency_slots_for_run, [holder.run_id])
        release.start()
        run = instance.create_run_for_job(everything)
        shown = io.StringIO()
        follower = Follower(Console(file=shown, width=200), instance, run)
        began = time.monotonic()
        outcome = follower.follow(execute_run_iterator(InMemoryJob(everything), run, instance))
    assert time.monotonic() - began > 2
    assert (outcome.failures, [*outcome.seconds]) == ({}, ["rank_lgbm"])
    lines = [line for line in shown.getvalue().splitlines() if "waits" in line]
    said = f"rank_lgbm waits for the pool 'training': run {holder.run_id[:8]} holds it (rank_din 2026-06-30"
    assert len(lines) >= 2 and all(said in line for line in lines)
    assert lines[0].endswith("1 more run waits for it")
