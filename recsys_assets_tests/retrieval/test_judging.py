"""Lists that are judged block by block are judged as all of them at once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys_assets.funnel import channels
from recsys_assets.retrieval import judging
from recsys_assets.retrieval.details import details, faults
from recsys_assets.retrieval.interactions import Queries
from recsys_assets.retrieval.judging import judge
from recsys_assets.retrieval.lists import Lists, chance_recall, evaluate, judge_among
from recsys_assets_tests.retrieval.test_lists import random_case

CUTOFFS = (2, 5)
INTERACTIONS, ASKED, SCORES = random_case(29)
# As a method gives them, but with faults: seen items, and one that is listed twice.
EVERY = np.argsort(-SCORES, axis=1, kind="stable")[:, :5]
EVERY[3, 1] = EVERY[3, 0]
EVERY[8, 2:] = -1
LISTS = Lists(EVERY, np.where(EVERY < 0, -np.inf, np.take_along_axis(SCORES, EVERY, axis=1)).astype(np.float32))


def recall(asked: Queries) -> Lists:
    """The lists of some of the queries, without items that are hidden."""
    lists = LISTS.take(np.searchsorted(ASKED.users, asked.users))
    if asked.hidden is None:
        return lists
    hidden = np.take_along_axis(asked.hidden, np.maximum(lists.items, 0), axis=1)
    return replace(lists, items=np.where(hidden, -1, lists.items))


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_blocks_are_judged_as_all_lists_at_once(block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "BLOCK", block)
    found = judge(recall, INTERACTIONS, ASKED, CUTOFFS, True, tmp_path / "details.parquet")
    assert found.tally.at(CUTOFFS) == pytest.approx(evaluate(LISTS.items, ASKED, CUTOFFS), abs=1e-12)
    assert dict(found.faults) == faults(INTERACTIONS, ASKED, LISTS, True)
    assert found.faults["listed_twice"] == 1 < found.faults["seen"]
    assert np.array_equal(np.concatenate(found.heads), LISTS.items[:, :2])
    file = pq.ParquetFile(tmp_path / "details.parquet")
    assert file.read().equals(details(INTERACTIONS, ASKED, LISTS))
    assert file.num_row_groups == -(-len(ASKED) // block)


def test_coverage_is_the_share_of_the_catalogue_in_some_list(tmp_path: Path) -> None:
    catalogue = np.arange(len(INTERACTIONS.item_ids)) % 3 > 0
    found = judge(recall, INTERACTIONS, ASKED, CUTOFFS, False, tmp_path / "details.parquet")
    shown = [{item for row in EVERY[:, :k].tolist() for item in row if item >= 0 and item % 3} for k in CUTOFFS]
    assert found.coverage(catalogue) == pytest.approx([len(each) / catalogue.sum() for each in shown])
    assert found.coverage(catalogue)[0] < found.coverage(catalogue)[1]


def test_what_is_judged_among_some_items_and_chance_do_not_depend_on_blocks() -> None:
    candidates = np.arange(len(INTERACTIONS.item_ids)) % 4 == 0
    whole, parts = (judge_among(recall, candidates, ASKED.blocks(size), CUTOFFS) for size in (1000, 3))
    assert parts == pytest.approx(whole, abs=1e-12)
    assert 0 < whole["recall@5"] < 1
    assert judge_among(recall, ~candidates & False, ASKED.blocks(3), CUTOFFS) == {}
    chances = [chance_recall(INTERACTIONS, ASKED.blocks(size), candidates, 5, True) for size in (1000, 3)]
    assert chances[0] == pytest.approx(chances[1], abs=1e-12)


def test_random_lists_are_the_same_in_blocks() -> None:
    whole, parts = (
        [opened(INTERACTIONS, asked, 5, False).items for asked in ASKED.blocks(size)]
        for size, opened in ((size, channels.random(INTERACTIONS, "test")) for size in (1000, 3))
    )
    assert len(parts) > len(whole) == 1
    assert np.array_equal(np.concatenate(parts), whole[0])


def test_blocks_of_queries_are_the_queries() -> None:
    weighted = replace(ASKED, gains=np.arange(1.0, len(ASKED.truth) + 1))
    parts = list(weighted.blocks(6))
    assert [len(part) for part in parts[:-1]] == [6] * (len(parts) - 1)
    for name in ("users", "starts", "ends", "truth", "gains", "truth_sizes"):
        assert np.array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(weighted, name))
    assert [part for part in replace(weighted, successive=True).blocks(6)][0].successive
    assert len(list(replace(weighted, successive=True).blocks(6))) == 1
