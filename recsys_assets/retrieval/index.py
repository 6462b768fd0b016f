"""Vector indexes of faiss: build, write as `faiss_index` and `id_mapping` (TorchEasyRec), read and search them.

Line n of `id_mapping` is the id of the vector at faiss's position n. A `Flat` index is exact; IVF searches the
`nprobe` of `nlist` clusters whose centres are nearest to the query; HNSW walks a graph of near neighbours.

Vectors that do not fit into memory are built in shards, `faiss_index.0` and so on, each from the next vectors in the
order of `id_mapping`. A search asks every shard and merges what it finds. faiss's own `IndexShards` does the same, but
not with a selection of vectors (`among`), which services need.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.arrays import Bools, Ints, Vectors, is_among
from recsys_assets.retrieval.lists import Lists

Kind = Literal["FlatIP", "FlatL2", "IVFFlatIP", "IVFFlatL2", "HNSWFlatIP", "HNSWFlatL2"]
INDEX, IDS = "faiss_index", "id_mapping"
POINTS_A_LIST = 39  # vectors per cluster; with fewer, faiss warns that the clusters are not well trained
# Of the k-means. With 4,000 clusters of 904,290 vectors, faiss's 256 and 25 rounds took 7 times as long, and a search
# found no more.
MOST_POINTS_A_LIST, ROUNDS = 64, 10
LISTS_PER_ROOT = 4  # clusters for each square root of the vectors, as faiss's guidelines have it


class UnusableIndex(ValueError):
    """An index that cannot be built or read; the message says why."""


@dataclass(frozen=True)
class IndexSettings:
    """The kind of an index, and its trade-off between speed and recall.

    Attributes:
        kind: structure and metric: inner product (highest first) or squared Euclidean distance (least first).
        nlist: IVF: number of clusters.
        nprobe: IVF: clusters that a search looks into.
        m: HNSW: neighbours of a vector in the graph.
        ef_construction: HNSW: candidates held while a vector is put into the graph.
    """

    kind: Kind = "IVFFlatIP"
    nlist: int = 1000
    nprobe: int = 800
    m: int = 32
    ef_construction: int = 200

    def trainable_by(self, count: int) -> "IndexSettings":
        """The settings with no more clusters than `count` vectors can train: one per 39 vectors, at least one."""
        nlist = min(self.nlist, max(1, count // POINTS_A_LIST))
        return replace(self, nlist=nlist, nprobe=min(self.nprobe, nlist))


def clusters_for(count: int) -> int:
    """Clusters with which a search of `count` vectors is fast: comparing centres costs about as much as the rest."""
    return max(1, round(LISTS_PER_ROOT * math.sqrt(count)))


@dataclass(frozen=True)
class VectorIndex:
    """A faiss index and the ids (strings) of its vectors."""

    index: Any
    ids: pa.Array

    def search(self, queries: Vectors, k: int, how: Any = None) -> Lists:
        """The k best items that the index finds for queries (N, D); `how` is what `among` gives.

        Scores are inner products, or squared distances times -1. If an index finds fewer than k items, the lists
        are padded with -1 and -inf.
        """
        import faiss

        scores, items = self.index.search(np.ascontiguousarray(queries, np.float32), k, params=how)
        sign = 1 if self.index.metric_type == faiss.METRIC_INNER_PRODUCT else -1
        return Lists(items, np.where(items < 0, -np.inf, sign * scores).astype(np.float32))

    def probe_for(self, share: float, queries: Vectors, exact: Ints) -> None:
        """Let IVF search the fewest clusters, by doubling, that find a share of the exact lists (N, K) of queries."""
        self.index.nprobe = 1
        while self.index.nprobe < self.index.nlist:
            if overlap(exact, self.search(queries, exact.shape[1]).items, len(self.ids)) >= share:
                return
            self.index.nprobe = min(2 * self.index.nprobe, self.index.nlist)

    def among(self, kept: Bools) -> Any:
        """The parameters of a search that finds those vectors alone that `kept` (I,) marks."""
        import faiss

        library: Any = faiss  # its types lack these classes
        chosen = library.IDSelectorBitmap(np.packbits(kept, bitorder="little"))
        if isinstance(self.index, library.IndexIVF):
            return library.SearchParametersIVF(sel=chosen, nprobe=self.index.nprobe)
        if isinstance(self.index, library.IndexHNSW):
            return library.SearchParametersHNSW(sel=chosen, efSearch=self.index.hnsw.efSearch)
        return library.SearchParameters(sel=chosen)

    def write(self, folder: Path, shard: int | None = None) -> None:
        """Write `faiss_index` and `id_mapping` into a folder; or a shard, whose ids follow those of the one before.

        Raises:
            UnusableIndex: an id has a line break in it.
        """
        import faiss

        broken = pc.index(pc.match_substring_regex(self.ids, "[\r\n]"), True).as_py()
        if broken >= 0:
            raise UnusableIndex(f"id {self.ids[broken].as_py()!r} has a line break: {IDS} holds one id per line")
        faiss.write_index(self.index, str(folder / (INDEX if shard is None else f"{INDEX}.{shard}")))
        with (folder / IDS).open("a" if shard else "w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{name}\n" for name in self.ids.to_pylist())


@dataclass(frozen=True)
class Shards:
    """Indexes of consecutive vectors that are searched as one."""

    parts: Sequence[VectorIndex]

    @property
    def ids(self) -> pa.Array:
        """The ids of all vectors, in order."""
        return pa.concat_arrays([part.ids for part in self.parts])

    def search(self, queries: Vectors, k: int, how: Sequence[Any] | None = None) -> Lists:
        """The k best items that all shards find together; see `VectorIndex.search`."""
        chosen = how or [None] * len(self.parts)
        found = [part.search(queries, k, each) for part, each in zip(self.parts, chosen, strict=True)]
        starts = np.cumsum([0, *(len(part.ids) for part in self.parts[:-1])]).tolist()
        return merge([shift(each, start) for each, start in zip(found, starts, strict=True)])

    def among(self, kept: Bools) -> Sequence[Any]:
        """The parameters of a search that finds those vectors alone that `kept` (I,) marks."""
        ends = np.cumsum([len(part.ids) for part in self.parts])[:-1]
        return [part.among(marks) for part, marks in zip(self.parts, np.split(kept, ends), strict=True)]


def shift(lists: Lists, by: int) -> Lists:
    """The lists with higher numbers of items."""
    return Lists(np.where(lists.items < 0, -1, lists.items + by), lists.scores)


def merge(parts: Sequence[Lists]) -> Lists:
    """The K best of lists (N, K) of the same queries, whose items are ascending from part to part."""
    items, scores = (np.concatenate([getattr(part, name) for part in parts], axis=1) for name in ("items", "scores"))
    best = np.argsort(-scores, axis=1, kind="stable")[:, : parts[0].items.shape[1]]
    return Lists(np.take_along_axis(items, best, axis=1), np.take_along_axis(scores, best, axis=1))


def build(vectors: Vectors, ids: pa.Array, settings: IndexSettings, repeatable: bool = True) -> VectorIndex:
    """Build an index of vectors (I, D) with their ids.

    The clusters of IVF come from a seeded k-means. A graph depends on the order in which vectors enter it: with
    `repeatable` a single core builds it; otherwise all cores do, and no two graphs are the same.

    Raises:
        UnusableIndex: there are no vectors, or fewer vectors than clusters.
    """
    import faiss

    count, dimensions = vectors.shape
    if not vectors.size:
        raise UnusableIndex("there are no vectors to build an index from")
    if settings.kind.startswith("IVF") and settings.nlist > count:
        raise UnusableIndex(f"{settings.nlist} clusters for {count} vectors: set nlist to {count} or less")
    index = _empty_index(dimensions, settings)
    if not index.is_trained:
        index.train(vectors)
    with _threads(1 if repeatable and settings.kind.startswith("HNSW") else faiss.omp_get_max_threads()):
        index.add(vectors)
    return VectorIndex(index, ids.cast(pa.string()))


def _empty_index(dimensions: int, settings: IndexSettings) -> Any:
    """An index without vectors."""
    import faiss

    inner = settings.kind.endswith("IP")
    metric = faiss.METRIC_INNER_PRODUCT if inner else faiss.METRIC_L2
    if settings.kind.startswith("HNSW"):
        graph = faiss.IndexHNSWFlat(dimensions, settings.m, metric)
        graph.hnsw.efConstruction = settings.ef_construction
        return graph
    flat = faiss.IndexFlatIP(dimensions) if inner else faiss.IndexFlatL2(dimensions)
    if settings.kind.startswith("Flat"):
        return flat
    clusters = faiss.IndexIVFFlat(flat, dimensions, settings.nlist, metric)
    clusters.nprobe = settings.nprobe
    clusters.cp.max_points_per_centroid, clusters.cp.niter = MOST_POINTS_A_LIST, ROUNDS
    return clusters


def read(folder: Path, *, mapped: bool = False) -> VectorIndex | Shards:
    """Read an index that `VectorIndex.write` or TorchEasyRec's `create_faiss_index` wrote.

    The vectors may be `mapped`: then they stay on the disk, and many processes share them.

    Raises:
        UnusableIndex: a file is missing, or the files differ in their number of vectors.
    """
    import faiss

    files = _shard_files(folder)
    for file in (*files, folder / IDS):
        if not file.is_file():
            raise UnusableIndex(f"{folder} has no {file.name}")
    # `IO_FLAG_MMAP` maps IVF alone, and reads ahead with 32 threads: a search of 400,000 vectors takes 1.7 ms that way,
    # 0.33 this way, and 0.28 in memory.
    how = faiss.IO_FLAG_MMAP_IFC if mapped else 0
    indexes = [faiss.read_index(str(file), how) for file in files]
    lines = pa.array((folder / IDS).read_text(encoding="utf-8").removesuffix("\n").split("\n"), pa.string())
    if len(lines) != (count := sum(each.ntotal for each in indexes)):
        raise UnusableIndex(f"{folder}: {count} vectors in {files[0].name}, {len(lines)} lines in {IDS}")
    starts = np.cumsum([0, *(each.ntotal for each in indexes[:-1])]).tolist()
    parts = [VectorIndex(each, lines.slice(start, each.ntotal)) for each, start in zip(indexes, starts, strict=True)]
    return parts[0] if len(parts) == 1 else Shards(parts)


def _shard_files(folder: Path) -> list[Path]:
    """The files of the shards, in order, as far as the last one's number goes; without shards, that of the index."""
    numbers = [int(file.suffix.removeprefix(".")) for file in folder.glob(f"{INDEX}.*")]
    return [folder / f"{INDEX}.{number}" for number in range(max(numbers) + 1)] if numbers else [folder / INDEX]


def overlap(expected: Ints, found: Ints, count: int) -> float:
    """The share of the expected items (N, K), of `count`, that are among the items found (N, K) in the same row.

    Negative numbers are no items; it is 1 if nothing is expected.
    """
    rows = np.arange(len(expected))[:, None] * (count + 1) + 1
    there = is_among(rows + expected, rows + found) & (expected >= 0)  # (N, K)
    wanted = (expected >= 0).sum()
    return float(there.sum() / wanted) if wanted else 1.0


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let faiss use `count` threads in the block."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
