"""Embeddings: the vectors that each two-tower model gives to users and items."""

from collections.abc import Callable
from functools import partial

import dagster as dg
import numpy as np
import pyarrow.parquet as pq

from recsys_assets.arrays import Ints, Vectors
from recsys_assets.assets.lake_asset import Check, LakeAsset, lake_asset
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.funnel.by_vector import AFTER_ALL, BEFORE_EACH, BEFORE_TEST
from recsys_assets.io_managers import Output
from recsys_assets.manifest import Partition
from recsys_assets.models.catalogue import TOWERS
from recsys_assets.resources import Dataset
from recsys_assets.retrieval import embeddings
from recsys_assets.retrieval.interactions import Interactions, histories, judged_queries, read

PARTS_OF_FILES = {ROWS: "online", BEFORE_TEST: "test"}  # a vector is as of just before the part
CHECKS = [Check("vectors_are_finite", "every float of every vector is finite")]


def user_embeddings(model: str) -> LakeAsset:
    """The asset of the users' vectors under one model."""

    @lake_asset(
        name=f"emb_{model}_user",
        description=(
            f"The vector of every user under `recall_{model}`: in `{ROWS}` after their last offline event; in "
            f"`{AFTER_ALL}`, in the same order, after their last event, for serving; in `{BEFORE_TEST}` just before "
            f"their test rows, for evaluation. With the split `successive`, also in `{BEFORE_EACH}` just before each "
            "test event that is asked about."
        ),
        ins={"recaller": dg.AssetIn(f"recall_{model}")},
        kinds={"pytorch", "parquet"},
        checks=CHECKS,
        code_version="3",
    )
    def emb_user(
        output: Output,
        dataset: Dataset,
        recaller: Partition,
        splits: Partition,
        users: Partition,
        items: Partition,
    ) -> None:
        from recsys_assets.training import checkpoint, recall, tower_data

        towers = recall.two_tower(checkpoint.load(recaller.folder))
        table = pq.read_table(users.path(ROWS))
        events = read(splits.path(ROWS)).with_users(np.sort(table["user_id"].to_numpy()))
        data = tower_data.load(towers, events, table, pq.read_table(items.path(ROWS)))
        everyone = np.arange(len(events.user_ids))
        vectors = partial(recall.user_vectors, towers, data)
        found = {file: vectors(everyone, *histories(events, part)) for file, part in PARTS_OF_FILES.items()}
        for file, each in found.items():
            embeddings.write(output.path(file), "user_id", events.user_ids, each)
        found[AFTER_ALL] = _after_all(found[ROWS], events, vectors)
        np.save(output.path(AFTER_ALL), found[AFTER_ALL])
        if (asked := judged_queries(events, dataset.load())).successive:
            found[BEFORE_EACH] = vectors(asked.users, asked.starts, asked.ends)
            embeddings.write(output.path(BEFORE_EACH), "user_id", events.user_ids[asked.users], found[BEFORE_EACH])
        _describe(output, *found.values())

    return emb_user


def _after_all(before: Vectors, events: Interactions, vectors: Callable[[Ints, Ints, Ints], Vectors]) -> Vectors:
    """(U, D) the vectors after all events; those before the online rows (U, D) serve users who have no such rows."""
    (starts, ends), (_, last) = (histories(events, part) for part in ("online", None))
    users, found = np.flatnonzero(last > ends), before.copy()
    if len(users):
        found[users] = vectors(users, starts[users], last[users])
    return found


def item_embeddings(model: str) -> LakeAsset:
    """The asset of the items' vectors under one model."""

    @lake_asset(
        name=f"emb_{model}_item",
        description=f"The vector of every item that `recall_{model}` knows; its product with a user's is the score.",
        ins={"recaller": dg.AssetIn(f"recall_{model}")},
        kinds={"pytorch", "parquet"},
        checks=CHECKS,
    )
    def emb_item(output: Output, recaller: Partition, items: Partition) -> None:
        from recsys_assets.training import checkpoint, recall, tower_data

        towers = recall.two_tower(checkpoint.load(recaller.folder))
        table = pq.read_table(items.path(ROWS))
        # A model for cold start knows every item of the table, with or without events.
        ids = np.sort(table["item_id"].to_numpy()) if towers.cold else np.asarray(tower_data.item_vocabulary(towers))
        indices = tower_data.encode_items(towers, table, ids)
        vectors = recall.item_vectors(towers, indices)
        embeddings.write(output.path(ROWS), "item_id", ids, vectors)
        _describe(output, vectors)

    return emb_item


def _describe(output: Output, vectors: Vectors, *more: Vectors) -> None:
    """Record rows, width and lengths of the vectors; check that all vectors, `more` included, are finite."""
    lengths = np.linalg.norm(vectors, axis=1)
    output.manifest.rows = len(vectors)
    output.manifest.metrics = {
        "width": float(vectors.shape[1]),
        "mean_length": float(lengths.mean()),
        "longest": float(lengths.max()),
    }
    broken = sum(int((~np.isfinite(each).all(axis=1)).sum()) for each in (vectors, *more))
    output.check("vectors_are_finite", broken == 0, vectors=broken)


embedding_assets = [make(model) for model in TOWERS for make in (user_embeddings, item_embeddings)]
