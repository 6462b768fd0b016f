"""Indexes in shards find what a whole one finds, and are built in less memory than their vectors take."""

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest

from recsys_assets.arrays import Scores, Vectors
from recsys_assets.retrieval import embeddings, index, shards
from recsys_assets.retrieval.index import (
    IDS,
    INDEX,
    IndexSettings,
    Kind,
    Shards,
    UnusableIndex,
    VectorIndex,
    merge,
    overlap,
)
from recsys_assets.retrieval.lists import Lists
from recsys_assets.retrieval.shards import Catalogue
from recsys_assets.tzrec.exact_search import Flat

COUNT, WIDTH, SHARDS = 3001, 12, 4
QUERIES = np.random.default_rng(2).standard_normal((40, WIDTH), dtype=np.float32)
mapped_or_not = pytest.mark.parametrize("mapped", [True, False])


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return np.random.default_rng(1).standard_normal((COUNT, WIDTH), dtype=np.float32)


@pytest.fixture(scope="module")
def file(vectors: Vectors, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vectors") / "vectors.parquet"
    embeddings.write(path, "item_id", np.arange(COUNT), vectors)
    return path


def sharded(file: Path, folder: Path, kind: Kind, share: float | None = None) -> shards.Found:
    """Build four shards; without a share, IVF looks into all clusters."""
    catalogue = Catalogue.of(file, -(-COUNT // SHARDS) * WIDTH * 4)
    exact = catalogue.exact(QUERIES, 30)
    return shards.build(catalogue, lambda _: IndexSettings(kind, 15, 15), folder, QUERIES, exact.lists, share)


@mapped_or_not
@pytest.mark.parametrize("kind", ["FlatIP", "FlatL2", "IVFFlatIP", "IVFFlatL2"])
def test_shards_give_the_lists_and_scores_of_a_whole_index(
    kind: Kind, mapped: bool, file: Path, vectors: Vectors, tmp_path: Path
) -> None:
    found = sharded(file, tmp_path, kind).lists
    read = index.read(tmp_path, mapped=mapped)
    assert isinstance(read, Shards)
    assert len(read.parts) == SHARDS
    assert read.ids.to_pylist() == [str(number) for number in range(COUNT)]
    whole = index.build(vectors, pa.array(range(COUNT)), IndexSettings(kind, 15, 15))
    for lists in (found, read.search(QUERIES, 30)):
        right = whole.search(QUERIES, 30)
        assert np.array_equal(lists.items, right.items)
        assert np.allclose(lists.scores, right.scores, rtol=1e-5, atol=1e-5)
    one, alone = (each.search(QUERIES[:1], 30) for each in (read, whole))
    assert np.array_equal(one.scores, alone.scores), "to the last bit for one query"


def test_of_equal_scores_the_earlier_vector_is_first() -> None:
    parts = [Lists(np.array([[0, 2, -1]]), scores([3, 1, -np.inf])), Lists(np.array([[7, 8, 9]]), scores([3, 2, 1]))]
    found = merge(parts)
    assert found.items.tolist() == [[0, 7, 8]]
    assert found.scores.tolist() == [[3, 3, 2]]
    assert merge([parts[0]]).items.tolist() == [[0, 2, -1]]


def scores(values: list[float]) -> Scores:
    return np.array([values], np.float32)


@mapped_or_not
@pytest.mark.parametrize("kind", get_args(Kind))
def test_a_search_among_some_vectors_finds_no_others(kind: Kind, mapped: bool, file: Path, tmp_path: Path) -> None:
    sharded(file, tmp_path, kind)
    read, kept = index.read(tmp_path, mapped=mapped), np.arange(COUNT) % 200 == 7
    found = read.search(QUERIES, 30, read.among(kept))
    assert all(set(row[row >= 0]) <= set(np.flatnonzero(kept)) for row in found.items)
    if "HNSW" not in kind:
        assert all(set(row[row >= 0]) == set(np.flatnonzero(kept)) for row in found.items)
        assert (found.scores[:, kept.sum() :] == -np.inf).all()


def test_every_shard_looks_into_enough_clusters_for_its_part_of_the_right_lists(
    file: Path, vectors: Vectors, tmp_path: Path
) -> None:
    right = Flat(vectors).search(QUERIES, 30).items
    shares = {}
    for share in (0.3, 0.98):
        (folder := tmp_path / str(share)).mkdir()
        found = sharded(file, folder, "IVFFlatIP", share)
        shares[share] = overlap(right, found.lists.items, COUNT)
        assert shares[share] >= share
        assert SHARDS <= found.nprobe <= found.nlist == SHARDS * 15
    assert shares[0.3] < shares[0.98]


def test_exact_lists_do_not_depend_on_the_shards(file: Path, vectors: Vectors) -> None:
    right = Flat(vectors).search(QUERIES, 30)
    for most in (1, 1000, 1 << 20):
        found = Catalogue.of(file, most).exact(QUERIES[:3], 30).lists
        assert np.array_equal(found.items, right.items[:3])
        assert np.allclose(found.scores, right.scores[:3], atol=1e-5)


def test_vectors_that_fit_are_one_plain_index(file: Path, tmp_path: Path) -> None:
    catalogue = Catalogue.of(file, COUNT * WIDTH * 4)
    exact = catalogue.exact(QUERIES, 30)
    shards.build(catalogue, lambda _: IndexSettings("FlatIP"), tmp_path, QUERIES, exact.lists, None)
    assert sorted(each.name for each in tmp_path.iterdir()) == [INDEX, IDS]
    assert isinstance(index.read(tmp_path), VectorIndex)
    assert Catalogue.of(file, COUNT * WIDTH * 4 - 1).rows == COUNT // 2 + 1


def test_a_missing_shard_and_no_vectors_are_named(file: Path, tmp_path: Path) -> None:
    sharded(file, tmp_path, "FlatIP")
    (tmp_path / f"{INDEX}.1").unlink()
    with pytest.raises(UnusableIndex, match=f"no {INDEX}.1"):
        index.read(tmp_path)
    embeddings.write(tmp_path / "empty", "item_id", np.empty(0, np.int64), np.empty((0, 4), np.float32))
    with pytest.raises(UnusableIndex, match="there are no vectors"):
        Catalogue.of(tmp_path / "empty", 100)


LARGE, WIDE, MOST = 100_000, 128, 4 << 20  # 51 MB of vectors
BUILD = f"""
import json, resource, sys
from pathlib import Path
import faiss
import numpy as np
from recsys_assets.retrieval import index, shards
from recsys_assets.assets.recall.index import CUTOFFS, SHARE_ASKED, IndexConfig

catalogue = shards.Catalogue.of(Path(sys.argv[1]), {MOST})
queries = np.random.default_rng(2).standard_normal((50, {WIDE}), dtype=np.float32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
exact = catalogue.exact(queries, 200)
settings = IndexConfig(kind="IVFFlatIP").settings
found = shards.build(catalogue, settings, Path(sys.argv[2]), queries, exact.lists, SHARE_ASKED)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
recall = index.overlap(exact.lists.items, found.lists.items, catalogue.count)
print(json.dumps({{"grown": (peak - before) * 1024, "recall": recall}}))
"""


def test_a_catalogue_over_the_limit_is_built_in_less_memory_than_its_vectors(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    parts = (
        (np.arange(first, first + 10_000), rng.standard_normal((10_000, WIDE), dtype=np.float32))
        for first in range(0, LARGE, 10_000)
    )
    embeddings.write_blocks(tmp_path / "vectors.parquet", "item_id", parts)
    (tmp_path / "index").mkdir()
    command = [sys.executable, "-c", BUILD, str(tmp_path / "vectors.parquet"), str(tmp_path / "index")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    measured = json.loads(done.stdout.splitlines()[-1])
    assert measured["grown"] < LARGE * WIDE * 4 / 2
    assert measured["recall"] >= 0.98
    assert len(list((tmp_path / "index").glob(f"{INDEX}.*"))) == 13
