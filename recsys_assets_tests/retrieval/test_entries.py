"""Lists of a wide catalogue, of which only some scores are held: they are those of all scores."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import random_array

from recsys_assets.retrieval import row_sums
from recsys_assets.retrieval.entries import Entries
from recsys_assets.retrieval.lists import enough, recommend
from recsys_assets.retrieval.row_sums import sum_entries, sum_rows, summed_scores
from recsys_assets_tests.retrieval.test_lists import random_case


@pytest.mark.parametrize("filter_seen", [True, False])
@pytest.mark.parametrize("is_hidden", [True, False])
def test_lists_of_entries_are_those_of_all_scores(filter_seen: bool, is_hidden: bool) -> None:
    interactions, asked, scores = random_case(1)
    scores[:, ::7] = -np.inf
    if is_hidden:
        asked = replace(asked, hidden=np.random.default_rng(3).random(scores.shape) < 0.2)

    def entries(block: slice) -> Entries:
        """The highest scores of each query, as many as must be given."""
        found, most = scores[block], enough(asked, block, 8, filter_seen)
        chosen = np.argsort(-found, axis=1, kind="stable")[:, :most]
        row = np.repeat(np.arange(len(found)), chosen.shape[1])
        given = Entries(row, chosen.ravel(), found[row, chosen.ravel()])
        return given.where(given.score > -np.inf)

    expected = recommend(lambda block: scores[block].copy(), interactions, asked, 8, filter_seen)
    found = recommend(entries, interactions, asked, 8, filter_seen)
    assert np.array_equal(found.items, expected.items)
    assert np.array_equal(found.scores, expected.scores)


def test_a_score_that_is_no_number_is_an_error() -> None:
    interactions, asked, _ = random_case(0)
    broken = Entries(np.zeros(1, np.int64), np.ones(1, np.int64), np.full(1, np.nan, np.float32))
    with pytest.raises(ValueError, match="1 scores are not numbers"):
        recommend(lambda _: broken, interactions, asked, 8, True)


def test_sums_of_entries_are_those_of_rows_to_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    matrix = random_array((60, 90), density=0.2, rng=rng, dtype=np.float32).tocsr()
    row, asked = np.sort(rng.integers(0, 9, 200)), rng.integers(0, 60, 200)
    weight = rng.random(200).astype(np.float32)
    sums, entries = sum_rows(matrix, row, asked, weight, 10), sum_entries(matrix, row, asked, weight)
    assert np.array_equal(np.nonzero(sums), (entries.row, entries.item))
    assert np.array_equal(sums[entries.row, entries.item], entries.score)
    assert isinstance(summed_scores(matrix, row, asked, weight, 10), np.ndarray)
    monkeypatch.setattr(row_sums, "WIDE", 90)
    assert isinstance(summed_scores(matrix, row, asked, weight, 10), Entries)
