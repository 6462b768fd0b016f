"""faiss indexes survive writing and reading, are the same when rebuilt, and find only items that exist."""

from pathlib import Path
from typing import Any, get_args

import faiss
import numpy as np
import pyarrow as pa
import pytest

from recsys_assets.arrays import Vectors
from recsys_assets.retrieval.index import (
    IDS,
    INDEX,
    IndexSettings,
    Kind,
    UnusableIndex,
    build,
    clusters_for,
    overlap,
    read,
)
from recsys_assets.tzrec.exact_search import Flat

KINDS = get_args(Kind)
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def vectors() -> Vectors:
    return np.random.default_rng(1).standard_normal((3000, 12), dtype=np.float32)


@pytest.fixture
def ids() -> pa.Array:
    return pa.array([f"item {number}" for number in range(3000)])


@every_kind
def test_what_is_read_finds_what_was_written(kind: Kind, vectors: Vectors, ids: pa.Array, tmp_path: Path) -> None:
    built = build(vectors, ids, IndexSettings(kind, nlist=50, nprobe=3))
    built.write(tmp_path)
    again = read(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [INDEX, IDS]
    assert (tmp_path / IDS).read_text().splitlines() == ids.to_pylist()
    assert again.ids.equals(ids)
    found, expected = again.search(vectors[:20], 10), built.search(vectors[:20], 10)
    np.testing.assert_array_equal(found.items, expected.items)
    np.testing.assert_array_equal(found.scores, expected.scores)


@every_kind
def test_twice_built_is_the_same_file(kind: Kind, vectors: Vectors, ids: pa.Array, tmp_path: Path) -> None:
    files = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        build(vectors, ids, IndexSettings(kind, nlist=50, nprobe=3)).write(tmp_path / name)
        files.append((tmp_path / name / INDEX).read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize("metric", ["IP", "L2"])
def test_a_flat_index_and_one_that_looks_everywhere_are_exact(metric: str, vectors: Vectors, ids: pa.Array) -> None:
    right = Flat(vectors, metric).search(vectors[:50], 30)  # type: ignore[arg-type]
    for kind in (f"Flat{metric}", f"IVFFlat{metric}"):
        found = build(vectors, ids, IndexSettings(kind, nlist=20, nprobe=20)).search(vectors[:50], 30)  # type: ignore[arg-type]
        np.testing.assert_array_equal(found.items, right.items)
        np.testing.assert_allclose(found.scores, right.scores, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("metric", ["IP", "L2"])
def test_an_approximate_index_finds_most(metric: str, vectors: Vectors, ids: pa.Array) -> None:
    right = Flat(vectors, metric).search(vectors[:100], 10).items  # type: ignore[arg-type]
    for kind in (f"IVFFlat{metric}", f"HNSWFlat{metric}"):
        found = build(vectors, ids, IndexSettings(kind, nlist=50, nprobe=30)).search(vectors[:100], 10).items  # type: ignore[arg-type]
        shared = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.tolist(), right.tolist(), strict=True)])
        assert shared > 0.9, kind


def test_a_search_looks_into_the_fewest_clusters_that_find_the_share_asked_for(vectors: Vectors, ids: pa.Array) -> None:
    built, exact = build(vectors, ids, IndexSettings(nlist=50, nprobe=1)), Flat(vectors).search(vectors[:100], 50).items
    found = {}
    for share in (0.5, 0.9, 1.0):
        built.probe_for(share, vectors[:100], exact)
        found[share] = built.index.nprobe
        assert overlap(exact, built.search(vectors[:100], 50).items, 3000) >= share
        built.index.nprobe //= 2
        assert overlap(exact, built.search(vectors[:100], 50).items, 3000) < share or not built.index.nprobe
    assert 1 <= found[0.5] < found[0.9] < found[1.0] <= 50


def test_clusters_grow_with_the_root_of_the_vectors_as_far_as_these_can_train_them() -> None:
    assert [clusters_for(count) for count in (1, 10_000, 1_000_000)] == [4, 400, 4000]
    assert IndexSettings(nlist=clusters_for(1)).trainable_by(1).nlist == 1


@every_kind
def test_a_mapped_index_finds_the_same_and_starts_no_threads(
    kind: Kind, vectors: Vectors, ids: pa.Array, tmp_path: Path
) -> None:
    build(vectors, ids, IndexSettings(kind, nlist=50, nprobe=3)).write(tmp_path)
    kept, mapped = read(tmp_path), read(tmp_path, mapped=True)
    kept.search(vectors[:1], 10)  # starts the threads that faiss keeps
    threads = len(list(Path("/proc/self/task").iterdir()))
    np.testing.assert_array_equal(mapped.search(vectors[:1], 10).items, kept.search(vectors[:1], 10).items)
    assert len(list(Path("/proc/self/task").iterdir())) == threads


def test_more_probes_find_more(vectors: Vectors, ids: pa.Array) -> None:
    right = Flat(vectors).search(vectors[:100], 50).items
    shares = []
    for nprobe in (1, 10, 50):
        found = build(vectors, ids, IndexSettings(nlist=50, nprobe=nprobe)).search(vectors[:100], 50).items
        shares.append(
            np.isin(found + 10_000 * np.arange(100)[:, None], right + 10_000 * np.arange(100)[:, None]).mean()
        )
    assert shares[0] < shares[1] < shares[2] == 1


@every_kind
def test_lists_end_where_the_items_do(kind: Kind, vectors: Vectors, ids: pa.Array) -> None:
    found = build(vectors[:40], ids[:40], IndexSettings(kind, nlist=4, nprobe=4)).search(vectors[:3], 50)
    assert sorted(found.items[0, :40].tolist()) == list(range(40))
    assert (found.items[:, 40:] == -1).all()
    assert (found.scores[:, 40:] == -np.inf).all()
    assert (np.diff(found.scores[:, :40]) <= 0).all()


def test_clusters_are_no_more_than_the_items_can_train() -> None:
    settings = IndexSettings("IVFFlatIP", nlist=1000, nprobe=800)
    assert settings.trainable_by(39_000) == settings
    assert (settings.trainable_by(3900).nlist, settings.trainable_by(3900).nprobe) == (100, 100)
    assert (settings.trainable_by(20).nlist, settings.trainable_by(20).nprobe) == (1, 1)


def test_a_file_keeps_how_many_clusters_are_searched(vectors: Vectors, ids: pa.Array, tmp_path: Path) -> None:
    build(vectors, ids, IndexSettings(nlist=50, nprobe=7)).write(tmp_path)
    clusters: Any = faiss.read_index(str(tmp_path / INDEX))
    assert clusters.nprobe == 7


def test_on_all_cores_a_graph_is_built_too(vectors: Vectors, ids: pa.Array) -> None:
    built = build(vectors, ids, IndexSettings("HNSWFlatIP", m=8, ef_construction=20), repeatable=False)
    assert built.index.ntotal == 3000
    assert built.index.hnsw.nb_neighbors(1) == 8
    assert built.index.hnsw.efConstruction == 20


def test_whole_numbers_as_ids_become_text(vectors: Vectors, tmp_path: Path) -> None:
    build(vectors, pa.array(range(3000)), IndexSettings("FlatIP")).write(tmp_path)
    assert read(tmp_path).ids[2999].as_py() == "2999"


def test_what_cannot_be_an_index_is_refused(vectors: Vectors, ids: pa.Array, tmp_path: Path) -> None:
    with pytest.raises(UnusableIndex, match="1000 clusters for 40 vectors: set nlist to 40"):
        build(vectors[:40], ids[:40], IndexSettings())
    with pytest.raises(UnusableIndex, match="no vectors"):
        build(vectors[:0], ids[:0], IndexSettings("FlatIP"))
    with pytest.raises(UnusableIndex, match=r"'two\\nlines' has a line break"):
        build(vectors[:2], pa.array(["one", "two\nlines"]), IndexSettings("FlatIP")).write(tmp_path)
    with pytest.raises(UnusableIndex, match=f"no {INDEX}"):
        read(tmp_path)
    build(vectors[:2], ids[:2], IndexSettings("FlatIP")).write(tmp_path)
    (tmp_path / IDS).write_text("one\n")
    with pytest.raises(UnusableIndex, match="2 vectors in faiss_index, 1 lines in id_mapping"):
        read(tmp_path)
