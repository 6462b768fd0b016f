"""Evaluation of recall: every method answers the same queries, on the test rows."""

from collections.abc import Callable

import dagster as dg
import numpy as np

from recsys_assets.assets.lake_asset import Check, LakeAsset, lake_asset
from recsys_assets.assets.reports import show
from recsys_assets.checks import check_unique
from recsys_assets.datasets.duck import connect, scan
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.declined import CannotBeBuilt
from recsys_assets.funnel.channels import catalogue
from recsys_assets.funnel.methods import RECALL_METHODS, Method
from recsys_assets.io_managers import Output
from recsys_assets.manifest import Partition
from recsys_assets.resources import Dataset
from recsys_assets.retrieval import judging
from recsys_assets.retrieval.details import DETAILS
from recsys_assets.retrieval.interactions import BLOCK, Interactions, Queries, judged_queries, read
from recsys_assets.retrieval.judging import Judged
from recsys_assets.retrieval.lists import CUTOFFS, Lists, chance_recall, judge_among
from recsys_assets.retrieval.qualities import qualities

LENGTH = max(CUTOFFS)
NO_QUERIES = "no user has a new positive among the test rows: land more days, or widen the test part in `split`"
SOUND = Check(
    "lists_are_sound", "no list holds an item twice, or a seen one if seen items are filtered out; scores descend"
)
ONE_EACH = Check("unique_keys", "one row per user")
ONE_PER_QUERY = Check("unique_keys", "one row per user, or per event with the split `successive`")
BETTER = Check(
    "better_than_random",
    "the recall@50 is above what random lists would reach; the recall@20 if 50 items are all that a list can hold",
    blocking=False,
)


def hitrate(name: str, method: Method) -> LakeAsset:
    """The asset that judges one method."""
    checks = [SOUND, ONE_PER_QUERY, *([BETTER] if name != "random" else [])]

    @lake_asset(
        name=f"hitrate_{name}",
        description=(
            f"{method.description} Gives {LENGTH} items to each user with a new positive among the test rows, from "
            "what was known before these; judged by the positives. With the split `successive`, gives as many for each "
            "of these, from all that its user did before. `details.parquet` has each list and its hits."
        ),
        ins={asset: dg.AssetIn() for asset in ("recall_samples", *method.reads)},
        kinds={"numpy", "parquet"},
        checks=checks,
        code_version="3",
    )
    def judge(output: Output, dataset: Dataset, **inputs: Partition) -> None:
        partitions, recall_samples = [inputs[asset] for asset in method.reads], inputs["recall_samples"]
        profile = dataset.load()
        filter_seen = profile.recall.filter_seen
        output.manifest.config = {"filter_seen": filter_seen, "k": LENGTH}
        interactions = read(recall_samples.path(ROWS))
        asked = judged_queries(interactions, profile)
        if not len(asked):
            raise CannotBeBuilt(NO_QUERIES)
        opened = method.open(interactions, asked.part, *partitions)

        def recall(asked: Queries) -> Lists:
            return opened(interactions, asked, LENGTH, filter_seen)

        found = judging.judge(recall, interactions, asked, CUTOFFS, filter_seen, output.path(DETAILS))
        _record(output, interactions, asked, found)
        if method.cold:
            _judge_by_age(output, recall, interactions, asked)
        _check(output, asked, found)
        if BETTER in checks:
            _check_chance(output, interactions, asked, filter_seen)

    return judge


def _record(output: Output, interactions: Interactions, asked: Queries, judged: Judged) -> None:
    """Record the metrics, and as metadata a table of them and a plot over K."""
    covered = dict(zip(CUTOFFS, judged.coverage(catalogue(interactions)), strict=True))
    metrics = judged.tally.at(CUTOFFS) | {f"coverage@{k}": share for k, share in covered.items()}
    output.manifest.rows = len(asked)
    found = qualities(np.concatenate(judged.heads), asked, interactions.before(asked.part), min(CUTOFFS))
    output.manifest.metrics = metrics | found | {"queries": float(len(asked)), "truths": float(len(asked.truth))}
    names = dict.fromkeys(metric.split("@")[0] for metric in metrics)
    rows = [(name, *(metrics[f"{name}@{k}"] for k in CUTOFFS)) for name in names]
    output.metadata["figures"] = show.table(["", *(f"@{k}" for k in CUTOFFS)], rows)
    output.metadata["besides hits"] = show.table(["", "figure"], list(found.items()))
    figure, plot = show.axes("test rows, by the length of the lists", "K", "")
    for name, course in judged.tally.curves().items():
        plot.plot(np.arange(1, LENGTH + 1), course, label=name)
    plot.legend()
    output.metadata["curves"] = show.picture(figure)


def _judge_by_age(
    output: Output, recall: Callable[[Queries], Lists], interactions: Interactions, asked: Queries
) -> None:
    """Record the metrics of lists of warm items alone and of cold items alone: those without an event before the test.

    The other figures are of lists of all items together, which is what a service gives.
    """
    known = catalogue(interactions)
    for age, candidates in {"warm": known, "cold": ~known}.items():
        found = judge_among(recall, candidates, asked.blocks(BLOCK), CUTOFFS)
        output.manifest.metrics |= {f"{age}_{name}": value for name, value in found.items()}
        output.manifest.metrics[f"{age}_truths"] = float(candidates[asked.truth].sum())


def _check(output: Output, asked: Queries, judged: Judged) -> None:
    """Check the lists; the same for every method."""
    output.check(SOUND.name, not judged.faults.total(), **judged.faults)
    with connect() as connection:
        keys = ["id", *(["position"] if asked.successive else [])]
        check_unique(output, connection, scan([output.path(DETAILS)]), keys)


def _check_chance(output: Output, interactions: Interactions, asked: Queries, filter_seen: bool) -> None:
    """Compare the recall with that of random lists, unless these would hold every item."""
    known = catalogue(interactions)
    most, *chances = (
        chance_recall(interactions, asked.blocks(BLOCK), known, k, filter_seen) for k in (len(known), 50, 20)
    )
    for k, chance in zip((50, 20), chances, strict=True):
        if chance < most:
            recall = output.manifest.metrics[f"recall@{k}"]
            output.check(BETTER.name, recall > chance, recall=recall, by_chance=chance, length=k)
            return
    output.check(BETTER.name, True, note="there are too few items: every list holds all of them")


hitrate_assets = [hitrate(name, method) for name, method in RECALL_METHODS.items()]
