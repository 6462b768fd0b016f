"""Affinities: the ridge regression they are, what they may not know, and what they know of a planted world."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys_assets.datasets.duck import connect
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.features.affinity import AFFINITY, ITEM_FACTORS, ITEMS, USER_FACTORS, USERS, write_affinities
from recsys_assets.features.factors import NOISE, Events, affinities, fit_items, follow
from recsys_assets_tests.test_history import Log, write_log

USER_COUNT, ITEM_COUNT, WIDTH, FOLDS = 60, 30, 2, 3


def world(seed: int = 1) -> Events:
    """40 values a user, made of two tastes and noise; the last 8 of each user are not for fitting."""
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(USER_COUNT), 40)
    items = rng.integers(0, ITEM_COUNT, len(users))
    tastes, kinds = rng.normal(size=(USER_COUNT, 2)), rng.normal(size=(ITEM_COUNT, 2))
    values = (tastes[users] * kinds[items]).sum(axis=1) + rng.normal(0, 0.5, len(users))
    return Events(users, items, (values / values.std()).astype(np.float32), np.tile(np.arange(40) < 32, USER_COUNT))


def test_a_users_state_is_the_ridge_regression_of_the_rows_before() -> None:
    events = world()
    items = fit_items(events, USER_COUNT, ITEM_COUNT, WIDTH)
    found, last = follow(items, events, np.arange(USER_COUNT))
    for user in (0, 17, USER_COUNT - 1):
        rows = np.flatnonzero(events.users == user)
        bias, weights = items[events.items[rows], 0], items[events.items[rows], 1:]
        for seen in (0, 1, 5, len(rows) - 1):
            before = weights[:seen]
            told = before.T @ (events.values[rows[:seen]] - bias[:seen])
            state = np.linalg.solve(before.T @ before + NOISE * np.eye(WIDTH + 1), told)
            assert found[rows[seen]] == pytest.approx(bias[seen] + weights[seen] @ state, abs=1e-4)
        state = np.linalg.solve(
            weights.T @ weights + NOISE * np.eye(WIDTH + 1), weights.T @ (events.values[rows] - bias)
        )
        assert last[user] == pytest.approx([1, *state], abs=1e-4)


def test_affinity_finds_the_planted_tastes_on_rows_it_was_not_fitted_on() -> None:
    events = world()
    found = affinities(events, USER_COUNT, ITEM_COUNT, WIDTH, FOLDS)
    held_out = ~events.train
    assert np.corrcoef(found.rows[held_out], events.values[held_out])[0, 1] > 0.75
    late = np.arange(len(events.users)) % 40 >= 20
    out_of_fold = np.corrcoef(found.rows[events.train & late], events.values[events.train & late])[0, 1]
    assert out_of_fold == pytest.approx(np.corrcoef(found.rows[held_out], events.values[held_out])[0, 1], abs=0.1)


def test_the_product_of_the_factors_is_the_affinity_of_the_next_row() -> None:
    events = world()
    known = affinities(events.take(np.arange(len(events.users)) % 40 < 39), USER_COUNT, ITEM_COUNT, WIDTH, FOLDS)
    found = affinities(events, USER_COUNT, ITEM_COUNT, WIDTH, FOLDS)
    last = np.arange(len(events.users)) % 40 == 39
    product = (known.users[events.users[last]] * known.items[events.items[last]]).sum(axis=1)
    assert product == pytest.approx(found.rows[last], abs=1e-5)


def test_no_affinity_knows_its_own_value_a_later_one_of_its_user_or_one_of_a_held_out_part() -> None:
    events = world()
    before = affinities(events, USER_COUNT, ITEM_COUNT, WIDTH, FOLDS).rows
    values = events.values.copy()
    changed = (events.users == 7) & (np.arange(len(values)) % 40 >= 10)
    changed |= ~events.train & (events.users % 2 == 1)
    values[changed] += 3.0
    after = affinities(Events(events.users, events.items, values, events.train), USER_COUNT, ITEM_COUNT, WIDTH, FOLDS)
    same_fold = events.users % FOLDS == 7 % FOLDS
    first = np.arange(len(values)) % 40 <= 10
    assert np.array_equal(
        after.rows[same_fold & (first | (events.users != 7)) & events.train],
        before[same_fold & (first | (events.users != 7)) & events.train],
    )
    assert not np.array_equal(after.rows[(events.users == 7) & ~first], before[(events.users == 7) & ~first])


def test_new_users_and_items_get_what_everyone_gets(tmp_path: Path) -> None:
    log: Log = write_log(tmp_path, seed=7)
    with connect() as connection:
        rows = write_affinities(connection, log.profile, log.splits, log.users, log.items, tmp_path)
    assert rows == {ROWS: len(log.offline), USERS: 5, ITEMS: 5}
    users = np.stack(pq.read_table(tmp_path / USERS)[USER_FACTORS].to_numpy())
    items = np.stack(pq.read_table(tmp_path / ITEMS)[ITEM_FACTORS].to_numpy())
    size = log.profile.features.affinity.width + 2
    assert users[4].tolist() == [0.0] * 4 * size + [1.0] + [0.0] * (size - 1), "user 5 has no event"
    assert np.isfinite(users).all()
    assert np.isfinite(items).all()
    assert np.isfinite(pq.read_table(tmp_path / ROWS)[AFFINITY].to_numpy()).all()
