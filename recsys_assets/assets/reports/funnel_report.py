"""End-to-end evaluation of the recommendation funnel on the online rows, which nothing was trained or chosen on."""

from collections.abc import Mapping

import dagster as dg
import numpy as np
import pyarrow.parquet as pq

from recsys_assets.arrays import Ints
from recsys_assets.assets.lake_asset import Check, lake_asset
from recsys_assets.assets.model_asset import with_tuned_settings
from recsys_assets.assets.reports import funnel_tables, show
from recsys_assets.assets.reports.comparison import Figures
from recsys_assets.assets.reports.funnel_lists import READS, FunnelLists, events_of, recommend
from recsys_assets.assets.reports.hitrate import ONE_EACH
from recsys_assets.checks import check_unique
from recsys_assets.datasets.duck import connect, scan
from recsys_assets.declined import CannotBeBuilt
from recsys_assets.funnel import evaluation, merge, recommendations
from recsys_assets.funnel.channels import catalogue
from recsys_assets.funnel.scoring import open_champion
from recsys_assets.funnel.stopwatch import Stopwatch
from recsys_assets.io_managers import Output
from recsys_assets.manifest import Partition
from recsys_assets.ranking.bootstrap import SEED, Comparison
from recsys_assets.ranking.champion import read_champion
from recsys_assets.resources import Dataset, LakeStore
from recsys_assets.retrieval.details import faults
from recsys_assets.retrieval.interactions import Interactions, Queries, queries, user_queries

RECOMMENDATIONS = "recommendations.parquet"
FINAL_LISTS_SOUND = Check(
    "lists_are_sound", "no final list holds an item twice, or a seen one if the profile filters them out"
)
FINAL_BEATS_ALL = Check(
    "final_beats_all", "the final list's NDCG@50 is above each channel's by its whole interval", blocking=False
)


class FunnelConfig(merge.Funnel, dg.Config):
    """Settings of the funnel; the defaults were chosen on test rows of MovieLens 1M (see `funnel/merge.py`)."""


@lake_asset(
    ins={asset: dg.AssetIn() for asset in READS},
    kinds={"onnx", "numpy", "parquet", "markdown"},
    checks=[FINAL_LISTS_SOUND, ONE_EACH, FINAL_BEATS_ALL],
    tolerates_declined=True,
)
def funnel_report(output: Output, config: FunnelConfig, lake: LakeStore, dataset: Dataset, **inputs: Partition) -> None:
    """Every user's list as a service would make it: channels, merge, features, the champion's ONNX file, the best 50.

    Each step is judged by the online rows, which nothing else uses: what a user touched next, liked or not. The recall
    methods and the ranker were trained on rows before the test rows; features of users and items are as of the last
    offline row. The final list is compared with the merged candidates and with each channel alone.

    Channels that cannot be built are left out; without a champion, the merged candidates are the final list.

    The 95 % intervals come from 200 draws of users; differences are on the same draws.
    """
    profile = dataset.load()
    config = with_tuned_settings(output, lake, profile, "funnel", config)
    champion = read_champion(inputs["rank_champion"]) if "rank_champion" in inputs else None
    scorer, of_champion = open_champion(lake.lake, champion) if champion else (None, [])
    filter_seen, watch = profile.recall.filter_seen, Stopwatch()
    output.add_inputs(of_champion)
    output.manifest.config, output.manifest.seed = {"filter_seen": filter_seen, **config.model_dump()}, SEED
    with watch("read events"):
        events = events_of(inputs)
        asked = user_queries(events, "online", np.arange(len(events.user_ids)))
    found = recommend(profile, inputs, scorer, events, asked, config, watch)
    with watch("write"):
        table = recommendations.table(events, asked, found.channels, found.final)
        pq.write_table(table, output.path(RECOMMENDATIONS), compression="zstd")
    output.manifest.rows = len(asked)
    with watch("judge"):
        _report(output, events, found, filter_seen)
    _check(output, events, asked, found, filter_seen)
    output.metadata["where the time goes"] = funnel_tables.seconds(watch.seconds)


def _report(output: Output, events: Interactions, found: FunnelLists, filter_seen: bool) -> None:
    """Report figures, intervals, losses and slices as metrics, as tables in a file and the metadata, and as plots."""
    items = {"final": found.final.lists.items, "candidates": found.candidates.items}
    items |= {name: listed.items for name, listed in found.channels.items()}
    right = queries(events, "online", filter_seen, liked=False)
    if not len(right):
        raise CannotBeBuilt("no user has a new item among the online rows: land more days, or widen that part")
    judgements = {name: evaluation.judge(listed[right.users], right) for name, listed in items.items()}
    figures = {name: each.figures() for name, each in judgements.items()}
    comparison = evaluation.compare(judgements, "final")
    everything = queries(events, "online", False, liked=False)
    theirs = {name: listed[everything.users] for name, listed in items.items()}
    lost = evaluation.losses(events, everything, catalogue(events, "online"), theirs, filter_seen)
    parts = evaluation.slices(events, right, queries(events, "online", filter_seen))
    sliced = {part: _ndcg(items, asked) for part, asked in parts.items()}
    _measure(output, figures, comparison, lost, sliced)
    show.report(
        output,
        "Funnel",
        funnel_tables.intervals(figures, comparison)
        | {
            "where the right answers end": funnel_tables.losses(lost),
            "slices (NDCG@50)": funnel_tables.slices(sliced, {part: len(asked.truth) for part, asked in parts.items()}),
        },
    )
    output.metadata["NDCG@50"] = show.picture(funnel_tables.ndcg_plot(figures, comparison))
    output.metadata["right answers"] = show.picture(funnel_tables.losses_plot(lost))


def _ndcg(items: Mapping[str, Ints], asked: Queries) -> dict[str, float]:
    """NDCG@50 of each list for some queries."""
    return {
        name: evaluation.judge(listed[asked.users], asked).figures()[evaluation.MAIN] for name, listed in items.items()
    }


def _measure(
    output: Output, figures: Figures, comparison: Comparison, lost: Mapping[str, int], sliced: Figures
) -> None:
    """Metrics as `<list>.<metric>`; for NDCG@50 also intervals and liked items only; right answers lost by step."""
    named, main = output.manifest.metrics, evaluation.MAIN
    for name, values in figures.items():
        named |= {f"{name}.{metric}": value for metric, value in values.items()}
    named |= {f"{name}.liked.{main}": value for name, value in sliced.get("liked", {}).items()}
    ranges = {f"{name}.{main}": found[main] for name, found in comparison.intervals.items()}
    ranges |= {f"final_minus_{name}.{main}": found[main] for name, found in comparison.differences.items()}
    for name, interval in ranges.items():
        named |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
    named |= {f"truths_{step.replace(' ', '_')}": float(count) for step, count in lost.items()}
    named["truths"] = float(sum(lost.values()))
    lowest = min(found[main].low for name, found in comparison.differences.items() if name != "candidates")
    output.check(FINAL_BEATS_ALL.name, lowest > 0, lowest_difference=lowest)


def _check(output: Output, events: Interactions, asked: Queries, found: FunnelLists, filter_seen: bool) -> None:
    """Check the final lists."""
    wrong = faults(events, asked, found.final.lists, filter_seen)
    output.check(FINAL_LISTS_SOUND.name, not any(wrong.values()), **wrong)
    with connect() as connection:
        check_unique(output, connection, scan([output.path(RECOMMENDATIONS)]), ["user_id"])
