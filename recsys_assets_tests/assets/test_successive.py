"""The split `successive`, as in the example of `docs/datasets.md`: each test event of a small shop is asked about."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import load_profile
from recsys_assets.funnel.by_vector import BEFORE_EACH, BEFORE_TEST
from recsys_assets.lake import Lake
from recsys_assets.retrieval import embeddings
from recsys_assets.retrieval.details import DETAILS, read_items
from recsys_assets.retrieval.interactions import Queries, judged_queries, read
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.in_process import failed_checks, failures, materialize
from recsys_assets_tests.helpers.shop_log import generate, land_shop
from recsys_assets_tests.helpers.worlds import own_environment

(EXAMPLE,) = re.findall(r"^split: {strategy: successive.*}$", (PROJECT / "docs" / "datasets.md").read_text(), re.M)
PROFILE = """
name: steps
first_bizdate: 2026-01-01
landing: ${RECSYS_LANDING}/steps
tables:
  interactions: {user_id: int64, item_id: int64, timestamp: timestamp}
  items: {item_id: int64, category: strings}
features: {categorical: [user_id, item_id], multi_valued: [category], terms: {column: category}}
recall: {filter_seen: false}
"""
ASSETS = [
    "users",
    "items",
    "splits",
    "recall_samples",
    "factors",
    "event_features",
    "rank_samples",
    "feature_schema",
    "negative_items",
]
RECALL = ["recall_term", "hitrate_term", "recall_sasrec", "emb_sasrec_user", "emb_sasrec_item", "hitrate_sasrec"]
QUICK = {"recall_sasrec": {"training": {"epochs": 1, "batch": 512}}}


class Steps:
    """A lake with the assets of the last day."""

    def __init__(self, home: Path) -> None:
        (home / "profile.yaml").write_text(f"{PROFILE}{EXAMPLE}\n")
        self.profile = load_profile(str(home / "profile.yaml"))
        days = land_shop(generate(users=60, items=40, visits=600, days=3), self.profile.landing, with_users=False)
        assert failures(materialize(["interactions"], days[0], days[-1])) == {}
        self.result = materialize([*ASSETS, *RECALL], days[-1], config=QUICK)
        self.lake, self.day = Lake(str(home / "lake"), "steps"), days[-1]

    def path(self, asset: str, file: str = ROWS) -> Path:
        return self.lake.read(asset, self.day).path(file)

    @property
    def asked(self) -> Queries:
        return judged_queries(read(self.path("recall_samples")), self.profile)


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Steps]:
    home = tmp_path_factory.mktemp("steps")
    with own_environment(home):
        yield Steps(home)


def test_all_is_built_and_no_part_begins_before_the_previous_one_ends(steps: Steps) -> None:
    assert failures(steps.result) == {}
    assert not {each for each in failed_checks(steps.result) if not each.endswith("better_than_random")}
    splits = pq.read_table(steps.path("splits")).to_pandas().groupby("part")["timestamp"].agg(["min", "max", "size"])
    train, validation, test, online = (splits.loc[part] for part in ("train", "validation", "test", "online"))
    assert train["max"] < validation["min"] <= validation["max"] < test["min"] <= test["max"] < online["min"]
    assert abs(train["size"] / splits["size"].sum() - 0.7) < 0.02


def test_each_test_event_is_a_query_whose_history_is_all_that_its_user_did_before(steps: Steps) -> None:
    events, asked = read(steps.path("recall_samples")), steps.asked
    assert len(asked) == (events.parts == 2).sum() > len(np.unique(asked.users))
    np.testing.assert_array_equal(events.users[asked.ends], asked.users)
    np.testing.assert_array_equal(events.items[asked.ends], asked.truth)
    assert (events.users[np.maximum(asked.starts - 1, 0)] < asked.users)[asked.starts > 0].all()


def test_lists_come_from_what_the_user_did_last(steps: Steps) -> None:
    """Vectors are as of each event: at a user's first one those of just before the test rows, then others."""
    events, asked = read(steps.path("recall_samples")), steps.asked
    first = np.flatnonzero(np.diff(asked.users, prepend=-1))
    found = {file: embeddings.read(steps.path("emb_sasrec_user", file)) for file in (BEFORE_EACH, BEFORE_TEST)}
    ids, vectors = found[BEFORE_EACH]
    assert ids.to_pylist() == events.user_ids[asked.users].tolist()
    before = dict(zip(found[BEFORE_TEST][0].to_pylist(), found[BEFORE_TEST][1], strict=True))
    same = [np.allclose(vector, before[user], atol=1e-5) for user, vector in zip(ids.to_pylist(), vectors, strict=True)]
    assert np.array(same)[first].all()
    assert not np.array(same)[np.setdiff1d(np.arange(len(asked)), first)].any()


def test_the_report_reads_the_lists_of_the_same_queries(steps: Steps) -> None:
    events, asked = read(steps.path("recall_samples")), steps.asked
    for method in ("term", "sasrec"):
        (listed,) = read_items(steps.path(f"hitrate_{method}", DETAILS), events, asked, 20)
        found = (listed == asked.truth[:, None]).any(axis=1).mean()
        assert steps.lake.manifest(f"hitrate_{method}", steps.day).metrics["recall@20"] == pytest.approx(found)
