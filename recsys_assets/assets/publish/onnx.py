"""ONNX: each model as files that take raw features, verified against the original model."""

from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.arrays import Ints
from recsys_assets.assets.lake_asset import Check, LakeAsset, lake_asset
from recsys_assets.assets.rank import RANK_TASKS, TOUCH_TASK, Task
from recsys_assets.assets.refit import take_export
from recsys_assets.assets.reports import show
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.io_managers import Output
from recsys_assets.manifest import Partition
from recsys_assets.models.catalogue import TOWERS
from recsys_assets.ranking.sample_parts import RANKED_PARTS, part_files
from recsys_assets.resources import Dataset, LakeStore
from recsys_assets.retrieval.interactions import histories, read
from recsys_assets.retrieval.raw_users import raw_users

MODEL = "model.onnx"
PARITY_ROWS = 10_000
# A drawn sample of users: a difference at 1 user in 330 is found with a probability of 95 %.
PARITY_USERS = 1_000
# Float32 sums in another order differ by about 1e-7; a wrong look-up or normalisation by far more.
TOLERANCE = 1e-5


def ranker_onnx(task: Task) -> LakeAsset:
    """The ONNX asset of one ranking model."""

    @lake_asset(
        name=f"onnx_{task.name}",
        description=(
            f"`{task.asset}` as one ONNX file: takes the raw features of `feature_schema` (look-up and "
            "normalisation are inside), any batch size, and gives the probability of a positive."
        ),
        ins={"ranker": dg.AssetIn(task.asset), "samples": dg.AssetIn(task.samples)},
        kinds={"onnx"},
        checks=[Check("onnx_matches_model", f"onnxruntime and the model agree within {TOLERANCE} on real rows")],
    )
    def onnx(output: Output, lake: LakeStore, dataset: Dataset, ranker: Partition, samples: Partition) -> None:
        from recsys_assets.training import onnx_export, rankers

        profile, about = dataset.load(), {"bizdate": ranker.manifest.fitted_on}
        if profile.draws:
            about["negatives"] = profile.negatives_text
        if not take_export(output, lake.lake, ranker):
            rankers.load(ranker.folder).export(output.path(MODEL), about)
        rows = real_rows(samples)
        found = rankers.parity(ranker.folder, output.path(MODEL), rows)
        output.manifest.metrics = {"parity_rows": float(rows.num_rows), **found}
        output.check("onnx_matches_model", max(found.values()) <= TOLERANCE, rows=rows.num_rows, **found)
        signature = _signature(onnx_export.open_session(output.path(MODEL)))
        output.metadata["inputs and output"] = show.table(["name", "type", "shape"], signature)

    return onnx


def real_rows(rank_samples: Partition) -> pa.Table:
    """At least `PARITY_ROWS` rows, if there are as many, the newest parts first."""
    import pyarrow.dataset as ds  # loads pandas: 0.4 s, which a look at the definitions does not need

    tables: list[pa.Table] = []
    for part in reversed(RANKED_PARTS):
        missing = PARITY_ROWS - sum(table.num_rows for table in tables)
        if missing > 0:
            tables.append(ds.dataset(list(map(str, part_files(rank_samples, part)))).head(missing))
    return pa.concat_tables(tables, promote_options="permissive")


def tower_onnx(model: str) -> LakeAsset:
    """The ONNX asset of one two-tower model."""

    @lake_asset(
        name=f"onnx_{model}",
        description=(
            f"`recall_{model}` as `user.onnx` and `item.onnx`: each takes the raw features of its side, the user's "
            "history among them, and gives vectors, whose inner product is the score."
        ),
        ins={"recaller": dg.AssetIn(f"recall_{model}")},
        kinds={"onnx"},
        code_version="3",
        checks=[
            Check(
                "onnx_matches_model",
                f"onnxruntime and torch agree within {TOLERANCE} on every item and on {PARITY_USERS:,} drawn users",
            )
        ],
    )
    def onnx(
        output: Output,
        lake: LakeStore,
        recaller: Partition,
        recall_samples: Partition,
        users: Partition,
        items: Partition,
    ) -> None:
        from recsys_assets.training import checkpoint, onnx_export, onnx_towers, recall

        if not take_export(output, lake.lake, recaller):
            onnx_towers.export(recaller.folder, output.draft.folder, {"bizdate": recaller.manifest.fitted_on})
        events, everyone = read(recall_samples.path(ROWS)), pq.read_table(users.path(ROWS))
        model = recall.two_tower(checkpoint.load(recaller.folder))
        starts, ends = histories(events, "online")
        drawn = draw_users(len(starts))
        rows = {
            "user": raw_users(model.history, events, everyone, drawn, starts[drawn], ends[drawn]),
            "item": pq.read_table(items.path(ROWS)),
        }
        files = {side: output.path(f"{side}.onnx") for side in onnx_towers.SIDES}
        found = {side: onnx_towers.parity(recaller.folder, files[side], side, rows[side]) for side in files}
        output.manifest.metrics = {f"max_difference_{side}": value for side, value in found.items()}
        output.check("onnx_matches_model", max(found.values()) <= TOLERANCE, **output.manifest.metrics)
        signature = [row for file in files.values() for row in _signature(onnx_export.open_session(file))]
        output.metadata["inputs and output"] = show.table(["name", "type", "shape"], signature)

    return onnx


def draw_users(users: int) -> Ints:
    """`PARITY_USERS` of the users by number, or all if there are fewer; always the same ones, in ascending order."""
    return np.sort(np.random.default_rng(0).permutation(users)[:PARITY_USERS])


def _signature(runtime: Any) -> list[tuple[str, str, list[Any]]]:
    """Name, type and shape of each input and output of a session."""
    return [(each.name, each.type, each.shape) for each in (*runtime.get_inputs(), *runtime.get_outputs())]


onnx_assets = [
    *(ranker_onnx(task) for task in (*RANK_TASKS, TOUCH_TASK)),
    *(tower_onnx(model) for model in TOWERS),
]
