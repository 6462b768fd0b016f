"""The stages of an evaluation, and that choices are made on validation rows alone."""

from dataclasses import replace
from functools import cache

import numpy as np
import pyarrow as pa
import pytest

from recsys_assets.arrays import Doubles
from recsys_assets.coldstart import trial
from recsys_assets.coldstart.content import content_of
from recsys_assets.coldstart.methods import Known
from recsys_assets.coldstart.stages import Drawn, StagePart, stage_of
from recsys_assets.coldstart.trial import Outcome, compare
from recsys_assets.declined import CannotBeBuilt
from recsys_assets.features.schema import Feature, FeatureSchema
from recsys_assets.retrieval.interactions import Interactions, from_table

USERS, ITEMS = 80, 60
SCHEMA = FeatureSchema(
    [
        Feature("item_id", "categorical", "item", "int64", "id", list(range(ITEMS))),
        Feature("colour", "categorical", "item", "string", "side", ["blue", "red"]),
        Feature("item_count", "numeric", "item", "float32", mean=[0.0], std=[1.0]),
        Feature("size", "numeric", "item", "float32", mean=[30.0], std=[10.0], boundaries=[10.0, 50.0]),
        Feature("look", "numeric", "item", "float32", length=2, mean=[0.0, 0.0], std=[1.0, 2.0]),
    ]
)


def table() -> pa.Table:
    size = pa.array([*range(ITEMS - 1), None], pa.float32())
    look = pa.array([[n / 10, -1.0] for n in range(ITEMS)], pa.list_(pa.float32()))
    return pa.table({"item_id": range(ITEMS), "colour": ["blue", "red"] * (ITEMS // 2), "size": size, "look": look})


@cache
def log() -> Interactions:
    """Users like items of one colour; items from 50 on appear in the validation part, those from 55 on in the test."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(USERS):
        mine = rng.permutation(np.arange(user % 2, ITEMS, 2)).tolist()
        for part, last, count in (("train", 50, 10), ("validation", 55, 6), ("test", 60, 14)):
            chosen = [item for item in mine if item < last][:count]
            mine = [item for item in mine if item not in chosen]
            rows += [(user, item, 1, part) for item in chosen]
    columns = list(zip(*rows, strict=True))
    return from_table(pa.table(dict(zip(("user_id", "item_id", "label", "part"), columns, strict=True))))


def outcome(events: Interactions, drawn: Drawn) -> Outcome:
    validation, test = stage_of(events, drawn, "validation", True), stage_of(events, drawn, "test", True)
    return compare(validation, test, content_of(SCHEMA, table(), events.item_ids), lambda _: {}, True)


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_held_out_item_has_no_event_before_its_part_and_none_in_the_other_stage(part: StagePart) -> None:
    events = log()
    drawn = Drawn.of(events, 0.2, seed=1)
    assert np.bincount(drawn.stage, minlength=3).tolist() == [48, 6, 6]
    stage = stage_of(events, drawn, part, True)
    own = {"validation": 1, "test": 2}[part]
    assert (stage.known.item_counts[drawn.stage > 0] == 0).all()
    assert stage.cold[drawn.stage == own].all()
    assert not (stage.cold | stage.warm)[drawn.stage == 3 - own].any()
    assert stage.log.item_counts[drawn.stage == own].tolist() == events.item_counts[drawn.stage == own].tolist()
    assert (np.diff(stage.log.parts.astype(int))[np.diff(stage.log.users) == 0] >= 0).all()


def test_by_first_appearance_cold_are_the_items_that_begin_in_the_part() -> None:
    events = log()
    parts: dict[StagePart, range] = {"validation": range(50, 55), "test": range(55, 60)}
    for part, expected in parts.items():
        stage = stage_of(events, Drawn.nothing(events), part, True)
        assert np.flatnonzero(stage.cold).tolist() == list(expected)


def test_the_methods_that_read_content_find_cold_items_and_the_merged_list_is_the_best_of_all() -> None:
    found = outcome(log(), Drawn.of(log(), 0.2, seed=1))
    cold = {name: each["cold_ndcg@20"] for name, each in found.test.items()}
    assert cold["random"] < 0.8, "half of the few cold items are of the user's colour"
    assert cold[found.winner] > 0.9
    assert found.winner in ("ridge", "neighbours", "aligned_ease")
    assert found.test["merged"]["warm_ndcg@20"] >= 0.98 * found.test[found.preference]["warm_ndcg@20"]
    assert found.test["merged"]["all_ndcg@20"] > found.test[found.preference]["all_ndcg@20"]


def test_test_rows_change_no_choice() -> None:
    events, drawn = log(), Drawn.nothing(log())
    tested = events.parts == 2
    other = replace(events, items=np.where(tested, (events.items + 2) % ITEMS, events.items))
    one, two = outcome(events, drawn), outcome(other, drawn)
    assert (one.settings, one.winner, one.preference) == (two.settings, two.winner, two.preference)
    assert one.validation == two.validation
    assert one.test != two.test


def test_one_cold_item_that_many_like_does_not_lift_all_cold_items() -> None:
    """The lead of a lift, less its standard error over items: it counts if many items give it."""
    events = log()
    stage = stage_of(events, Drawn.nothing(events), "validation", True)
    known, users, width = Known.of(stage.known, content_of(SCHEMA, table(), events.item_ids)), USERS, ITEMS
    right = np.zeros((users, width))
    right[stage.asked.truth_queries, stage.asked.truth] = 1
    preference = np.random.default_rng(0).normal(size=(users, width))
    first = np.flatnonzero(stage.cold)[0]
    of_one = np.where(np.arange(width) == first, right, -right)

    def lift(content: Doubles) -> float:
        return trial._merging(lambda block: preference[block], lambda block: content[block], known, stage, True)["lift"]

    assert lift(of_one) == trial.LIFTS[0] < lift(right)


def test_a_log_without_cold_items_is_declined() -> None:
    events = log()
    with pytest.raises(CannotBeBuilt, match="no user has a positive with a new item in the validation part"):
        outcome(replace(events, items=events.items % 20), Drawn.nothing(events))


def test_content_is_values_z_scores_and_edges_and_never_a_statistic() -> None:
    content = content_of(SCHEMA, table(), np.array([3, 59, 77]))
    assert content.names == ["colour", "size", "look"]
    assert content.fields.tolist() == [0, 0, 1, 1, 1, 2, 2]
    np.testing.assert_allclose(content.values[0], [0, 1, -2.7, 0, 0, 0.3, -0.5], atol=1e-6)
    np.testing.assert_allclose(content.values[1], [0, 1, 0, 0, 0, 5, -0.5])
    assert not content.values[2].any(), "an item that the table lacks"
