"""The daily report of a bizdate, and the model card of its champion, as pages and a table."""

from collections.abc import Iterable
from dataclasses import replace

import dagster as dg
import pyarrow.parquet as pq

from recsys_assets.assets.lake_asset import Check, LakeAsset, lake_asset
from recsys_assets.io_managers import Output
from recsys_assets.manifest import DAILY
from recsys_assets.reports.card import model_card
from recsys_assets.reports.daily import make_report
from recsys_assets.reports.day import CARD, PAGE, TABLE, Absent, Day
from recsys_assets.resources import Dataset, LakeStore
from recsys_assets.settings import settings
from recsys_assets.tracking import Tracking

NOTHING_UNUSUAL = Check("nothing_is_unusual", "the day is finished, and no figure of it is unusual", blocking=False)
SECTIONS_MADE = Check("sections_are_made", "no section of the report, and no model card, failed", blocking=False)


@lake_asset(kinds={"html", "parquet"}, checks=[NOTHING_UNUSUAL, SECTIONS_MADE])
def daily_report(
    context: dg.AssetExecutionContext, output: Output, lake: LakeStore, dataset: Dataset, tracking: Tracking
) -> None:
    """The day on one page, `report.html`, which begins with what to look at; `figures.parquet` has the same figures.

    It reads manifests and tables of the lake, and the service's log of requests, if there is one. A section whose input
    is missing says so, so that the report of an unfinished day can be made too: `recsys report D --build`.
    `model_card.html` describes the champion, and is kept with its training in MLflow.
    """
    wanted = {key.to_user_string() for key in context.assets_def.dependency_keys}
    profile = dataset.load()
    requests = settings().requests(profile.name)
    day = Day(lake.lake, profile, output.manifest.bizdate, wanted, requests)
    report = make_report(day)
    output.path(PAGE).write_text(report.html, encoding="utf-8")
    pq.write_table(report.figures, output.path(TABLE), compression="zstd")
    output.manifest.rows = report.figures.num_rows
    output.manifest.metrics = {"things_to_look_at": float(len(report.attention)), **report.kept}
    _add_card(output, day, tracking, report.errors)
    for name, error in report.errors.items():
        context.log.error(f"{name} could not be made", exc_info=error)
    _record_inputs(output, day)
    output.check(NOTHING_UNUSUAL.name, not report.attention, look_at=report.attention[:20])
    output.check(SECTIONS_MADE.name, not report.errors, failed=sorted(report.errors))
    output.metadata["look at"] = dg.MetadataValue.md(
        "\n".join(f"* {each}" for each in report.attention) or "All is well."
    )
    output.metadata["report"] = dg.MetadataValue.path(f"{output.location}/{PAGE}")


def _add_card(output: Output, day: Day, tracking: Tracking, errors: dict[str, Exception]) -> None:
    """Write the champion's card, and keep it in MLflow too; without a champion there is none."""
    try:
        card = model_card(day)
        output.path(CARD).write_text(card.html, encoding="utf-8")
        output.metadata["model card"] = dg.MetadataValue.path(f"{output.location}/{CARD}")
        if run_id := day.open("rank_champion").manifest.mlflow_run_id:
            tracking.add_card(run_id, "rank", card.sha256, card.tags, output.path(CARD))
    except Absent as reason:
        output.metadata["model card"] = f"none: {reason}"
    except Exception as error:  # logged by the caller, whose check then fails: a report must not fail its day
        errors["the model card"] = error


def _record_inputs(output: Output, day: Day) -> None:
    """Record what was read, so that the report is outdated when it changes.

    Outdated partitions are left out, because nothing may be made of these, and so are days of events: a report reads
    the newest ones only, and changes of all of them reach it through `splits`.
    """
    read = [each for each in day.read.values() if each.manifest.asset not in DAILY]
    known = [each for asset, each in day.of_day.items() if asset not in DAILY]
    sound = [each for each in known if each.asset not in day.outdated]
    old = {f"{asset}/{day.bizdate}" for asset in day.outdated}
    output.add_inputs([*(each for each in read if each.manifest.name not in old), *sound])


def of_graph(report: LakeAsset, others: Iterable[str]) -> LakeAsset:
    """The report of a graph with these other assets: it runs when they have."""
    return replace(report, settings={**report.settings, "deps": sorted(others)})
