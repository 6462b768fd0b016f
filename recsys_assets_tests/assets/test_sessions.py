"""The example of `docs/sessions.md` on a generated shop: who reads the rows without a user, and who does not."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from recsys_assets.assets.data.negatives import NEGATIVE_ITEMS
from recsys_assets.assets.data.samples import SESSIONS
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import load_profile
from recsys_assets.datasets.sessions import LOWEST_USER
from recsys_assets.lake import Lake
from recsys_assets.ranking.sample_parts import part_files
from recsys_assets.retrieval.details import DETAILS
from recsys_assets.retrieval.interactions import queries, read
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.in_process import failed_checks, failures, materialize
from recsys_assets_tests.helpers.shop_log import Shop, generate, land_shop
from recsys_assets_tests.helpers.worlds import own_environment

EXAMPLES = dict(
    re.findall(r"```yaml\nname: (\w+)\n(.*?)```", (PROJECT / "docs" / "sessions.md").read_text(), re.DOTALL)
)
LATE, SHARE = 999_999, 0.05  # an item that only anonymous sessions touch; the share of anonymous sessions
TABLES = ["users", "items", "splits", "factors", "event_features", "rank_samples", "recall_samples", "negative_items"]
RECALL = ["i2i_itemcf", "i2i_swing", "hitrate_itemcf", "hitrate_popularity"]
TOWER = ["feature_schema", "recall_sasrec", "emb_sasrec_user", "emb_sasrec_item", "hitrate_sasrec", "onnx_sasrec"]
QUICK = {"recall_sasrec": {"training": {"epochs": 1, "batch": 512}}}


def with_sessions(shop: Shop) -> Shop:
    """The shop's log with a session for each user and day, of which a share has no user."""
    rng, events = np.random.default_rng(1), shop.events
    days = (events["timestamp"].to_numpy() // 86_400).astype(str)
    names = pa.array(np.char.add(np.char.add(events["user_id"].to_numpy().astype(str), "-"), days))
    sessions = pc.unique(names)
    hidden = sessions.filter(pa.array(rng.random(len(sessions)) < SHARE))
    anonymous = pc.is_in(names, value_set=hidden)
    user = pc.if_else(anonymous, pa.scalar(None, pa.int64()), events["user_id"])
    early = [name for name in names.filter(anonymous).to_pylist() if not name.endswith(days[-1])]
    longest = max(sorted(set(early)), key=early.count)
    item = events["item_id"].to_numpy().copy()
    item[names.to_pylist().index(longest)] = LATE
    events = (
        events.set_column(0, "user_id", user)
        .set_column(1, "item_id", pa.array(item))
        .append_column("user_session", names)
    )
    return Shop(shop.tastes, shop.goods, shop.appeal, shop.categories, events)


class Visits:
    """A lake with the example's assets of the last day."""

    def __init__(self, home: Path) -> None:
        (home / "profile.yaml").write_text(f"name: visits\n{EXAMPLES['visits']}")
        self.profile = load_profile(str(home / "profile.yaml"))
        self.shop = with_sessions(generate(users=150, items=80, visits=2500, days=5, focus=0.5))
        self.days = land_shop(self.shop, self.profile.landing, with_users=False)
        (self.profile.landing / "items" / "late.csv").write_text(f"item_id,category\n{LATE},c1\n")
        assert failures(materialize(["interactions"], self.days[0], self.days[-1])) == {}
        self.result = materialize([*TABLES, *RECALL, *TOWER], self.days[-1], config=QUICK)
        assert failures(self.result) == {}
        self.lake = Lake(str(home / "lake"), "visits")

    def path(self, asset: str, file: str = ROWS) -> Path:
        return self.lake.read(asset, self.days[-1]).path(file)

    def table(self, asset: str, file: str = ROWS) -> pa.Table:
        return pq.read_table(self.path(asset, file))

    @property
    def is_anonymous(self) -> pa.ChunkedArray:
        return self.shop.events["user_id"].is_null()


@pytest.fixture(scope="module")
def visits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visits]:
    home = tmp_path_factory.mktemp("visits")
    with own_environment(home):
        yield Visits(home)


def users_of(table: pa.Table) -> set[int]:
    return {*table["user_id"].to_pylist()}


def test_users_are_those_who_signed_in(visits: Visits) -> None:
    known = {*visits.shop.events["user_id"].drop_null().to_pylist()}
    assert min(known) > LOWEST_USER
    for asset in ("users", "emb_sasrec_user"):
        assert users_of(visits.table(asset)) == known
    for part in ("train", "validation", "test"):
        samples = visits.lake.read("rank_samples", visits.days[-1])
        assert all(users_of(pq.read_table(file)) <= known for file in part_files(samples, part))
    assert users_of(visits.table("splits")) == known
    assert not failed_checks(visits.result) & {
        f"{asset}:{check}"
        for asset in TABLES
        for check in ("unique_keys", "no_nulls", "rows_match_splits", "parts_in_order", "features_know_only_the_past")
    }


def test_no_row_is_lost_and_anonymous_ones_are_marked(visits: Visits) -> None:
    hidden = visits.is_anonymous.to_numpy()
    assert 0.02 < hidden.mean() < 0.1
    apart = visits.table("splits", SESSIONS)
    assert len(apart) == hidden.sum()
    assert max(users_of(apart)) < LOWEST_USER
    assert len(users_of(apart)) == len(pc.unique(visits.shop.events["user_session"].filter(visits.is_anonymous)))
    both = visits.table("recall_samples")
    assert len(both) == len(hidden) == len(visits.table("splits")) + len(apart)
    assert users_of(both.filter(both["anonymous"])) == users_of(apart)
    assert len(both.filter(both["anonymous"])) == len(apart)
    assert visits.lake.manifest("splits", visits.days[-1]).metrics["anonymous_rows"] == hidden.sum()


def test_a_session_is_in_one_part_by_its_time(visits: Visits) -> None:
    apart = visits.table("splits", SESSIONS).group_by("user_id").aggregate([("part", "count_distinct")])
    assert len(apart) > 10
    assert pc.max(apart["part_count_distinct"]).as_py() == 1


def test_items_and_their_neighbours_come_from_all_rows(visits: Visits) -> None:
    events = read(visits.path("recall_samples"))
    assert events.anonymous.sum() == len(users_of(visits.table("splits", SESSIONS)))
    (late,) = np.flatnonzero(events.item_ids == LATE)
    assert events.anonymous[events.users[events.items == late]].all()
    listed = {*visits.table("i2i_itemcf")["item_id"].to_pylist()}
    weighted = {
        int(line.split("\t")[0]) for line in visits.path("negative_items", NEGATIVE_ITEMS).read_text().splitlines()[1:]
    }
    before = LATE in events.item_ids[events.before("test").items]
    assert (LATE in weighted) == before
    assert before, "the world's session with an item of its own is before the test day"
    assert LATE in listed
    vocabulary = {*visits.table("emb_sasrec_item")["item_id"].to_pylist()}
    assert vocabulary


def test_nobody_is_asked_about_a_session(visits: Visits) -> None:
    events = read(visits.path("recall_samples"))
    asked = queries(events, "test", filter_seen=False)
    assert not events.anonymous[asked.users].any()
    assert events.anonymous[events.users[events.parts == 2]].any(), "sessions have test rows, too"
    for method in ("itemcf", "sasrec", "popularity"):
        assert len(visits.table(f"hitrate_{method}", DETAILS)) == len(asked)


def test_published_users_are_known_ones(visits: Visits) -> None:
    events = read(visits.path("recall_samples"))
    ids = np.sort(visits.table("users")["user_id"].to_numpy())
    known = events.with_users(ids)
    assert len(known) == len(visits.table("splits"))
    assert (known.user_ids == ids).all()
    assert (events.user_ids[events.users][~events.anonymous[events.users]] == ids[known.users]).all()
