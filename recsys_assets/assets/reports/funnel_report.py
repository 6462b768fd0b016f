"""End-to-end evaluation of the recommendation funnel on the online rows, which nothing was trained or chosen on."""

import json
from collections.abc import Mapping
from typing import get_args

import dagster as dg
import numpy as np
import pyarrow.parquet as pq

from recsys_assets.arrays import Ints
from recsys_assets.assets.funnel.model import tables
from recsys_assets.assets.lake_asset import FIRST, Check, lake_asset
from recsys_assets.assets.reports import funnel_tables, show
from recsys_assets.assets.reports.comparison import Figures
from recsys_assets.assets.reports.hitrate import ONE_EACH
from recsys_assets.checks import check_unique
from recsys_assets.datasets.duck import connect, scan
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import Right
from recsys_assets.declined import CannotBeBuilt
from recsys_assets.funnel import evaluation, recommendations
from recsys_assets.funnel.channels import catalogue
from recsys_assets.funnel.funnel import NEEDED, Funnel, events_of
from recsys_assets.funnel.inputs import OPTIONAL, read_inputs
from recsys_assets.funnel.learning import Evidence
from recsys_assets.funnel.merge import Fusion
from recsys_assets.funnel.model import DESCRIPTION, FunnelLists, fused_lists
from recsys_assets.funnel.stopwatch import Stopwatch
from recsys_assets.io_managers import Output
from recsys_assets.manifest import Partition
from recsys_assets.parallel import one_blas_thread
from recsys_assets.ranking.bootstrap import SEED, Comparison
from recsys_assets.resources import Dataset, LakeStore
from recsys_assets.retrieval.details import faults
from recsys_assets.retrieval.interactions import Interactions, Queries, queries
from recsys_assets.retrieval.qualities import qualities

RECOMMENDATIONS = "recommendations.parquet"
EQUAL, LONGEST = evaluation.MADE[-1], max(evaluation.FINAL_CUTOFFS)
FINAL_LISTS_SOUND = Check(
    "lists_are_sound", "no final list holds an item twice, or a seen one if the profile filters them out"
)
FINAL_BEATS_ALL = Check(
    "final_beats_all", "the final list's NDCG@50 is above each channel's by its whole interval", blocking=False
)


@lake_asset(
    code_version="2",
    ins={asset: dg.AssetIn() for asset in NEEDED},
    deps=list(OPTIONAL),  # see `funnel/inputs.py`
    kinds={"onnx", "numpy", "parquet", "markdown"},
    op_tags=FIRST,
    checks=[FINAL_LISTS_SOUND, ONE_EACH, FINAL_BEATS_ALL],
)
def funnel_report(output: Output, lake: LakeStore, dataset: Dataset, **needed: Partition) -> None:
    """Every user's list as a service would make it: the served channels, the merge, features, the learned order.

    Each step is judged by the online rows, which nothing else uses: what a user touched next, or liked, as the profile
    says. The recall methods and the ranker were trained on rows before the test rows, the order was learned on these;
    features of users and items are as of the last offline row. The final list is compared with the merged candidates,
    with reciprocal rank fusion of all channels with equal weights, and with each channel alone, served or not.

    Channels that were not built are left out; without a champion, its probability is unknown to the learned order.

    The 95 % intervals come from 200 draws of users; differences are on the same draws.
    """
    profile = dataset.load()
    inputs, watch = read_inputs(profile, lake.lake, output.manifest.bizdate, needed), Stopwatch()
    output.add_optional_inputs(inputs.partitions, needed, inputs.without)
    output.manifest.config = {"filter_seen": profile.recall.filter_seen, "right": profile.funnel.right}
    output.manifest.seed = SEED
    with watch("open"):
        events = events_of(inputs["splits"], inputs["users"])
        funnel = Funnel(profile, inputs, events, watch)
    with one_blas_thread():
        asked, found = funnel.lists_of(np.arange(len(events.user_ids)))
    with watch("write"):
        table = recommendations.table(events, asked, found.served, found.final)
        pq.write_table(table, output.path(RECOMMENDATIONS), compression="zstd")
    output.manifest.rows = len(asked)
    with watch("judge"):
        _report(output, profile, events, found, needed["funnel_model"])
    _check(output, events, asked, found, profile.recall.filter_seen)
    output.metadata["where the time goes"] = funnel_tables.seconds(watch.seconds)


def _report(output: Output, profile: Profile, events: Interactions, found: FunnelLists, learned: Partition) -> None:
    """Report figures, intervals, losses and slices as metrics, as tables in a file and the metadata, and as plots."""
    filter_seen, items = profile.recall.filter_seen, _items(events, found)
    kinds: dict[str, Queries] = {right: queries(events, "online", filter_seen, right) for right in profile.rights}
    right = kinds.pop(profile.funnel.right)
    if not len(right):
        raise CannotBeBuilt("no user has a new item among the online rows: land more days, or widen that part")
    judgements = {name: evaluation.judge(listed[right.users], right) for name, listed in items.items()}
    figures = {name: each.figures() for name, each in judgements.items()}
    comparison = evaluation.compare(judgements, "final")
    everything = queries(events, "online", False, "touched")
    theirs = {name: listed[everything.users] for name, listed in items.items()}
    lost = evaluation.losses(events, everything, catalogue(events, "online"), theirs, filter_seen)
    parts = evaluation.slices(events, right, kinds)
    sliced = {part: _ndcg(items, asked) for part, asked in parts.items()}
    _measure(output, figures, comparison, lost, sliced)
    show.report(
        output,
        "Funnel",
        funnel_tables.intervals(figures, comparison)
        | {
            "besides hits": funnel_tables.qualities(
                {
                    name: qualities(listed[right.users], right, events.before("online"), evaluation.FINAL_CUTOFFS[-1])
                    for name, listed in items.items()
                }
            ),
            "where the right answers end": funnel_tables.losses(lost),
            **_choices(learned),
            "slices (NDCG@50)": funnel_tables.slices(sliced, {part: len(asked.truth) for part, asked in parts.items()}),
        },
    )
    output.metadata["NDCG@50"] = show.picture(funnel_tables.ndcg_plot(figures, comparison))
    output.metadata["right answers"] = show.picture(funnel_tables.losses_plot(lost))


def _items(events: Interactions, found: FunnelLists) -> dict[str, Ints]:
    """The items of each list that is judged: the made ones, then the channels'."""
    made = {"final": found.final.lists.items, "candidates": found.candidates.items}
    equal = fused_lists(found.channels, Fusion.equal(tuple(found.channels)), len(events.item_ids), LONGEST)
    return {**made, EQUAL: equal.items, **{name: listed.items for name, listed in found.channels.items()}}


def _choices(learned: Partition) -> dict[str, dg.MarkdownMetadataValue]:
    """Tables of the channels that are served, and of the figures that this was chosen by."""
    content = json.loads(learned.path(DESCRIPTION).read_text(encoding="utf-8"))
    return tables(Evidence(**content["evidence"]), content["fusion"]["weights"])


def _ndcg(items: Mapping[str, Ints], asked: Queries) -> dict[str, float]:
    """NDCG@50 of each list for some queries."""
    return {
        name: evaluation.judge(listed[asked.users], asked).figures()[evaluation.MAIN] for name, listed in items.items()
    }


def _measure(
    output: Output, figures: Figures, comparison: Comparison, lost: Mapping[str, int], sliced: Figures
) -> None:
    """Metrics as `<list>.<metric>`; for NDCG@50 also intervals and other right items; answers lost by step."""
    named, main = output.manifest.metrics, evaluation.MAIN
    for name, values in figures.items():
        named |= {f"{name}.{metric}": value for metric, value in values.items()}
    for kind in get_args(Right):
        named |= {f"{name}.{kind}.{main}": value for name, value in sliced.get(kind, {}).items()}
    ranges = {f"{name}.{main}": found[main] for name, found in comparison.intervals.items()}
    ranges |= {f"final_minus_{name}.{main}": found[main] for name, found in comparison.differences.items()}
    for name, interval in ranges.items():
        named |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
    named |= {f"truths_{step.replace(' ', '_')}": float(count) for step, count in lost.items()}
    named["truths"] = float(sum(lost.values()))
    leads = [found[main].low for name, found in comparison.differences.items() if name not in evaluation.MADE]
    output.check(FINAL_BEATS_ALL.name, min(leads) > 0, lowest_difference=min(leads))


def _check(output: Output, events: Interactions, asked: Queries, found: FunnelLists, filter_seen: bool) -> None:
    """Check the final lists."""
    wrong = faults(events, asked, found.final.lists, filter_seen)
    output.check(FINAL_LISTS_SOUND.name, not any(wrong.values()), **wrong)
    with connect() as connection:
        check_unique(output, connection, scan([output.path(RECOMMENDATIONS)]), ["user_id"])
