"""Indexes of vectors in a file, built shard after shard: memory holds the vectors of one shard, and its index.

A shard has the next vectors in the order of the file. A catalogue that fits is one shard: a plain index.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys_assets.arrays import Ints, Vectors
from recsys_assets.retrieval import embeddings, index
from recsys_assets.retrieval.index import IndexSettings, UnusableIndex, merge, shift
from recsys_assets.retrieval.lists import Lists, empty_lists

_FLOAT = 4  # bytes


@dataclass(frozen=True)
class Shard:
    """Some vectors (N, D) of a file, their ids, and the position of the first of them."""

    first: int
    ids: pa.Array
    vectors: Vectors

    def own(self, items: Ints) -> Ints:
        """Those of the items (Q, K) that are in the shard, by their position in it; -1 for the others."""
        places = items - self.first
        return np.where((places >= 0) & (places < len(self.ids)), places, -1)


@dataclass(frozen=True)
class Catalogue:
    """A file of `count` vectors that is read in shards of `rows` of them."""

    path: Path
    count: int
    rows: int

    @classmethod
    def of(cls, path: Path, most_bytes: int) -> "Catalogue":
        """A file in the fewest shards whose vectors have at most that many bytes.

        Raises:
            UnusableIndex: it has no vectors.
        """
        count, width = embeddings.shape(path)
        if not count * width:
            raise UnusableIndex("there are no vectors to build an index from")
        return cls(path, count, -(-count // min(count, -(-count * width * _FLOAT // most_bytes))))

    @property
    def is_sharded(self) -> bool:
        """Whether there is more than one shard."""
        return self.rows < self.count

    def shards(self) -> Iterator[Shard]:
        """The shards, one after another."""
        for number, (ids, vectors) in enumerate(embeddings.blocks(self.path, self.rows)):
            yield Shard(number * self.rows, ids, vectors)

    def exact(self, queries: Vectors, k: int) -> "Found":
        """The k items with the highest inner products for queries (Q, D)."""
        import faiss

        found, seconds = empty_lists(len(queries), k), 0.0
        for shard in self.shards():
            began = time.perf_counter()
            scores, items = faiss.knn(queries, shard.vectors, k, metric=faiss.METRIC_INNER_PRODUCT)
            lists = Lists(items, np.where(items < 0, -np.inf, scores).astype(np.float32))
            found = merge([found, shift(lists, shard.first)])
            seconds += time.perf_counter() - began
        return Found(found, seconds)


@dataclass(frozen=True)
class Found:
    """The lists that queries found, and the seconds; for IVF all clusters, and those that a search looks into."""

    lists: Lists
    seconds: float
    nlist: int = 0
    nprobe: int = 0


def build(
    catalogue: Catalogue,
    settings: Callable[[int], IndexSettings],
    folder: Path,
    queries: Vectors,
    exact: Lists,
    share: float | None,
) -> Found:
    """Build the index of a catalogue into a folder, and search it for queries (Q, D).

    Args:
        catalogue: the vectors.
        settings: gives those of an index of a number of vectors.
        folder: where `index.read` will find it.
        queries: vectors of users.
        exact: (Q, K) their right lists.
        share: of the right items of each shard that IVF is to find, by looking into enough clusters; None: as set.
    """
    found = Found(empty_lists(*exact.items.shape), 0.0)
    for number, shard in enumerate(catalogue.shards()):
        built = index.build(shard.vectors, shard.ids, settings(len(shard.ids)))
        if share is not None:
            built.probe_for(share, queries, shard.own(exact.items))
        began = time.perf_counter()
        lists = merge([found.lists, shift(built.search(queries, exact.items.shape[1]), shard.first)])
        seconds = found.seconds + time.perf_counter() - began
        clusters, probes = (getattr(built.index, name, 0) for name in ("nlist", "nprobe"))
        found = Found(lists, seconds, found.nlist + clusters, found.nprobe + probes)
        built.write(folder, number if catalogue.is_sharded else None)
    return found
