"""The asset that learns the funnel of a bizdate: what is served, how it is merged, and what orders it."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import cache

import dagster as dg
import numpy as np
import pyarrow.parquet as pq
from pydantic import Field

from recsys_assets.arrays import Floats
from recsys_assets.assets.lake_asset import FIRST, Check, lake_asset
from recsys_assets.assets.model_asset import Seeded
from recsys_assets.assets.refit import find_kept, take
from recsys_assets.assets.reports import show
from recsys_assets.datasets.duck import connect
from recsys_assets.datasets.ingest import ARRIVALS, ROWS
from recsys_assets.datasets.profile import Profile
from recsys_assets.features.before_test import snapshots_before_test
from recsys_assets.features.pair_feature_files import ITEM_FILE
from recsys_assets.funnel.candidates import Candidates
from recsys_assets.funnel.folds import draw_queries
from recsys_assets.funnel.funnel import describer, events_of, open_channels, recall
from recsys_assets.funnel.inputs import OPTIONAL, Inputs, read_inputs
from recsys_assets.funnel.known import Known, item_trends
from recsys_assets.funnel.learning import Evidence, Learned, learn, next_rows
from recsys_assets.funnel.model import DESCRIPTION, Sizes, description
from recsys_assets.funnel.order import ORDER, Order
from recsys_assets.funnel.requests import moments_of
from recsys_assets.funnel.stopwatch import Stopwatch
from recsys_assets.funnel.users import Users
from recsys_assets.io_managers import Output
from recsys_assets.manifest import Partition
from recsys_assets.parallel import one_blas_thread
from recsys_assets.resources import Dataset, LakeStore
from recsys_assets.retrieval.interactions import queries

NEEDED = ("splits", "users", "items", "factors")
TOLERANCE = 1e-4  # sums of up to 150 leaves in float32 and in float64
PARITY = Check("onnx_matches_trees", f"onnxruntime and LightGBM agree within {TOLERANCE} on the rows that were learned")


class FunnelConfig(Seeded):
    """The sizes of the funnel, and how much it is learned from."""

    channel_size: int = Field(default=200, ge=1, description="items from each channel")
    candidates: int = Field(default=300, ge=1, description="items to order")
    length: int = Field(default=50, ge=1, description="items in the final list")
    users: int = Field(default=8000, ge=1, description="most users to learn from, drawn by a hash of their ids")

    @property
    def sizes(self) -> Sizes:
        """The lengths of the lists."""
        return Sizes(self.channel_size, self.candidates, self.length)


@lake_asset(
    ins={asset: dg.AssetIn() for asset in NEEDED},
    # One that failed must not stop the funnel: see `inputs.py`.
    deps=list(OPTIONAL),
    kinds={"lightgbm", "onnx"},
    pool="training",
    op_tags=FIRST,
    code_version="3",
    checks=[PARITY],
)
def funnel_model(output: Output, config: FunnelConfig, lake: LakeStore, dataset: Dataset, **needed: Partition) -> None:
    """How the channels' lists become one: learned from what users touched next in the test rows.

    Neither channels nor rankers trained on these rows, and everything that is known of users and items is from before
    them. `funnel.json` has the channels that are served, their weights and the evidence; `model.onnx` orders the
    candidates, unless that gained nothing for users who were held out.
    """
    profile = dataset.load()
    inputs = read_inputs(profile, lake.lake, output.manifest.bizdate, needed)
    output.add_optional_inputs(inputs.partitions, needed, inputs.without)
    asked = {"right": profile.funnel.right, **config.model_dump()}
    if kept := find_kept(output, lake.lake, profile, asked):
        take(output, kept)
        output.manifest.rows, output.manifest.metrics = kept.manifest.rows, kept.manifest.metrics
        output.check(PARITY.name, True, note="compared when the trees were learned; the files are the same")
        return
    output.manifest.config = asked
    output.manifest.seed = config.seed
    with one_blas_thread():
        learned = _learn(output, profile, inputs, config)
    output.write_json(
        DESCRIPTION,
        {
            **description(learned.fusion, config.sizes, trees=learned.trees is not None),
            "evidence": asdict(learned.evidence),
            "without": dict(inputs.without),
        },
    )
    output.check(PARITY.name, *_export(output, learned))
    _describe(output, learned)


def _learn(output: Output, profile: Profile, inputs: Inputs, config: FunnelConfig) -> Learned:
    """Learn from the lists of the channels for users with a new item in the test part."""
    events = events_of(inputs["splits"], inputs["users"])
    events = next_rows(events, "test", profile.split.online_last_n or None)
    asked = queries(events, "test", profile.recall.filter_seen, profile.funnel.right)
    asked = draw_queries(asked, events.user_ids[asked.users], config.users)
    opened, filter_seen = open_channels(inputs, events, asked.part), profile.recall.filter_seen
    channels = recall(opened, events, asked, config.channel_size, filter_seen, Stopwatch())
    known = cache(lambda: _known_before_test(output, profile, inputs))
    ids, width = events.user_ids[asked.users], len(events.item_ids)
    moments = moments_of(profile, inputs["splits"].path(ROWS), asked.part, ids)

    def describe(candidates: Candidates) -> Mapping[str, Floats]:
        return describer(*known(), events, asked, moments)(candidates)

    return learn(channels, asked, ids, width, describe, config.sizes, config.seed)


def _known_before_test(output: Output, profile: Profile, inputs: Inputs) -> tuple[Known, Users]:
    """Knowledge of pairs just before the test rows, and the users of that moment."""
    splits, users, items = (inputs[asset].path(ROWS) for asset in ("splits", "users", "items"))
    arrivals = inputs["items"].path(ARRIVALS) if ARRIVALS in inputs["items"].manifest.files else None
    with connect() as connection:
        written = inputs["factors"].path(ITEM_FILE)
        found = snapshots_before_test(connection, profile, splits, users, items, written, output.draft.folder, arrivals)
    rows = pq.read_table(splits, columns=["item_id", "timestamp", "part"])
    known = Known(profile, item_trends(rows, "test", found.items), inputs.ranker, inputs.touch)
    return known, known.users(found.users)


def _export(output: Output, learned: Learned) -> tuple[bool]:
    """Write the trees, if there are any, and return whether the file gives what they give."""
    if learned.trees is None or learned.examples is None:
        return (True,)
    from recsys_assets.funnel import trees

    examples = learned.examples
    trees.export(learned.trees, examples.names, output.path(ORDER), {"bizdate": output.manifest.bizdate})
    columns = dict(zip(examples.names, examples.columns.T, strict=True))
    served = Order(output.path(ORDER))(columns, len(examples.columns))
    largest = float(np.abs(served - learned.trees.predict(examples.columns)).max(initial=0))
    output.manifest.metrics |= {"max_difference": largest, "trees": float(learned.trees.num_trees())}
    output.metadata["what the trees look at"] = show.table(["column", "gain"], trees.gains(learned.trees, examples))
    return (largest <= TOLERANCE,)


def _describe(output: Output, learned: Learned) -> None:
    """Record the evidence as metrics and tables."""
    evidence = learned.evidence
    output.manifest.rows = evidence.users
    output.manifest.metrics |= {f"ndcg@50.{way}": value for way, value in evidence.ndcg.items()}
    output.manifest.metrics |= {f"cost.{channel}": cost for channel, cost in evidence.costs.items()}
    output.manifest.metrics |= {f"weight.{channel}": weight for channel, weight in learned.fusion.weights.items()}
    output.metadata["candidates are ordered by"] = evidence.chosen
    output.metadata |= tables(evidence, learned.fusion.weights)


def tables(evidence: Evidence, weights: Mapping[str, float]) -> dict[str, dg.MarkdownMetadataValue]:
    """The figures of held-out users by which the funnel was chosen."""
    channels = [*weights, *evidence.dropped]
    rows = [
        (name, weights.get(name, "not served"), f"{evidence.costs[name]:+.4f}" if name in evidence.costs else "")
        for name in channels
    ]
    ways = [(f"**{way}**" if way == evidence.chosen else way, value) for way, value in evidence.ndcg.items()]
    return {
        "ways to order candidates, on held-out users": show.table(["", "NDCG@50"], ways),
        "channels": show.table(["", "weight", "what leaving it out costs in NDCG@50"], rows),
    }
