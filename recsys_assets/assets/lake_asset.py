"""The asset decorator `lake_asset`, and how an asset declares its checks.

An asset is a function that reads its inputs, calls one function of a lower floor and fills its `output`. The decorator
opens the partition, records every input in its manifest, and publishes it when the function returns. Its result belongs
to no profile yet: `build_defs` reads the profile and gives each asset the profile's days with `LakeAsset.define`.
"""

import functools
import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dagster as dg

from recsys_assets.assets.ranges import make_days, report_check
from recsys_assets.declined import CannotBeBuilt
from recsys_assets.io_managers import CAN_BE_BUILT, UP_TO_DATE, Output, write_partition
from recsys_assets.lake import Lake
from recsys_assets.lineage import Lineage
from recsys_assets.manifest import Partition, describe_outdated
from recsys_assets.resources import LakeStore
from recsys_assets.retries import retrying

# Of the steps that could begin, Dagster takes those with the highest priority. Much waits for two-tower models, which
# train longest, and for the champion and the funnel; one core had nothing to do for minutes when they came last.
FIRST = {"dagster/priority": "1"}


@dataclass(frozen=True)
class Check:
    """A property that an asset's partition must have; downstream assets refuse one that fails a blocking check.

    A floor of a figure does not block: `check_floor` of `checks.py` declines what needs the partition.
    """

    name: str
    description: str
    blocking: bool = True

    def spec(self, asset: str, bizdate: dg.PartitionsDefinition) -> dg.AssetCheckSpec:
        """The check as Dagster knows it."""
        return dg.AssetCheckSpec(
            self.name, asset=asset, description=self.description, blocking=self.blocking, partitions_def=bizdate
        )


@dataclass(frozen=True)
class LakeAsset:
    """An asset that no profile has been chosen for.

    Attributes:
        key: its key.
        function: the function that Dagster calls.
        checks: the properties that the function checks.
        settings: further arguments of `dg.asset`.
    """

    key: str
    function: Callable[..., Any]
    checks: Sequence[Check]
    settings: Mapping[str, Any]

    def define(self, bizdate: dg.PartitionsDefinition, group: str) -> dg.AssetsDefinition:
        """The asset in a group, with the days of a profile as its partitions."""
        with warnings.catch_warnings():
            # Without its partitions_def a check would cover all partitions; the argument has been in preview since
            # 1.13. `backfill_policy` lets an asset take a range of days in one run; Dagster calls the argument beta.
            warnings.simplefilter("ignore", dg.PreviewWarning)
            warnings.simplefilter("ignore", dg.BetaWarning)
            make: Callable[[Callable[..., Any]], dg.AssetsDefinition] = dg.asset(
                name=self.key,
                group_name=group,
                partitions_def=bizdate,
                owners=["team:recsys"],
                check_specs=[check.spec(self.key, bizdate) for check in self.checks],
                **self.settings,
            )
            return make(self.function)


# `report_outdated` fails this check when a day of events that the partition was built from is materialized again.
INPUTS_UNCHANGED = Check(
    UP_TO_DATE,
    "nothing that the partition was built from has changed since; `recsys refresh` rebuilds outdated partitions",
    blocking=False,
)
BUILDABLE = Check(
    CAN_BE_BUILT,
    "the data have what the method needs; otherwise the partition is declined: it holds the reason and no files",
    blocking=False,
)
LANDED = frozenset({"interactions", "users", "items"})  # built from landing files, not from other partitions


def lake_asset(
    *,
    kinds: set[str],
    checks: Sequence[Check] = (),
    code_version: str = "1",
    name: str | None = None,
    tolerates_declined: bool = False,
    **settings: Any,
) -> Callable[[Callable[..., Any]], LakeAsset]:
    """`dg.asset` with the settings that all assets of the lake share: the bizdate, an owner, checks per partition.

    The function is given its partition as `output` to fill in, and returns nothing. Its inputs are its parameters that
    are partitions; whatever else it reads it adds with `output.add_inputs`. A function without the parameter `output`
    writes its partitions itself: `interactions`, which is given several days at once.

    If the function raises `CannotBeBuilt`, or an input that it needs is declined or below its floor, its partition is
    declined, for the same reason.

    Args:
        kinds: the libraries and formats that the UI shows.
        checks: the properties that the function checks.
        code_version: part of the fingerprint. Raise it when the function makes other data from the same inputs, config
            and seed: partitions made before then differ from new ones, and the UI marks them as outdated.
        name: the asset's key, by default the function's name.
        tolerates_declined: whether the function does without such inputs. It gets those that it collects in a
            parameter `**…` without them, whose reasons are in `output.without`; it still needs every input
            that it names.
        settings: further arguments of `dg.asset`.
    """

    def declare(function: Callable[..., Any]) -> LakeAsset:
        key = name or function.__name__
        declared = [*checks, *([] if key in LANDED else [INPUTS_UNCHANGED, BUILDABLE])]
        made = _with_output(function, tolerates_declined)
        return LakeAsset(key, made, declared, {"kinds": kinds, "code_version": code_version, **settings})

    return declare


def _with_output(function: Callable[..., Any], tolerates_declined: bool) -> Callable[..., Any]:
    """The function that Dagster calls: it opens the partition with all inputs, runs the asset's own, and publishes."""
    wanted = inspect.signature(function).parameters
    if "output" not in wanted:
        return function

    def write_day(context: dg.AssetExecutionContext, lake: LakeStore, day: str, given: Mapping[str, Any]) -> Output:
        inputs = [each for each in given.values() if isinstance(each, Partition)]
        with write_partition(context, lake, inputs, day) as output:
            known = {"context": context, "lake": lake, "output": output}
            collected = given.keys() - wanted.keys() if tolerates_declined else set()
            given = _without_declined(output, given, collected)
            if not output.manifest.declined:
                with _declining(output):
                    function(**{each: known[each] for each in known if each in wanted}, **given)
        return output

    def write(context: dg.AssetExecutionContext, lake: LakeStore, **given: Any) -> Iterator[dg.MaterializeResult]:
        def make(day: str) -> Output:
            with retrying(context.retry_number):
                return write_day(context, lake, day, _inputs_of(lake, day, given))

        days = list(context.partition_keys)
        if len(days) == 1:
            yield make(days[0]).result()
        else:
            yield from make_days(context, days, make)

    # Dagster finds resources, config and inputs by the names and types of the parameters.
    shown = inspect.signature(write)
    parameters = {**shown.parameters, **wanted}
    del parameters["given"], parameters["output"]
    functools.update_wrapper(write, function)
    write.__signature__ = shown.replace(parameters=list(parameters.values()))  # type: ignore[attr-defined]
    return write


def _inputs_of(lake: LakeStore, day: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a day, for those of the newest day of the run."""
    lineage = Lineage(lake.lake)
    return {
        name: lake.read(each.manifest.asset, day, lineage)
        if isinstance(each, Partition) and each.manifest.bizdate != day
        else each
        for name, each in given.items()
    }


def _without_declined(output: Output, given: Mapping[str, Any], spared: Set[str]) -> dict[str, Any]:
    """The arguments without partitions that nothing can be built on: `output` is declined, unless it is spared them."""
    unfit = {
        name: each.manifest for name, each in given.items() if isinstance(each, Partition) and each.manifest.why_not
    }
    output.without = {unfit[name].asset: unfit[name].why_not for name in unfit if name in spared}
    if reasons := dict.fromkeys(each.why_not for name, each in unfit.items() if name not in spared):
        output.decline("; ".join(reasons))
    return {name: each for name, each in given.items() if name not in unfit}


@contextmanager
def _declining(output: Output) -> Iterator[None]:
    """Decline the output if the block finds that it cannot be built."""
    try:
        yield
    except CannotBeBuilt as error:
        output.decline(str(error))


def report_outdated(context: dg.AssetExecutionContext, lake: Lake, changed: Iterable[str]) -> None:
    """Fail `up_to_date` for every partition that was built from one of the changed ones (`asset/bizdate`)."""
    names, lineage = sorted(changed), Lineage(lake)
    for made in lineage.dependents(names) if names else []:
        because = describe_outdated(made, lineage.outdated_inputs(made))
        report_check(
            context,
            dg.AssetCheckEvaluation(
                asset_key=dg.AssetKey(made.asset),
                check_name=UP_TO_DATE,
                passed=False,
                metadata={"because": because},
                blocking=False,
                partition=made.bizdate,
            ),
        )
