"""The funnel's parts on examples small enough to count by hand."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys_assets.features.schema import encode
from recsys_assets.funnel import evaluation, recommendations
from recsys_assets.funnel.merge import Fusion
from recsys_assets.funnel.model import FunnelModel, Sizes, recommend
from recsys_assets.funnel.scoring import ONNX_BATCH, NotTheChampion, Scorer
from recsys_assets.funnel.stopwatch import Stopwatch
from recsys_assets.retrieval.interactions import Interactions, Queries, from_table, queries, user_queries
from recsys_assets.retrieval.lists import Lists, evaluate
from recsys_assets.training import rankers
from recsys_assets_tests.helpers.ranking_rows import quick_settings, ranking_rows, ranking_schema, sequence_schema


def events(*rows: tuple[int, int, int, str]) -> Interactions:
    columns = zip(*rows, strict=True)
    return from_table(pa.table(dict(zip(("user_id", "item_id", "label", "part"), map(list, columns), strict=True))))


def lists(*rows: list[int]) -> Lists:
    """Lists of item numbers, padded to the longest."""
    width = max(map(len, rows))
    items = np.array([row + [-1] * (width - len(row)) for row in rows])
    return Lists(items, np.where(items >= 0, -np.arange(width), -np.inf).astype(np.float32))


# Items are numbered from 0: item 10 is 0, item 11 is 1 and so on.
KNOWN = events(
    *((1, 10, 1, "train"), (1, 11, 0, "train"), (1, 12, 1, "online"), (1, 13, 0, "online"), (1, 10, 1, "online")),
    *((2, 13, 1, "train"), (2, 14, 1, "test"), (2, 10, 0, "online"), (2, 11, 1, "online"), (2, 15, 1, "online")),
    (3, 12, 1, "train"),
)
BOTH = user_queries(KNOWN, "online", np.array([0, 1]))


def test_figures_are_those_of_the_evaluation_of_recall() -> None:
    rng = np.random.default_rng(0)
    items = np.array([rng.permutation(6) for _ in range(2)])
    right = queries(KNOWN, "online", True, "touched")
    assert [right.truth[a:b].tolist() for a, b in zip(right.truth_starts, right.truth_starts[1:], strict=False)] == [
        [2, 3],
        [0, 1, 5],
    ]
    figures, expected = evaluation.judge(items, right).figures(), evaluate(items, right, evaluation.FINAL_CUTOFFS)
    assert figures == pytest.approx({name: expected[name] for name in evaluation.NAMES})


def test_differences_are_of_the_same_draws() -> None:
    right = Queries(*(np.arange(50),) * 3, truth=np.arange(50), truth_starts=np.arange(51))
    first = np.where(np.arange(50) % 2, np.arange(50), 50)[:, None]
    judged = {"final": evaluation.judge(first, right), "same": evaluation.judge(first, right)}
    judged["worse"] = evaluation.judge(np.where(np.arange(50) % 4 == 1, np.arange(50), 50)[:, None], right)
    compared = evaluation.compare(judged, "final")
    found = compared.intervals["final"]["recall@10"]
    assert found.low < judged["final"].figures()["recall@10"] == 0.5 < found.high
    assert (compared.differences["same"]["ndcg@50"].low, compared.differences["same"]["ndcg@50"].high) == (0, 0)
    assert 0 < compared.differences["worse"]["ndcg@50"].low < compared.differences["worse"]["ndcg@50"].high < found.high


def test_every_right_answer_ends_at_one_step() -> None:
    everything = queries(KNOWN, "online", False, "touched")
    catalogue = KNOWN.before("online").item_counts > 0
    items = {
        "final": np.array([[2], [3]]),
        "candidates": np.array([[2, 3], [3, 4]]),
        "sasrec": np.array([[2, 3], [0, 4]]),
    }
    lost = evaluation.losses(KNOWN, everything, catalogue, items, True)
    # User 1: 10 was seen, 13 is a candidate, 12 is recommended. User 2: 15 is unknown, 11 is in no channel, 10 in one.
    assert list(lost) == [
        "seen before",
        "not in the catalogue",
        "in no channel",
        "cut in the merge",
        "cut by the ranking",
        "recommended",
    ]
    assert set(lost.values()) == {1}
    assert sum(lost.values()) == len(everything.truth)
    assert evaluation.losses(KNOWN, everything, catalogue, items, False)["seen before"] == 0


def test_slices_share_out_the_right_answers() -> None:
    right = queries(KNOWN, "online", True, "touched")
    parts = evaluation.slices(KNOWN, right, {"liked": queries(KNOWN, "online", True)})
    assert {name: len(part.truth) for name, part in parts.items()} == {
        "liked": 3,
        "user with under 10 earlier rows": 5,
        "item with under 10 earlier rows": 5,
    }
    some = right.restrict(np.array([False, False, True, False, True]))
    assert (some.users.tolist(), some.truth.tolist(), some.truth_sizes.tolist()) == ([1], [0, 5], [2])


def test_an_item_is_listed_with_its_scores_and_the_channels_that_hold_it() -> None:
    channels = {"itemcf": lists([2, 3], []), "sasrec": lists([3], [1])}
    model = FunnelModel(Fusion(1.0, {"itemcf": 1.0, "sasrec": 1.0}), Sizes(), None)
    found = recommend(model, channels, 6, lambda those: {"probability": np.full(len(those), 0.25)}, Stopwatch())
    final = found.final
    first, second = recommendations.table(KNOWN, BOTH, channels, final).to_pylist()
    assert [(item["item_id"], item["channels"]) for item in first["items"]] == [
        (13, ["itemcf", "sasrec"]),
        (12, ["itemcf"]),
    ]
    scores = [first["items"][1][name] for name in ("score", "recall", "probability")]
    assert scores == pytest.approx([0.5, 0.5, 0.25])
    assert (second["user_id"], [item["item_id"] for item in second["items"]]) == (2, [11])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[rankers.Ranker, Path]:
    """A ranker and its ONNX file."""
    rows, _ = ranking_rows(2000, 0)
    ranker = rankers.fit("lgbm", ranking_schema(), rows, rows.slice(0, 500), *quick_settings("lgbm", 3), seed=1)
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    ranker.export(path, {})
    return ranker, path


def test_the_scorer_gives_in_batches_what_the_model_gives_at_once(exported: tuple[rankers.Ranker, Path]) -> None:
    ranker, path = exported
    rows, _ = ranking_rows(ONNX_BATCH + 1000, 1)
    score = Scorer(path, ranker.fitted.schema)
    assert np.abs(score(rows) - ranker.predict(encode(ranker.fitted.schema, rows))).max() < 1e-6
    assert score(rows.slice(0, 0)).tolist() == []


def test_a_file_that_was_exported_under_another_schema_is_refused(exported: tuple[rankers.Ranker, Path]) -> None:
    with pytest.raises(NotTheChampion, match="was exported under feature schema"):
        Scorer(exported[1], sequence_schema())
