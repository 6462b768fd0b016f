"""Runs of the asset graph through Dagster's own API: what is selected, what is missing, one run and its events.

Imports Dagster and the definitions: only inside commands that need them.
"""

import datetime as dt
import difflib
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import dagster as dg
from dagster._core.definitions.assets.job.asset_job import IMPLICIT_ASSET_JOB_NAME
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.execution.api import execute_run_iterator
from dagster._core.instance.ref import InstanceRef

from recsys_assets.lake import Lake
from recsys_assets.settings import settings

DAILY = dg.AssetKey("interactions")
# The events are shown by the command itself; Dagster keeps the full log in its history.
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class SelectionError(ValueError):
    """A selection that names no asset or cannot be read."""


@dataclass(frozen=True)
class Run:
    """One Dagster run: the assets, from which day to which."""

    keys: frozenset[dg.AssetKey]
    first: str
    last: str

    @property
    def tags(self) -> dict[str, str]:
        """The partition, or the range of them, as Dagster's tags."""
        if self.first == self.last:
            return {"dagster/partition": self.first}
        return {"dagster/asset_partition_range_start": self.first, "dagster/asset_partition_range_end": self.last}


def asset_names() -> list[str]:
    """Every asset, upstream first."""
    from recsys_assets.definitions import defs

    return [key.to_user_string() for key in defs.resolve_asset_graph().toposorted_asset_keys]


def known_asset(name: str) -> None:
    """Check a name.

    Raises:
        SelectionError: there is no such asset; names like it are suggested.
    """
    if name not in (names := asset_names()):
        near = difflib.get_close_matches(name, names, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"
        raise SelectionError(f"no asset '{name}': {hint}")


def select(expression: str) -> frozenset[dg.AssetKey]:
    """Assets of a selection in Dagster's syntax: `rank_widedeep`, `+rank_report`, `group:rank`, `*`.

    `+name` means all that the asset needs, as `+key:name` does in Dagster's present syntax; its older one,
    which still reads `+name`, takes a single step.

    Raises:
        SelectionError: it cannot be read, names an unknown asset, or nothing.
    """
    from recsys_assets.definitions import defs

    names, clauses = "|".join(asset_names()), expression.split(",")
    keyed = [re.sub(rf"(?<![\w:\"/])({names})(?![\w:\"/])", r'key:"\1"', clause) for clause in clauses]
    try:
        found = _parse(keyed, clauses).resolve(defs.resolve_asset_graph())
    except dg.DagsterInvalidSubsetError as error:
        for name in re.findall(r"'(\w+)'", str(error)):  # "AssetKey(s) ['x'] were selected, but …"
            known_asset(name)
        raise SelectionError(f"selection '{expression}': {error}") from error
    except dg.DagsterError as error:
        raise SelectionError(f"selection '{expression}' cannot be read: {error}") from error
    if not found:
        raise SelectionError(f"selection '{expression}' names no asset; there are {', '.join(asset_names())}")
    return frozenset(found)


def _parse(keyed: Sequence[str], plain: Sequence[str]) -> dg.AssetSelection:
    """The clauses in the present syntax, or else (`*name`) in the older one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # Dagster's own parser of '*' causes one
        try:
            return dg.AssetSelection.from_coercible(keyed)
        except dg.DagsterError:
            return dg.AssetSelection.from_coercible(plain)


def check_bizdate(bizdate: str) -> None:
    """Check that the assets have such a partition.

    Raises:
        SelectionError: it lies outside the profile's days, or is not over yet.
    """
    from recsys_assets.partitions import bizdate as partitions

    if not partitions.has_partition_key(bizdate):
        first, last = partitions.get_first_partition_key(), partitions.get_last_partition_key()
        raise SelectionError(f"{bizdate} is no bizdate of the profile: they run from {first} to {last}")


def missing_days(keys: frozenset[dg.AssetKey], landed: Sequence[str], lake: Lake, bizdate: str) -> list[Run]:
    """Runs that ingest what the selected assets read: landed days up to the bizdate that are not in the lake."""
    from recsys_assets.definitions import defs

    graph = defs.resolve_asset_graph()
    if DAILY not in keys and not any(DAILY in graph.get(key).parent_keys for key in keys):
        return []
    there = set(lake.bizdates(DAILY.to_user_string())) | ({bizdate} if DAILY in keys else set())
    days = [dt.date.fromisoformat(day) for day in landed if day <= bizdate and day not in there]
    return [Run(frozenset({DAILY}), first.isoformat(), last.isoformat()) for first, last in stretches(days)]


def stretches(days: Sequence[dt.date]) -> list[tuple[dt.date, dt.date]]:
    """First and last day of each unbroken stretch of sorted days."""
    if not days:
        return []
    gaps = [(one, other) for one, other in pairwise(days) if (other - one).days > 1]
    return list(zip([days[0], *(other for _, other in gaps)], [*(one for one, _ in gaps), days[-1]], strict=True))


def open_instance() -> dg.DagsterInstance:
    """Dagster's instance of `DAGSTER_HOME`, by default the project's; its processes do not log to the terminal."""
    home = os.environ.get("DAGSTER_HOME") or str(settings().home)
    os.environ["DAGSTER_HOME"] = home
    return dg.DagsterInstance.from_ref(
        InstanceRef.from_dir(home, overrides={"python_logs": {"python_log_level": "INFO"}})
    )


def start(instance: dg.DagsterInstance, run: Run) -> tuple[dg.DagsterRun, Iterator[dg.DagsterEvent]]:
    """Create the run; its events come while it executes in this process (its steps in theirs)."""
    repository = ReconstructableRepository.for_module("recsys_assets.definitions", fn_name="defs")
    job = repository.get_reconstructable_job(IMPLICIT_ASSET_JOB_NAME).get_subset(asset_selection=run.keys)
    made = instance.create_run_for_job(
        job.get_definition(),
        run_config=QUIET,
        tags=run.tags,
        asset_selection=run.keys,
        job_code_origin=job.get_python_origin(),
    )
    return made, execute_run_iterator(job, made, instance)
