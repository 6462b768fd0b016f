"""Term recall: scores recounted row by row, its fallbacks, and its lists in files."""

import math
from collections import defaultdict
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.sparse import csr_array

from recsys_assets.datasets.ingest import ROWS
from recsys_assets.declined import CannotBeBuilt
from recsys_assets.funnel import channels
from recsys_assets.manifest import Manifest, Partition
from recsys_assets.retrieval import term
from recsys_assets.retrieval.interactions import Interactions, from_table, histories, queries
from recsys_assets.retrieval.scored_lists import keep_strongest, to_lists, to_matrix
from recsys_assets.retrieval.term import Taste, Tastes

GENRES = {1: ["War"], 2: ["Comedy", "War"], 3: ["Comedy"], 4: ["Drama"], 5: [], 6: ["War", "Drama", "Comedy"]}
ITEMS = pa.table({"item_id": list(GENRES), "genres": list(GENRES.values())})


def interactions(rows: list[tuple[int, int, int]], test: list[tuple[int, int, int]] | None = None) -> Interactions:
    """Interactions from train and test events (user, item, label)."""
    found = sorted([(*row, "train") for row in rows] + [(*row, "test") for row in test or []], key=lambda row: row[0])
    columns = map(list, zip(*found, strict=True))
    return from_table(pa.table(dict(zip(("user_id", "item_id", "label", "part"), columns, strict=True))))


def random_events(seed: int) -> Interactions:
    rng = np.random.default_rng(seed)
    drawn = np.stack([rng.integers(0, 9, 300), rng.integers(1, 7, 300), rng.integers(0, 2, 300)], 1)
    rows = [(int(user), int(item), int(label)) for user, item, label in drawn]
    return interactions(rows[:250], rows[250:])


def carried(events: Interactions) -> term.ItemTerms:
    return term.item_terms(ITEMS, "genres", events.item_ids)


def as_dicts(scores: csr_array, terms: np.ndarray) -> list[dict[str, float]]:
    """The terms and scores of each row, in the row's order."""
    return [
        {str(terms[place]): float(score) for place, score in zip(scores.indices[a:b], scores.data[a:b], strict=True)}
        for a, b in zip(scores.indptr[:-1], scores.indptr[1:], strict=True)
    ]


def test_an_item_s_terms_weigh_as_much_together_as_one_alone() -> None:
    found = term.item_terms(ITEMS, "genres", np.arange(1, 8))
    assert found.terms.tolist() == ["Comedy", "Drama", "War"]
    half, third = 1 / math.sqrt(2), 1 / math.sqrt(3)
    expected = [[0, 0, 1], [half, 0, half], [1, 0, 0], [0, 1, 0], [0] * 3, [third] * 3, [0] * 3]
    np.testing.assert_allclose(found.weights.toarray(), np.array(expected))


def test_terms_named_twice_empty_or_missing_are_as_if_written_once_or_not_at_all() -> None:
    messy = pa.table({"item_id": [9, 4, 7, 5], "tags": [["b", "a", "b"], None, ["", None, "b"], ["z"]]})
    found = term.item_terms(messy, "tags", np.array([4, 7, 9]))
    assert found.terms.tolist() == ["a", "b"]  # item 5 has no events
    np.testing.assert_allclose(found.weights.toarray(), np.array([[0, 0], [0, 1], [math.sqrt(0.5)] * 2]))


def test_where_no_item_has_a_term_nothing_can_be_recalled_by_terms() -> None:
    empty = pa.table({"item_id": [1, 2, 3], "tags": pa.array([[], None, [""]], pa.list_(pa.string()))})
    with pytest.raises(CannotBeBuilt, match="no item with an event has a term in the column tags"):
        term.item_terms(empty, "tags", np.array([1, 2, 3]))


def test_an_item_scores_the_root_of_its_positives_in_its_terms() -> None:
    events = interactions([(1, 1, 1), (2, 1, 1), (2, 2, 1), (3, 2, 1), (3, 4, 0), (4, 1, 0)])
    found = term.item_scores(events, carried(events))
    np.testing.assert_allclose(found.toarray(), np.array([[0, 0, math.sqrt(2)], [1, 0, 1], [0, 0, 0]]), rtol=1e-6)
    assert found.nnz == 3


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_user_s_scores_are_those_of_a_plain_loop(seed: int) -> None:
    events, taste = random_events(seed), Taste(window=6, decay=0.7, max_terms=3)
    known = events.before("test")
    starts, ends = histories(events, "online")
    found, levels = Tastes.learn(known, carried(events), taste).scores(events, starts, ends)
    genres_of = [GENRES[int(item)] for item in events.item_ids]
    share = {g: sum(g in genres_of[item] for item in known.items) / len(known) for g in ("Comedy", "Drama", "War")}
    for user, scores in enumerate(as_dicts(found, carried(events).terms)):
        expected: dict[str, float] = defaultdict(float)
        for age, row in enumerate(np.flatnonzero(events.users == user)[::-1][:6]):
            genres = genres_of[events.items[row]]
            for genre in genres if events.labels[row] else ():
                expected[genre] += 0.7**age / math.sqrt(len(genres)) / math.sqrt(share[genre])
        assert levels[user] == (0 if expected else 1)
        if expected:
            assert scores == pytest.approx(expected, rel=1e-5)
        assert list(scores.values()) == sorted(scores.values(), reverse=True)


def test_who_liked_nothing_lately_has_the_terms_of_all_their_rows_and_who_never_did_those_of_everyone() -> None:
    recent = [(1, 4, 1), (1, 3, 1), (1, 5, 1)]
    older = [(2, 4, 1), (2, 4, 1), (2, 1, 1), (2, 3, 0), (2, 5, 1)]  # item 5 has no term
    never = [(3, 1, 0), (3, 5, 1)]
    events = interactions(recent + older + never)
    starts, ends = (np.append(edges, 0) for edges in histories(events, "test"))  # and a user without any row
    found, levels = Tastes.learn(events, carried(events), Taste(window=2)).scores(events, starts, ends)
    assert [term.LEVELS[level] for level in levels] == ["recent", "history", "everyone", "everyone"]
    scores = as_dicts(found, carried(events).terms)
    drama, war, comedy = (1 / math.sqrt(n / 10) for n in (3, 2, 2))
    assert scores[0] == pytest.approx({"Comedy": 0.8 * comedy})
    assert scores[1] == pytest.approx({"Drama": 2 * drama, "War": war})
    assert scores[2] == scores[3] == pytest.approx({"Drama": 3 * drama, "Comedy": comedy, "War": war})


def test_no_user_has_more_terms_than_allowed_and_of_equal_ones_the_first_by_name_stay() -> None:
    events = interactions([(1, 6, 1), (2, 1, 1), (2, 3, 1), (2, 4, 1)])
    starts, ends = histories(events, "test")
    for most, expected in {1: ["Comedy"], 2: ["Comedy", "Drama"], 9: ["Comedy", "Drama", "War"]}.items():
        found, _ = Tastes.learn(events, carried(events), Taste(max_terms=most)).scores(events, starts, ends)
        assert list(as_dicts(found, carried(events).terms)[0]) == expected


def test_a_list_s_score_is_the_sum_over_common_terms_and_other_items_are_in_no_list() -> None:
    likes = [(1, 3, 1), (2, 3, 1), (2, 2, 1), (2, 4, 1), (3, 6, 1), (3, 4, 1), (3, 5, 1)]
    events = interactions(likes, [(1, 2, 1)])
    asked = queries(events, "test", True)
    found = term.recommend(events, asked, "test", carried(events), Taste(), 6, True)
    user = 1 / math.sqrt(4 / 7) / 1  # Comedy is in 4 of the 7 events: items 3, 3, 2 and 6
    assert events.item_ids[found.items[0][:2]].tolist() == [2, 6]
    np.testing.assert_allclose(found.scores[0][:2], [user / math.sqrt(2), user / math.sqrt(3)], rtol=1e-6)
    assert found.items[0][2:].tolist() == [-1] * 4


def test_what_is_learned_is_that_of_the_rows_before_the_part() -> None:
    events = random_events(5)
    asked = queries(events, "test", False)
    first = term.recommend(events, asked, "test", carried(events), Taste(), 6, False)
    shuffled = np.where(events.parts == 2, 0, events.items)
    other = term.recommend(replace(events, items=shuffled), asked, "test", carried(events), Taste(), 6, False)
    np.testing.assert_array_equal(other.scores, first.scores)


def test_the_strongest_of_a_row_come_first_and_ties_by_column() -> None:
    matrix = csr_array(np.array([[1, 3, 0, 3], [0, 0, 0, 0], [2, 0, 5, 0]]))
    found = keep_strongest(matrix, 2)
    assert found.indptr.tolist() == [0, 2, 2, 4]
    assert found.indices.tolist() == [1, 3, 2, 0]
    assert found.data.tolist() == [3, 3, 5, 2]


def test_scores_in_a_file_are_read_back_and_unknown_ids_left_out(tmp_path: Path) -> None:
    matrix = keep_strongest(csr_array(np.array([[0.5, 0, 2], [0, 0, 0], [0, 1, 0]])), 3)
    column = to_lists(matrix, "term", np.array(["a", "b", "c"], object))
    assert column.to_pylist()[0] == [{"term": "c", "score": 2.0}, {"term": "a", "score": 0.5}]
    pq.write_table(pa.table({"terms": column}), tmp_path / "terms.parquet")
    read, terms = pq.read_table(tmp_path / "terms.parquet")["terms"], np.array(["a", "b", "c"], object)
    found = to_matrix(read, "term", terms)
    assert found.toarray().tolist() == [[0.5, 0, 2], [0, 0, 0], [0, 1, 0]]
    assert found.indices.tolist() == [2, 0, 1]  # the entries of a row in the order of its list
    assert to_matrix(read, "term", terms[1:]).toarray().tolist() == [[0, 2], [0, 0], [1, 0]]


def test_a_partition_s_terms_are_those_of_the_histories_and_a_term_without_positives_lists_nothing(
    tmp_path: Path,
) -> None:
    events = interactions([(1, 1, 1), (2, 3, 1), (3, 4, 1)], [(1, 2, 1), (2, 2, 1), (3, 6, 1)])
    inverted = {
        "term": ["Comedy", "War"],
        "items": [[{"item_id": 6, "score": 3.0}], [{"item_id": 2, "score": 3.0}, {"item_id": 1, "score": 2.0}]],
    }
    pq.write_table(pa.table(inverted), tmp_path / channels.TERM_ITEMS)
    pq.write_table(ITEMS, tmp_path / ROWS)
    config = {"column": "genres", **asdict(Taste())}
    manifest = Manifest("recall_term", "sample", "2026-01-01", files={channels.TERM_ITEMS: "", ROWS: ""}, config=config)
    recall = channels.ByTerm(events, "test", *[Partition(tmp_path, manifest)] * 2)
    found = recall(events, queries(events, "test", True), 2, True)
    assert [events.item_ids[row[row >= 0]].tolist() for row in found.items] == [[2], [6], []]
