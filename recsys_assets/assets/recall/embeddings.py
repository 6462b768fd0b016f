"""Embeddings: the vectors that each two-tower model gives to users and items, computed and written block by block."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow.parquet as pq

from recsys_assets.arrays import Array, Ints, Vectors, slices
from recsys_assets.assets.lake_asset import Check, LakeAsset, lake_asset
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.funnel.by_vector import AFTER_ALL, BEFORE_EACH, BEFORE_TEST
from recsys_assets.io_managers import Output
from recsys_assets.manifest import Partition
from recsys_assets.models.catalogue import TOWERS
from recsys_assets.resources import Dataset
from recsys_assets.retrieval import embeddings
from recsys_assets.retrieval.embeddings import GROUP
from recsys_assets.retrieval.interactions import Interactions, histories, judged_queries, read

PARTS_OF_FILES = {ROWS: "online", BEFORE_TEST: "test"}  # a vector is as of just before the part
CHECKS = [Check("vectors_are_finite", "every float of every vector is finite")]
Encode = Callable[[Ints, Ints, Ints], Vectors]  # of users whose histories are the events from start to end


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
        encode: Encode = partial(
            recall.user_vectors, towers, tower_data.load(towers, events, table, pq.read_table(items.path(ROWS)))
        )
        found = {
            file: _write(output.path(file), "user_id", vectors_before(events, part, encode))
            for file, part in PARTS_OF_FILES.items()
        }
        found[AFTER_ALL] = write_after_all(output.path(ROWS), output.path(AFTER_ALL), events, encode)
        if (asked := judged_queries(events, dataset.load())).successive:
            each = events.user_ids[asked.users], encode(asked.users, asked.starts, asked.ends)
            found[BEFORE_EACH] = _write(output.path(BEFORE_EACH), "user_id", iter([each]))
        _describe(output, *found.values())

    return emb_user


def vectors_before(events: Interactions, part: str, encode: Encode) -> Iterator[tuple[Array, Vectors]]:
    """Ids and vectors of all users just before a part, in blocks."""
    starts, ends = histories(events, part)
    for rows in slices(len(events.user_ids), GROUP):
        yield events.user_ids[rows], encode(np.arange(rows.start, rows.stop), starts[rows], ends[rows])


def write_after_all(kept: Path, path: Path, events: Interactions, encode: Encode) -> "Lengths":
    """Write the vectors after all events, as `np.save` does.

    Those before the online rows, which are `kept` in a file, are also those of users who have no such rows.
    """
    (starts, ends), (_, last) = (histories(events, part) for part in ("online", None))
    found, first = Lengths(), 0
    with path.open("wb") as file:
        header: dict[str, Any] = {"descr": "<f4", "fortran_order": False, "shape": embeddings.shape(kept)}
        np.lib.format.write_array_header_1_0(file, header)
        for ids, before in embeddings.blocks(kept, GROUP):
            users, vectors = first + np.flatnonzero((last > ends)[first : first + len(ids)]), before.copy()
            if len(users):
                vectors[users - first] = encode(users, starts[users], last[users])
            file.write(vectors.tobytes())
            found.add(vectors)
            first += len(ids)
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
        known = table["item_id"].to_numpy() if towers.cold else np.asarray(tower_data.item_vocabulary(towers))
        ids = np.sort(known)
        parts = (
            (ids[rows], recall.item_vectors(towers, tower_data.encode_items(towers, table, ids[rows])))
            for rows in slices(len(ids), GROUP)
        )
        _describe(output, _write(output.path(ROWS), "item_id", parts))

    return emb_item


@dataclass
class Lengths:
    """Lengths of vectors that were counted block by block, and how many of the vectors are not finite."""

    count: int = 0
    width: int = 0
    total: float = 0.0
    longest: float = 0.0
    broken: int = 0

    def add(self, vectors: Vectors) -> None:
        """Count some more vectors (N, D)."""
        lengths = np.linalg.norm(vectors, axis=1)
        self.count, self.width = self.count + len(vectors), vectors.shape[1]
        self.total += float(lengths.sum(dtype=np.float64))
        self.longest = float(np.maximum(self.longest, lengths.max(initial=0)))
        self.broken += int((~np.isfinite(vectors).all(axis=1)).sum())


def _write(path: Path, key: str, parts: Iterator[tuple[Array, Vectors]]) -> Lengths:
    """Write blocks of ids and vectors, and count their lengths."""
    found = Lengths()

    def counted() -> Iterator[tuple[Array, Vectors]]:
        for ids, vectors in parts:
            found.add(vectors)
            yield ids, vectors

    embeddings.write_blocks(path, key, counted())
    return found


def _describe(output: Output, found: Lengths, *more: Lengths) -> None:
    """Record rows, width and lengths of the vectors; check that all vectors, `more` included, are finite."""
    output.manifest.rows = found.count
    output.manifest.metrics = {
        "width": float(found.width),
        "mean_length": found.total / max(found.count, 1),
        "longest": found.longest,
    }
    broken = sum(each.broken for each in (found, *more))
    output.check("vectors_are_finite", broken == 0, vectors=broken)


embedding_assets = [make(model) for model in TOWERS for make in (user_embeddings, item_embeddings)]
