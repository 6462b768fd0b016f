"""The channel of a two-tower model: which vectors it takes, and what it finds through an index."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from recsys_assets.arrays import Vectors
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.funnel import by_vector
from recsys_assets.funnel.by_vector import AFTER_ALL, BEFORE_TEST, ByVector
from recsys_assets.lake import Lake
from recsys_assets.manifest import Partition
from recsys_assets.retrieval import embeddings, index, shards
from recsys_assets.retrieval.index import IndexSettings, UnusableIndex
from recsys_assets.retrieval.interactions import Interactions, Queries, State, from_table, user_queries
from recsys_assets.retrieval.shards import Catalogue

DAY, K = "2026-01-01", 7
USERS, ITEMS, WIDTH = 6, 400, 5
RNG = np.random.default_rng(1)
VECTORS = {
    side: RNG.normal(size=(count, WIDTH)).astype(np.float32) for side, count in (("user", USERS), ("item", ITEMS))
}
LATEST = RNG.normal(size=(USERS, WIDTH)).astype(np.float32)


@pytest.fixture(scope="module")
def log() -> Interactions:
    """Six users with ten events each; every other item had one, and the last user has no vector."""
    items = np.sort(RNG.choice(ITEMS // 2, 70, replace=False)) * 2
    return from_table(
        pa.table(
            {
                "user_id": np.repeat(np.arange(USERS + 1), 10),
                "item_id": RNG.permutation(items),
                "label": np.ones(70, np.int8),
                "part": [("train", "online")[place > 6] for _ in range(USERS + 1) for place in range(10)],
            }
        )
    )


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(str(tmp_path_factory.mktemp("vectors")), "small")
    for side, vectors in VECTORS.items():
        with lake.draft(f"emb_fm_{side}", DAY) as draft:
            for file in (ROWS, BEFORE_TEST):
                embeddings.write(draft.path(file), f"{side}_id", np.arange(len(vectors)), vectors)
            if side == "user":
                np.save(draft.path(AFTER_ALL), LATEST)
    kinds: dict[str, index.Kind] = {"fm": "IVFFlatIP", "flat": "FlatIP", "other": "FlatIP"}
    for name, kind in kinds.items():
        items = ITEMS - (name == "other")
        with lake.draft(f"index_{name}", DAY) as draft:
            ids, settings = pa.array(np.arange(items)), IndexSettings(kind, 10, 10)
            index.build(VECTORS["item"][:items], ids, settings).write(draft.folder)
    with lake.draft("index_sharded", DAY) as draft:
        catalogue, queries = Catalogue.of(lake.read("emb_fm_item", DAY).path(ROWS), ITEMS * WIDTH), VECTORS["user"]
        exact = catalogue.exact(queries, K).lists
        shards.build(catalogue, lambda _: IndexSettings("IVFFlatIP", 2, 2), draft.folder, queries, exact, None)
        assert len(list(draft.folder.glob("faiss_index.*"))) == 4
    return lake


def opened(lake: Lake, log: Interactions, searched: Partition | None = None) -> ByVector:
    return ByVector(log, "online", lake.read("emb_fm_user", DAY), lake.read("emb_fm_item", DAY), searched)


def best(log: Interactions, vector: Vectors, hidden: set[int]) -> list[int]:
    """The numbers of the items with the highest products, without those that are hidden."""
    scores = VECTORS["item"][log.item_ids.astype(int)] @ vector
    return [item for item in np.argsort(-scores).tolist() if item not in hidden][:K]


def test_every_state_has_its_vectors_and_only_histories_that_go_on_are_encoded(lake: Lake, log: Interactions) -> None:
    channel, asked = opened(lake, log), user_queries(log, "online", np.arange(USERS))
    encoded: list[State] = []

    def encode(_: Interactions, queries: Queries) -> Vectors:
        encoded.append(queries.state)
        return -LATEST

    channel.encode = encode
    states = {State.BEFORE: VECTORS["user"], State.LATEST: LATEST, State.BEYOND: -LATEST}
    for state, vectors in states.items():
        found = channel(log, replace(asked, state=state), K, False)
        assert found.items.tolist() == [best(log, each, set()) for each in vectors]
    assert encoded == [State.BEYOND]
    channel.encode = None  # without a tower, the newest vectors that are kept serve
    latest, beyond = (channel(log, replace(asked, state=each), K, False) for each in (State.LATEST, State.BEYOND))
    assert np.array_equal(latest.items, beyond.items)


def test_a_partition_without_the_latest_vectors_is_served_too(lake: Lake, log: Interactions) -> None:
    with lake.draft("emb_fm_user", "2025-12-31") as draft:
        embeddings.write(draft.path(ROWS), "user_id", np.arange(USERS), VECTORS["user"])
    channel = ByVector(log, "online", lake.read("emb_fm_user", "2025-12-31"), lake.read("emb_fm_item", DAY))
    asked = replace(user_queries(log, "online", np.arange(USERS)), state=State.LATEST)
    assert channel(log, asked, K, False).items.tolist() == [best(log, each, set()) for each in VECTORS["user"]]
    channel.encode = lambda *_: LATEST
    assert channel(log, asked, K, False).items.tolist() == [best(log, each, set()) for each in LATEST]


@pytest.mark.parametrize("filter_seen", [True, False])
@pytest.mark.parametrize("kind", ["fm", "flat", "sharded"])
def test_a_whole_index_finds_what_all_products_do(lake: Lake, log: Interactions, filter_seen: bool, kind: str) -> None:
    everyone = user_queries(log, "online", np.arange(USERS + 1))
    hidden = np.zeros((len(everyone), len(log.item_ids)), bool)
    hidden[:, ::3] = True
    exact, searched = (opened(lake, log, each) for each in (None, lake.read(f"index_{kind}", DAY)))
    for asked in (everyone, replace(everyone, hidden=hidden)):
        lists = [channel(log, asked, K, filter_seen) for channel in (exact, searched)]
        assert np.array_equal(lists[0].items, lists[1].items)
        assert np.allclose(lists[0].scores[:-1], lists[1].scores[:-1], atol=1e-6)
        assert (lists[1].items[-1] < 0).all(), "nobody has a list without a vector"
    one = replace(everyone, users=everyone.users[2:3], starts=everyone.starts[2:3], ends=everyone.ends[2:3])
    alone, among = searched(log, one, K, filter_seen), searched(log, everyone, K, filter_seen)
    assert alone.scores.tolist() == among.scores[2:3].tolist(), "the same to the last bit"


def test_when_too_much_is_left_out_all_items_are_compared(
    lake: Lake, log: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, asked = opened(lake, log, lake.read("index_fm", DAY)), user_queries(log, "online", np.arange(USERS))
    found = channel(log, asked, K, True)
    monkeypatch.setattr(by_vector, "MOST_SEARCHED", K)
    monkeypatch.setattr(by_vector._Search, "__call__", lambda *_: pytest.fail("the index was asked"))
    assert np.array_equal(channel(log, asked, K, True).items, found.items)


def test_an_index_of_other_items_is_refused(lake: Lake, log: Interactions) -> None:
    with pytest.raises(UnusableIndex, match="is of other items than the vectors: materialize it again"):
        opened(lake, log, lake.read("index_other", DAY))
