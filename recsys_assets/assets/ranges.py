"""Ranges: the steps that make several days of an asset in one run, and how they tell Dagster what they made.

`interactions` takes any range. Other assets that train nothing, and are made of such alone, take a month: a run of them
starts in 4 to 10 s, and makes a day in 1 to 2 s.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData
from dagster._core.events import DagsterEvent, DagsterEventType

from recsys_assets.io_managers import Output

BY_MONTH = dg.BackfillPolicy.multi_run(31)


class DaysFailed(RuntimeError):
    """Some days of a range could not be made; the message names them and the first errors."""


def make_days(
    context: dg.AssetExecutionContext, days: Sequence[str], make: Callable[[str], Output]
) -> Iterator[dg.MaterializeResult[None]]:
    """Make each day, the oldest first; one that fails does not keep the others from being made.

    Raises:
        DaysFailed: days failed; Dagster knows of the others.
        RetryRequested: a store does not answer.
    """
    failed: dict[str, Exception] = {}
    done: dict[str, Output] = {}
    for day in days:
        try:
            done[day] = make(day)
        except dg.RetryRequested:
            raise
        except Exception as error:  # noqa: BLE001 (it is raised below)
            failed[day] = error
    if failed:
        report_days(context, done)
        _report_checks(context, done)
        raise DaysFailed(text_of(failed, len(days))) from next(iter(failed.values()))
    yield result_of(context, done)
    _report_checks(context, done)


def result_of(context: dg.AssetExecutionContext, done: Mapping[str, Output]) -> dg.MaterializeResult[None]:
    """The result of a step that made these days."""
    for day, output in done.items():
        context.add_asset_metadata(output.metadata, partition_key=day)
    return dg.MaterializeResult(check_results=_sum_checks(list(done.values())))


def _report_checks(context: dg.AssetExecutionContext, done: Mapping[str, Output]) -> None:
    """Report what the checks found on each day: Dagster attaches the results of a run of several days to none of them.

    The days must be reported before: Dagster shows a result with the materialization that it names.
    """
    wanted = dg.AssetRecordsFilter(context.asset_key, asset_partitions=list(done))
    for made in context.instance.fetch_materializations(wanted, limit=len(done)).records:
        target = AssetCheckEvaluationTargetMaterializationData(
            storage_id=made.storage_id, run_id=made.run_id, timestamp=made.timestamp
        )
        for result in done[str(made.partition_key)].checks:
            found = dg.AssetCheckEvaluation(
                asset_key=context.asset_key,
                check_name=str(result.check_name),
                passed=result.passed,
                metadata=result.metadata,
                target_materialization_data=target,
                partition=made.partition_key,
            )
            report_check(context, found)


def report_check(context: dg.AssetExecutionContext, found: dg.AssetCheckEvaluation) -> None:
    """Report what a check found on a day, under the run's id and no step's name.

    Without a run Dagster takes one result for each check and day, and fails with an `IntegrityError` at the next one.
    """
    kind, run = DagsterEventType.ASSET_CHECK_EVALUATION.value, context.run
    context.instance.report_dagster_event(DagsterEvent(kind, run.job_name, event_specific_data=found), run.run_id)


def _sum_checks(outputs: Sequence[Output]) -> list[dg.AssetCheckResult]:
    """One result per check over all days of the run; it names the days on which it failed."""
    by_name: dict[str, list[str]] = {}
    for output in outputs:
        for result in output.checks:
            failed_days = by_name.setdefault(str(result.check_name), [])
            if not result.passed:
                failed_days.append(output.manifest.bizdate)
    if len(outputs) == 1:
        return outputs[0].checks
    return [
        dg.AssetCheckResult(check_name=name, passed=not bad, metadata={"failed_days": bad[:100], "days": len(outputs)})
        for name, bad in by_name.items()
    ]


def report_days(context: dg.AssetExecutionContext, done: Mapping[str, Output]) -> None:
    """Report to Dagster the days that were made, although the step is going to fail."""
    for day, output in done.items():
        context.log_event(dg.AssetMaterialization(context.asset_key, partition=day, metadata=output.metadata))


def text_of(failed: Mapping[str, Exception], days: int) -> str:
    """The number of days that failed, and the first errors."""
    first = "; ".join(f"{day}: {error}" for day, error in list(failed.items())[:5])
    return f"{len(failed)} of {days} days could not be made; the others were. {first}"
