"""The examples of `docs/implicit.md` on a generated shop: what is built from a log of positives and of kinds."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from recsys_assets.arrays import find
from recsys_assets.assets.reports.funnel_report import RECOMMENDATIONS
from recsys_assets.datasets.ingest import REJECTED, ROWS
from recsys_assets.datasets.names import DRAW_LOG_RATE, DRAWN, KIND, RECALL_LABEL, WEIGHT
from recsys_assets.datasets.profile import load_profile
from recsys_assets.datasets.row_files import column_names, read_columns
from recsys_assets.funnel.funnel import events_of
from recsys_assets.lake import Lake
from recsys_assets.ranking.sample_parts import RANKED_PARTS, part_files
from recsys_assets.retrieval.interactions import queries, read
from recsys_assets.retrieval.lists import by_query
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.in_process import failed_checks, failures, materialize
from recsys_assets_tests.helpers.shop_log import Shop, generate, land_shop
from recsys_assets_tests.helpers.worlds import own_environment

EXAMPLES = dict(
    re.findall(r"```yaml\n(name: (\w+)\n.*?)```", (PROJECT / "docs" / "implicit.md").read_text(), re.DOTALL)
)
SAMPLES = ["users", "items", "splits", "factors", "event_features", "rank_samples", "recall_samples"]
RECALL = ["i2i_itemcf", "hitrate_itemcf", "hitrate_popularity"]
FUNNEL = ["user_features", "item_features", "funnel_model", "funnel_report"]
RANKING = ["feature_schema", "user_features", "item_features", "rank_lgbm", "onnx_lgbm"]


class Built:
    """A lake with the assets of an example, of the last day."""

    def __init__(self, name: str, home: Path, shop: Shop, assets: list[str]) -> None:
        text = next(example for example, found in EXAMPLES.items() if found == name)
        (home / "profile.yaml").write_text(text)
        self.profile = load_profile(str(home / "profile.yaml"))
        self.days = land_shop(shop, self.profile.landing)
        first = materialize(["interactions"], self.days[0], self.days[-1])
        assert failures(first) == {}
        self.result = materialize([*SAMPLES, *assets], self.days[-1])
        assert failures(self.result) == {}
        self.lake = Lake(str(home / "lake"), name)

    def table(self, asset: str, file: str = ROWS) -> pa.Table:
        return pq.read_table(self.lake.read(asset, self.days[-1]).path(file))

    def part(self, asset: str, part: str) -> pa.Table:
        """The rows of a part of samples."""
        files = part_files(self.lake.read(asset, self.days[-1]), part)
        return read_columns(files, column_names(files))


def build(name: str, home: Path, shop: Shop, assets: list[str]) -> Iterator[Built]:
    with own_environment(home):
        yield Built(name, home, shop, assets)


@pytest.fixture(scope="module")
def plays(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    shop = generate(users=150, items=80, visits=2500, days=5, focus=0.5).views()
    yield from build("plays", tmp_path_factory.mktemp("plays"), shop, RANKING)


@pytest.fixture(scope="module")
def goods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    shop = generate(users=150, items=80, visits=2500, days=5, focus=0.5)
    first = shop.events.slice(0, 3)
    kinds = pa.array([None, "return", "view"])
    events = pa.concat_tables([first.set_column(3, "kind", kinds), shop.events])
    yield from build("goods", tmp_path_factory.mktemp("goods"), replace(shop, events=events), [*RECALL, *FUNNEL])


@pytest.mark.fails_check("rank_*:auc_floor", "*:label_rate_is_steady")
def test_a_log_of_positives_trains_a_ranker_on_drawn_negatives(plays: Built) -> None:
    assert not {each for each in failed_checks(plays.result) if "rank_samples" in each or "factors" in each}
    rows = pa.concat_tables([plays.part("rank_samples", part) for part in RANKED_PARTS])
    drawn = rows[DRAWN].to_numpy(zero_copy_only=False)
    assert (rows["label"].to_numpy() == ~drawn).all()
    assert 3.9 < drawn.sum() / (~drawn).sum() <= 4
    manifest = plays.lake.manifest("rank_lgbm", plays.days[-1])
    assert manifest.metrics["test_auc"] > 0.55
    assert {"correction_slope", "correction_shift"} <= manifest.metrics.keys()
    (event,) = plays.result.asset_materializations_for_node("rank_lgbm")
    assert event.metadata["negatives"].value == (
        "4 items per positive, drawn by popularity^0.75 as of the moment of the event"
    )


def test_factors_of_positives_tell_what_a_user_touches(plays: Built) -> None:
    test = plays.part("rank_samples", "test")
    affinity = np.stack(test["user_item_affinity"].to_numpy(zero_copy_only=False))[:, -1]
    labels = test["label"].to_numpy()
    assert affinity[labels == 1].mean() > affinity[labels == 0].mean() + 0.1 * affinity.std()


def test_items_have_the_chance_to_be_drawn_and_no_model_reads_it(plays: Built) -> None:
    chances = np.exp(plays.table("item_features")[DRAW_LOG_RATE].to_numpy())
    assert chances.sum() == pytest.approx(4)
    assert DRAW_LOG_RATE not in plays.lake.read("feature_schema", plays.days[-1]).path("schema.json").read_text()


def test_the_kind_of_an_event_is_part_of_its_key_and_must_be_known(goods: Built) -> None:
    rejected = pq.read_table(goods.lake.read("interactions", goods.days[0]).path(REJECTED))
    assert sorted(zip(rejected["reason"].to_pylist(), rejected["kind"].to_pylist(), strict=True)) == [
        ("kind is missing", None),
        ("kind is not among events.weights", "return"),
        ("repeats user, item, time and kind", "view"),
    ]
    splits = goods.table("splits")
    assert splits.num_rows == sum(goods.lake.manifest("interactions", day).rows or 0 for day in goods.days)
    by_kind = {kind: splits.filter(pc.equal(splits[KIND], kind)) for kind in ("view", "cart", "order")}
    for kind, weight, recall, rank in (("view", 1, 0, 0), ("cart", 3, 1, 0), ("order", 10, 1, 1)):
        for column, value in ((WEIGHT, weight), (RECALL_LABEL, recall), ("label", rank)):
            assert pc.unique(by_kind[kind][column]).to_pylist() == [value]
        assert by_kind[kind].num_rows > 20


def test_recall_looks_for_its_own_kinds_and_counts_by_weight(goods: Built) -> None:
    events = read(goods.lake.read("recall_samples", goods.days[-1]).path(ROWS))
    assert set(events.weights) == {1.0, 3.0, 10.0}
    assert (events.labels == (events.weights > 1)).all()
    assert (events.gains == np.where(events.weights > 1, events.weights, 0)).all()
    assert goods.lake.manifest("hitrate_itemcf", goods.days[-1]).metrics["recall@20"] > 0.2


@pytest.mark.fails_check("funnel_report:final_beats_all")
def test_the_funnel_is_learned_and_judged_by_weights_and_reports_the_other_answers(goods: Built) -> None:
    report, model = (goods.lake.manifest(asset, goods.days[-1]) for asset in ("funnel_report", "funnel_model"))
    assert report.config["right"] == model.config["right"] == "weighted"
    heavy, touched, liked = (report.metrics[f"final.{kind}ndcg@50"] for kind in ("", "touched.", "liked."))
    assert len({heavy, touched, liked}) == 3
    events = events_of(*(goods.lake.read(asset, goods.days[-1]) for asset in ("splits", "users")))
    asked = queries(events, "online", False, "weighted")
    assert set(asked.gains) == {1.0, 3.0, 10.0}
    entries = goods.table("funnel_report", RECOMMENDATIONS)["items"].to_pylist()
    items = np.array([[find(events.item_ids, np.array([e["item_id"]]))[0] for e in entry] for entry in entries])
    assert heavy == pytest.approx(by_query(items[asked.users], asked, 50)["ndcg"][:, -1].mean())


def test_ranked_rows_of_kinds_are_of_the_log_and_drawn(goods: Built) -> None:
    train = goods.part("rank_samples", "train")
    drawn = train[DRAWN].to_numpy(zero_copy_only=False)
    orders, labels = train["label"].to_numpy() == 1, train["label"].to_numpy()
    assert drawn.sum() == pytest.approx(4 * orders.sum(), rel=0.02)
    assert (labels[~drawn] == 0).sum() > orders.sum(), "views are negatives of the log"
    assert len(np.stack(train["user_item_affinity"].to_numpy(zero_copy_only=False))[0]) == 2, "weight and label"


def test_lists_hold_seen_items_where_people_come_back(goods: Built) -> None:
    events = read(goods.lake.read("recall_samples", goods.days[-1]).path(ROWS))
    repeated = len(events) - len(np.unique(events.users * len(events.item_ids) + events.items))
    assert repeated > 0.2 * len(events)
    least = {"popularity": 1.0, "itemcf": 0.7}  # a list from neighbours lacks items far from all others
    for method, recall in least.items():
        metrics = goods.lake.manifest(f"hitrate_{method}", goods.days[-1]).metrics
        assert metrics["recall@200"] >= recall, "there are 80 items: what was seen is listed as well"
