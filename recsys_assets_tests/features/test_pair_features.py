"""User-item features: affinities equal a ridge regression, nothing leaks, and a planted world is recovered."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_assets import parallel
from recsys_assets.arrays import hashes
from recsys_assets.datasets.duck import connect
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.names import (
    AFFINITY,
    DISLIKED,
    ITEM_FACTORS,
    LIKED,
    NEARBY,
    RECENT_ITEMS,
    RECENT_LABELS,
    RECENT_VALUES,
    USER_FACTORS,
)
from recsys_assets.datasets.profile_parts import Affinity
from recsys_assets.features import affinity, neighbour_features
from recsys_assets.features.factor_model import DRIFT, LEVEL_DRIFT, NOISE, Events, fit_items, follow
from recsys_assets.features.neighbour_features import Nearby
from recsys_assets.features.pair_data import ItemSnapshot, PairFeature, Past, Recent
from recsys_assets.features.pair_data import Log as PairLog
from recsys_assets.features.pair_feature_files import ITEM_FILE, USER_FILE, Sources, write_pair_features
from recsys_assets.features.pair_features import MODEL_INPUTS, candidate_rows
from recsys_assets_tests.features.test_history import Log, write_log

USER_COUNT, ITEM_COUNT, WIDTH, FOLDS, RECENT = 60, 30, 2, 3, 6
RULE = Affinity(width=WIDTH, folds=FOLDS, recent=RECENT // 2)


def world(seed: int = 1) -> Events:
    """40 values per user, from two tastes and noise; each user's last 8 are not used for fitting."""
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(USER_COUNT), 40)
    items = rng.integers(0, ITEM_COUNT, len(users))
    tastes, kinds = rng.normal(size=(USER_COUNT, 2)), rng.normal(size=(ITEM_COUNT, 2))
    values = (tastes[users] * kinds[items]).sum(axis=1) + rng.normal(0, 0.5, len(users))
    return Events(users, items, (values / values.std()).astype(np.float32), np.tile(np.arange(40) < 32, USER_COUNT))


def labels_of(events: Events) -> np.ndarray:
    return (events.values > 0).astype(np.int8)


def log_of(events: Events, labels: np.ndarray | None = None) -> PairLog:
    labels = labels_of(events) if labels is None else labels
    labelled = Events(events.users, events.items, labels.astype(np.float32), events.train)
    users, items = (pa.array(np.arange(count)) for count in (USER_COUNT, ITEM_COUNT))
    return PairLog([events, labelled], labels, users, items, RULE)


def numbers(feature: PairFeature, log: PairLog) -> np.ndarray:
    """(M, width) the feature of all events."""
    column = feature.fit(log).column(np.arange(len(log.users)))
    return np.stack(column.to_numpy(zero_copy_only=False))


def served(log: PairLog, item: np.ndarray) -> pa.Table:
    """The rows of every user with an item, from the snapshots after the log."""
    users, items = {"user_id": log.user_ids}, {"item_id": log.item_ids}
    for feature in MODEL_INPUTS:
        fitted = feature.fit(log)
        users, items = users | fitted.of_user, items | fitted.of_item
    return candidate_rows(pa.table(users), ItemSnapshot(pa.table(items), RULE), np.arange(USER_COUNT), item)


def same_as_served(before: PairLog, after: PairLog, last: np.ndarray) -> None:
    """The features of the last events, which only the second log has, are those that the first one serves."""
    rows = served(before, after.items[last])
    for feature in MODEL_INPUTS:
        if feature.serve:
            found = np.stack(rows[feature.name].to_numpy())
            assert found == pytest.approx(numbers(feature, after)[last], abs=1e-5), feature.name


def test_a_users_state_is_the_regression_of_the_rows_before_on_items_whose_effect_wanders() -> None:
    """Not computed step by step: earlier values are jointly normal, with covariances from their distance in events."""
    events = world()
    items = fit_items(events, ITEM_COUNT, WIDTH)
    found, last = follow(items, events, np.arange(USER_COUNT))
    drift = np.array([LEVEL_DRIFT, *[DRIFT] * WIDTH])
    for user in (0, 17, USER_COUNT - 1):
        rows = np.flatnonzero(events.users == user)
        bias, weights = items[events.items[rows], 0], items[events.items[rows], 1:]
        step = np.arange(1, len(rows) + 1)
        variance = (
            1 + drift * np.minimum.outer(step, step)[:, :, None]
        )  # covariance of x at two steps: the drift that both share
        together = np.einsum("ad,bd,abd->ab", weights, weights, variance)
        for seen in (0, 1, 5, len(rows) - 1):
            told = np.linalg.solve(together[:seen, :seen] + NOISE * np.eye(seen), (events.values[rows] - bias)[:seen])
            assert found[rows[seen]] == pytest.approx(bias[seen] + together[seen, :seen] @ told, abs=1e-4)
        told = np.linalg.solve(together + NOISE * np.eye(len(rows)), events.values[rows] - bias)
        state = np.einsum("ad,ad,a->d", weights, variance[-1], told)
        assert last[user] == pytest.approx([1, *state], abs=1e-4)


def test_affinity_finds_the_planted_tastes_on_rows_it_was_not_fitted_on() -> None:
    events = world()
    found = numbers(affinity.AFFINITY_FEATURE, log_of(events))
    held_out = ~events.train
    assert np.corrcoef(found[held_out, 0], events.values[held_out])[0, 1] > 0.75
    late = np.arange(len(events.users)) % 40 >= 20
    out_of_fold = np.corrcoef(found[events.train & late, 0], events.values[events.train & late])[0, 1]
    assert out_of_fold == pytest.approx(np.corrcoef(found[held_out, 0], events.values[held_out])[0, 1], abs=0.1)


def test_serving_computes_from_the_snapshots_what_the_next_row_would_have() -> None:
    events = world()
    last = np.arange(len(events.users)) % 40 == 39
    same_as_served(log_of(events.take(~last)), log_of(events), last)


def test_recent_events_are_the_newest_of_a_kind_before_the_row() -> None:
    events = world()
    liked = labels_of(events) == 1
    found = Past(events.users, liked, RECENT).before(np.arange(len(events.users)))
    for row in (0, 1, 39, 40, 55, 799):
        earlier = [n for n in range(row - 1, -1, -1) if events.users[n] == events.users[row] and liked[n]][:RECENT]
        assert found[row].tolist() == earlier + [-1] * (RECENT - len(earlier))


def test_nearby_tells_of_items_like_those_a_user_liked() -> None:
    events = world()
    found = numbers(neighbour_features.NEARBY_FEATURE, log_of(events))
    seen = np.arange(len(events.users)) % 40 >= 20
    for column in range(6):
        assert np.corrcoef(found[seen, column], events.values[seen])[0, 1] > 0.3
    first = found[np.arange(len(events.users)) % 40 == 0]
    assert first.tolist() == [[0.5] * 3 + [0.0] * 3] * USER_COUNT, "nothing is known of a first row"


def test_no_row_knows_its_own_value_a_later_one_of_its_user_or_one_of_a_held_out_part() -> None:
    events = world()
    values, place = events.values.copy(), np.arange(len(events.users)) % 40
    values[(events.users == 7) & (place >= 10)] *= -1
    values[~events.train & (events.users % 2 == 1)] *= -1
    logs = log_of(events), log_of(Events(events.users, events.items, values, events.train))
    folds = log_of(events).user_folds
    of_fold = events.train & (folds[events.users] == folds[7])
    untouched = of_fold & ((events.users != 7) | (place <= 10))
    changed = of_fold & ~untouched
    for feature in MODEL_INPUTS:
        if feature.serve:
            before, after = (numbers(feature, log) for log in logs)
            assert np.array_equal(after[untouched], before[untouched]), feature.name
            differing = (after[changed] != before[changed]).any(axis=1)
            assert differing.all() or feature is not affinity.AFFINITY_FEATURE
            assert differing.any() or feature is not neighbour_features.NEARBY_FEATURE


@pytest.mark.parametrize("fold", range(FOLDS))
def test_the_items_of_a_fold_do_not_depend_on_any_row_of_its_users(fold: int) -> None:
    """From the start of the fit on: items of other folds, which may start from this one's users, do change."""
    events = world()
    own = log_of(events).user_folds[events.users] == fold
    other_values = Events(events.users, events.items, np.where(own, -events.values, events.values), events.train)
    kept = ~own | (np.arange(len(own)) % 2 == 0)
    expected = log_of(events).item_factors
    for changed in (log_of(other_values), log_of(events.take(kept))):
        same = (changed.item_factors == expected).all(axis=(0, 1, 3))
        assert same.tolist() == [other == fold for other in range(FOLDS)]


def test_the_items_are_the_same_whatever_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for count in (1, 3):
        monkeypatch.setattr(parallel, "threads", lambda count=count: count)
        found.append(log_of(world()).item_factors)
    assert np.array_equal(found[0], found[1])


def test_users_of_a_single_fold_leave_that_fold_the_prior() -> None:
    """Nothing is left to fit its items on, and nothing to start from."""
    events = world()
    log = log_of(events.take(events.users == FOLDS))
    bias, level, tastes = (log.item_factors[:, :, 0, place] for place in (0, 1, slice(2, None)))
    assert (bias == 0).all() and (tastes == 0).all() and (level == level[0, 0]).all() and (level > 0).all()


def test_events_without_a_value_are_as_if_they_were_not_there() -> None:
    """Except for the affinity of these events themselves, and for states that drift with every event of a user."""
    events = world()
    valued = np.random.default_rng(5).random(len(events.users)) < 0.5
    gaps = Events(events.users, events.items, np.where(valued, events.values, np.nan).astype(np.float32), events.train)
    without = events.take(valued)
    fitted = fit_items(gaps.take(gaps.has_value), ITEM_COUNT, WIDTH)
    assert np.array_equal(fitted, fit_items(without, ITEM_COUNT, WIDTH))
    predicted, last = follow(fitted, gaps, np.arange(USER_COUNT))
    assert np.isfinite(predicted).all()
    known, known_last = follow(fitted, without, np.arange(USER_COUNT))
    assert np.corrcoef(predicted[valued], known)[0, 1] > 0.999
    assert np.corrcoef(last[:, 1:].ravel(), known_last[:, 1:].ravel())[0, 1] > 0.999


def test_what_is_nearby_is_valued_by_the_rated_items_alone() -> None:
    events = world()
    items = fit_items(events, ITEM_COUNT, WIDTH)
    values = np.array([[1.5, np.nan, -0.5, np.nan]], np.float32)
    recent = Recent(np.array([[3, 4, 5, -1]]), values, np.array([[1, 0, 0, 0]], np.float32))
    rated = Recent(np.array([[3, 5]]), values[:, [0, 2]], np.array([[1, 0]], np.float32))
    candidate = np.array([4])  # the item without a rating
    found, expected = Nearby(items)(candidate, recent), Nearby(items)(candidate, rated)
    assert found[0, 3:] == pytest.approx(expected[0, 3:], abs=1e-6)
    assert found[0, :3] != pytest.approx(expected[0, :3], abs=1e-6), "a view without a rating has a label all the same"
    assert Nearby(items).of_one(candidate, recent) == pytest.approx(found, abs=1e-6)


def test_gaps_in_the_ratings_are_served_as_they_were_learned() -> None:
    events = world()
    values = np.where(np.random.default_rng(5).random(len(events.users)) < 0.5, events.values, np.nan)
    gaps = Events(events.users, events.items, values.astype(np.float32), events.train)
    last, labels = np.arange(len(events.users)) % 40 == 39, labels_of(events)
    known, found = log_of(gaps.take(~last), labels[~last]), log_of(gaps, labels)
    same_as_served(known, found, last)
    for columns in (affinity.fit(found).of_user, affinity.fit(found).of_item):
        assert all(np.isfinite(column.flatten()).all() for column in columns.values())
    for feature in (affinity.AFFINITY_FEATURE, neighbour_features.NEARBY_FEATURE):
        assert np.isfinite(numbers(feature, found)).all()


def test_a_new_user_moves_nobodys_fold() -> None:
    log = log_of(world())
    more = replace(log, user_ids=pa.array([-1, *log.user_ids.to_pylist()]))
    assert (more.user_folds[1:] == log.user_folds).all()
    assert len(set(log.user_folds.tolist())) == FOLDS


def test_users_without_events_get_what_everyone_gets(tmp_path: Path) -> None:
    log: Log = write_log(tmp_path, seed=7)
    with connect(tmp_path) as connection:
        rows = write_pair_features(connection, log.profile, Sources(log.splits, log.users, log.items), tmp_path)
    assert rows == {ROWS: len(log.offline), USER_FILE: 5, ITEM_FILE: 5}
    users, events = pq.read_table(tmp_path / USER_FILE), pq.read_table(tmp_path / ROWS)
    factors = np.stack(users[USER_FACTORS].to_numpy())
    rule = log.profile.features.affinity
    unknown = np.zeros((2, rule.folds, rule.width + 2))
    unknown[:, int(hashes(np.array([5]))[0]) % rule.folds, 0] = 1
    assert factors[4].tolist() == unknown.ravel().tolist(), "user 5 has no event"
    assert [
        users[column][4].as_py() for column in (LIKED, DISLIKED, RECENT_ITEMS, RECENT_VALUES, RECENT_LABELS)
    ] == 5 * [[]]
    items = pq.read_table(tmp_path / ITEM_FILE)
    for numbers in (users[USER_FACTORS], items[ITEM_FACTORS], events[NEARBY], events[AFFINITY]):
        assert np.isfinite(np.stack(numbers.to_numpy())).all()
    mine = [row for row in reversed(log.offline) if row["user_id"] == 2][: 2 * rule.recent]
    assert users[RECENT_ITEMS][1].as_py() == [row["item_id"] for row in mine]
    assert users[RECENT_LABELS][1].as_py() == [row["label"] for row in mine]
    liked = [row["item_id"] for row in reversed(log.offline) if row["user_id"] == 2 and row["label"]]
    assert users[LIKED][1].as_py() == liked[: log.profile.features.affinity.recent]
