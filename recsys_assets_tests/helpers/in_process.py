"""Runs assets in the test's own process, with the folders and servers that the environment names."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from recsys_assets.definitions import build_defs

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def materialize(
    names: Sequence[str],
    first: str,
    last: str | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    instance: dg.DagsterInstance | None = None,
) -> dg.ExecuteInProcessResult:
    """Materialize assets for one day, or in one run for the days from `first` to `last`; returns failures too.

    `config` has the settings of assets, by name.
    """
    defs = build_defs()
    span = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last or first}
    return dg.materialize(
        [asset for asset in defs.assets or () if isinstance(asset, dg.AssetsDefinition)],
        selection=list(names),
        resources=defs.resources,
        partition_key=None if last else first,
        tags=span if last else None,
        instance=instance,
        run_config={**QUIET, "ops": {name: {"config": each} for name, each in (config or {}).items()}},
        raise_on_error=False,
    )


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
