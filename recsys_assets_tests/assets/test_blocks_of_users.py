"""Blocks of users get the vectors and terms that all users get at once."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_assets.arrays import Ints, Vectors
from recsys_assets.assets.recall import embeddings as assets
from recsys_assets.assets.recall import term as term_asset
from recsys_assets.retrieval import embeddings, term
from recsys_assets.retrieval.interactions import Interactions, from_table, histories

USERS, ITEMS = 37, 25
BLOCKS = [1, 10, 1000]


@pytest.fixture(scope="module")
def events() -> Interactions:
    """Users with up to nine events, of whom some have online rows and some have no events."""
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 10, USERS)
    parts = [("train", "test", "online")[min(2, place // 4)] for size in sizes for place in range(size)]
    table = pa.table(
        {
            "user_id": np.repeat(np.arange(USERS) * 2, sizes),
            "item_id": rng.integers(0, ITEMS, sizes.sum()),
            "label": rng.integers(0, 2, sizes.sum()).astype(np.int8),
            "part": parts,
        }
    )
    return from_table(table).with_users(np.arange(2 * USERS))


def encode(users: Ints, starts: Ints, ends: Ints) -> Vectors:
    """Vectors that tell the user and the history."""
    return np.stack([users, starts, ends], axis=1).astype(np.float32)


@pytest.mark.parametrize("size", BLOCKS)
def test_vectors_of_users(size: int, events: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "GROUP", size)
    rows, latest = tmp_path / "vectors.parquet", tmp_path / "latest.npy"
    parts = assets.vectors_before(events, "online", encode)
    embeddings.write_blocks(rows, "user_id", parts)
    ids, before = embeddings.read(rows)
    assert ids.to_pylist() == events.user_ids.tolist()
    everyone = np.arange(len(events.user_ids))
    assert np.array_equal(before, encode(everyone, *histories(events, "online")))
    found = assets.write_after_all(rows, latest, events, encode)
    expected = encode(everyone, *histories(events, None))
    assert np.array_equal(np.load(latest, mmap_mode="r"), expected)
    np.save(tmp_path / "saved.npy", expected)
    assert (tmp_path / "saved.npy").read_bytes() == latest.read_bytes()
    assert (before != expected).any()
    lengths = np.linalg.norm(expected, axis=1)
    assert (found.count, found.width, found.broken) == (2 * USERS, 3, 0)
    assert (found.total / found.count, found.longest) == pytest.approx((lengths.mean(), lengths.max()))


def test_vectors_that_are_not_finite_are_counted() -> None:
    found = assets.Lengths()
    found.add(np.array([[1, np.nan], [3, 4]], np.float32))
    found.add(np.array([[np.inf, 0]], np.float32))
    assert (found.count, found.broken) == (3, 2)


@pytest.mark.parametrize("size", BLOCKS)
def test_terms_of_users(size: int, events: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = pa.table({"item_id": np.arange(ITEMS), "tags": [[f"t{n % 3}", f"t{n % 7}"] for n in range(ITEMS)]})
    tastes = term.Tastes.learn(events, term.item_terms(items, "tags", events.item_ids), term.Taste(window=3))
    found = []
    for each in (size, 10_000):
        monkeypatch.setattr(term_asset, "USERS_AT_ONCE", each)
        counts = term_asset.write_user_terms(events, tastes, tmp_path / f"{each}.parquet")
        found.append((counts.tolist(), pq.read_table(tmp_path / f"{each}.parquet").to_pylist()))
    assert found[0] == found[1]
    counts, rows = found[0]
    assert sum(counts) == len(rows) == 2 * USERS
    assert all(counts), "users of every level are among them"
    assert all(row["terms"] for row in rows)
