"""Runs assets in the test's own process, with the folders and servers that the environment names."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import dagster as dg
from alembic import command
from dagster._core.storage import sql
from dagster._core.storage.event_log import InMemoryEventLogStorage

from recsys_assets import step_imports  # noqa: F401 -- it keeps Dagster's migrations in memory
from recsys_assets.assets import assets_of
from recsys_assets.datasets.profile import load_profile
from recsys_assets.io_managers import LakeIOManager
from recsys_assets.resources import resources
from recsys_assets.settings import settings

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

# A new instance reads the migrations through this name.
command.ScriptDirectory = sql.ScriptDirectory  # type: ignore[attr-defined]


@contextmanager
def _connection(log: InMemoryEventLogStorage, another: Any = InMemoryEventLogStorage._connect) -> Iterator[Any]:
    """The connection that an event log in memory holds, in the thread that made it.

    Dagster opens and prepares another one for each event and each query: a tenth of the time of a run.
    """
    if threading.current_thread() is not threading.main_thread():
        with another(log) as connection:
            yield connection
    else:
        with log._db_lock, log._held_conn.begin():
            yield log._held_conn


InMemoryEventLogStorage._connect = _connection  # type: ignore[method-assign, assignment]


def materialize(
    names: Sequence[str],
    first: str,
    last: str | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    instance: dg.DagsterInstance | None = None,
) -> dg.ExecuteInProcessResult:
    """Materialize assets for one day, or in one run for the days from `first` to `last`; returns failures too.

    `names` may be selections such as `+splits`; `config` has the settings of assets, by name.
    """
    span = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last or first}
    job = job_of_all_assets()
    return job.execute_in_process(
        asset_selection=list(dg.AssetSelection.from_coercible(names).resolve(job.asset_layer.asset_graph)),
        partition_key=None if last else first,
        tags=span if last else None,
        instance=instance,
        run_config={**QUIET, "ops": {name: {"config": each} for name, each in (config or {}).items()}},
        raise_on_error=False,
    )


def job_of_all_assets() -> dg.JobDefinition:
    """The job of all assets of the environment's profile and stores; tests of the same ones share it."""
    profile = load_profile().model_copy(update={"landing": None})  # it may land anywhere
    return _job(settings().profile, f"{profile!r} {sorted(settings().stores)}")


@lru_cache(maxsize=2)
def _job(_profile: str, content: str) -> dg.JobDefinition:
    provided = resources()
    definitions = dg.Definitions(
        assets=_assets(content), resources={**provided, "io_manager": LakeIOManager(store=provided["lake"])}
    )
    return definitions.resolve_implicit_global_asset_job_def()


@lru_cache(maxsize=2)
def _assets(_content: str) -> list[dg.AssetsDefinition]:
    """The assets depend on what the profile says; where its file is only matters to the job's resources."""
    return assets_of(load_profile())


def failures(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """The errors of the failed steps by step: type and message."""
    said = {}
    for event in result.all_events:
        if event.is_step_failure and event.step_key:
            error = event.step_failure_data.error
            while error and error.cause and (error.cls_name or "").startswith("Dagster"):
                error = error.cause  # Dagster wraps the asset's exception
            said[event.step_key] = error.message if error else ""
    return said


def failed_checks(result: dg.ExecuteInProcessResult) -> set[str]:
    """The checks that did not pass, as `asset:check`."""
    found = [each for each in result.get_asset_check_evaluations() if not each.passed]
    return {f"{each.asset_key.to_user_string()}:{each.check_name}" for each in found}
