"""Indexes: the items' vectors of each two-tower model in faiss, compared with exact search."""

from pathlib import Path
from typing import Literal

import dagster as dg
import numpy as np
from pydantic import Field

from recsys_assets.assets.lake_asset import Check, LakeAsset, lake_asset
from recsys_assets.assets.reports import show
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.funnel.by_vector import BEFORE_TEST
from recsys_assets.io_managers import Output
from recsys_assets.manifest import Partition
from recsys_assets.models.catalogue import TOWERS
from recsys_assets.retrieval import embeddings, index, shards
from recsys_assets.retrieval.index import LISTS_PER_ROOT, POINTS_A_LIST, IndexSettings, UnusableIndex, clusters_for
from recsys_assets.retrieval.lists import CUTOFFS
from recsys_assets.retrieval.shards import Catalogue, Found

QUERIED_USERS = 10_000  # users whose lists from the index are compared with exact ones
MOST_BYTES = 1 << 32  # of vectors in one index: 16 million of 64 floats
MIN_SHARE_FOUND, SHARE_ASKED = 0.9, 0.98  # of exact search: checked, and aimed at when `nprobe` is chosen


class IndexConfig(dg.Config):
    """The kind of index, and how much work a search does; few items get fewer clusters."""

    kind: Literal["FlatIP", "IVFFlatIP", "IVFFlatL2", "HNSWFlatIP", "HNSWFlatL2"] = Field(
        default="IVFFlatIP",
        description="L2 only for vectors of equal length, which it orders as the inner product does",
    )
    nlist: int | None = Field(
        default=None,
        ge=1,
        description=(
            f"IVF: number of clusters, at most one per {POINTS_A_LIST} items; by default {LISTS_PER_ROOT} for each "
            "square root of the items"
        ),
    )
    nprobe: int | None = Field(
        default=None,
        ge=1,
        description=(
            "IVF: number of clusters that a query searches; by default the fewest, by doubling, that find "
            f"{SHARE_ASKED:.0%} of what exact search finds"
        ),
    )
    m: int = Field(default=32, ge=2, description="HNSW: neighbours of a vector in the graph")
    ef_construction: int = Field(default=200, ge=1, description="HNSW: number of candidates while a vector is inserted")
    most_bytes: int = Field(
        default=MOST_BYTES,
        ge=1,
        description=(
            "bytes of vectors (4 per float) that one index is built from, which needs about twice as much memory; more "
            "of them are built in shards, one after another"
        ),
    )

    def settings(self, count: int) -> IndexSettings:
        """The settings for an index of `count` vectors; without `nprobe`, a search looks into one cluster."""
        nlist = self.nlist or clusters_for(count)
        return IndexSettings(self.kind, nlist, self.nprobe or 1, self.m, self.ef_construction).trainable_by(count)


def index_asset(model: str) -> LakeAsset:
    """The index asset of one two-tower model."""

    @lake_asset(
        name=f"index_{model}",
        description=(
            f"The vectors of `emb_{model}_item` as a faiss index and its `id_mapping` (line n is the item at position "
            "n). Its metric is the similarity that the model was trained with."
        ),
        ins={"users": dg.AssetIn(f"emb_{model}_user"), "items": dg.AssetIn(f"emb_{model}_item")},
        kinds={"faiss"},
        code_version="2",  # it chooses how many clusters a search looks into
        checks=[
            Check(
                "near_exact",
                f"its lists of 200 hold at least {MIN_SHARE_FOUND:.0%} of what exact search finds",
                blocking=False,
            )
        ],
    )
    def index_items(output: Output, config: IndexConfig, users: Partition, items: Partition) -> None:
        output.manifest.config = config.model_dump()
        _refuse_another_order(config.kind, items.path(ROWS))
        catalogue = Catalogue.of(items.path(ROWS), config.most_bytes)
        queries = next(embeddings.blocks(users.path(BEFORE_TEST), QUERIED_USERS))[1]
        exact = catalogue.exact(queries, max(CUTOFFS))
        share = SHARE_ASKED if config.kind.startswith("IVF") and config.nprobe is None else None
        found = shards.build(catalogue, config.settings, output.draft.folder, queries, exact.lists, share)
        _compare(output, catalogue.count, exact, found)
        output.manifest.rows = catalogue.count

    return index_items


def _refuse_another_order(kind: str, path: Path) -> None:
    """Raise `UnusableIndex` if an L2 index would order items differently: that needs vectors of unequal length."""
    if not kind.endswith("L2"):
        return
    lengths = [np.linalg.norm(vectors, axis=1) for _, vectors in embeddings.blocks(path, embeddings.GROUP)]
    shortest, longest = (edge([edge(each) for each in lengths]) for edge in (np.min, np.max))
    if longest - shortest > 1e-4 * longest:
        raise UnusableIndex(
            f"{kind} would not order items as the model does: its similarity is the inner product, and the "
            f"items' vectors are {shortest:.3g} to {longest:.3g} long. Set kind to {kind[:-2]}IP"
        )


def _compare(output: Output, count: int, exact: Found, found: Found) -> None:
    """Record how much of the exact lists the index finds, and as metadata how many users per second both serve."""
    shares = {k: index.overlap(exact.lists.items[:, :k], found.lists.items[:, :k], count) for k in CUTOFFS}
    output.manifest.metrics = {f"recall_of_exact@{k}": share for k, share in shares.items()}
    if found.nlist:
        output.manifest.metrics |= {"nlist": float(found.nlist), "nprobe": float(found.nprobe)}
    output.check("near_exact", shares[max(CUTOFFS)] >= MIN_SHARE_FOUND, share=shares[max(CUTOFFS)])
    rates = {name: len(each.lists.items) / each.seconds for name, each in (("exact", exact), ("index", found))}
    rows = [("exact", rates["exact"], *(1.0 for _ in CUTOFFS)), ("index", rates["index"], *shares.values())]
    columns = ["", "users per second", *(f"recall of exact@{k}" for k in CUTOFFS)]
    output.metadata["compared with exact search"] = show.table(columns, rows)


index_assets = [index_asset(model) for model in TOWERS]
