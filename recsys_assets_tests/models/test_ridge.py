"""The towers of the ridge: they are `methods.ridge` and ALS, and solve a user's equations without a solver."""

from functools import cache
from typing import cast

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from recsys_assets.arrays import Doubles, Vectors
from recsys_assets.assets.warm_start import ASSETS
from recsys_assets.coldstart import factors, methods
from recsys_assets.coldstart.content import content_of
from recsys_assets.coldstart.factors import Als
from recsys_assets.coldstart.methods import Known
from recsys_assets.coldstart.solve import solve
from recsys_assets.models import ridge
from recsys_assets.models.catalogue import TRAINED_TOWERS, configure, entry
from recsys_assets.models.config import ConfigError
from recsys_assets.models.ridge import Ridge
from recsys_assets.retrieval.interactions import histories, user_queries
from recsys_assets.training import recall, tower_data
from recsys_assets.training.loop import Fitted
from recsys_assets_tests.helpers import recall_world
from recsys_assets_tests.models.test_dropoutnet import schema, source

WIDTH = 8
NEW = 7  # number of an item


@cache
def fitted() -> Fitted:
    return recall.fit("ridge", schema(), given(), *configure("ridge", {"width": WIDTH}, {}), 1)


@cache
def given() -> recall.Source:
    """The small world with content, in which every event is a positive; nobody knew one item before the test part."""
    made = source()
    events = made.interactions
    events.labels[:] = 1
    events.items[(events.items == NEW) & (events.parts < 2)] = NEW + 1
    return made


def world() -> tuple[Ridge, tower_data.TowerData, Known]:
    """The fitted towers, and what they are to know: everything before the test part."""
    model, events = cast(Ridge, recall.two_tower(fitted())), given().interactions
    content = content_of(schema(), given().items, events.item_ids)
    data = tower_data.load(model, events, given().users, given().items)
    return model, data, Known.of(events.before("test"), content, Als(WIDTH, seed=1))


def users_of(model: Ridge, data: tower_data.TowerData, part: str) -> tuple[Vectors, csr_array]:
    """The vectors of all users before a part, and what they liked until then."""
    everyone = np.arange(len(data.users))
    liked = methods.positives(
        data.interactions, user_queries(data.interactions, part, everyone), slice(0, len(everyone))
    )
    liked = csr_array(liked.toarray() * (data.token_of > 0))
    return recall.user_vectors(model, data, everyone, *histories(data.interactions, part)), liked


def test_the_towers_score_as_the_methods_of_the_report_do() -> None:
    model, data, known = world()
    users, liked = users_of(model, data, "test")
    rule = fitted().best
    own = known.counts >= rule["least"]
    vectors = np.where(
        (own & (data.token_of > 0))[:, None],
        known.vectors,
        rule["scale"] * methods.ridge_to(known, known.vectors, rule["l2"]),
    )
    expected = factors.solve(liked, known.vectors, known.settings) @ vectors.T
    np.testing.assert_allclose(users @ recall.item_vectors(model, data.items).T, expected, atol=1e-5)
    assert np.flatnonzero(~own).tolist() == [NEW]
    assert data.token_of[105 - 100] > 0, "an item that the schema lacks has a vector, too"


@pytest.mark.parametrize("alpha", [0.1, 1.0, 10.0, 40.0])
def test_the_series_is_the_exact_solution_for_every_history_that_can_be(alpha: float) -> None:
    rng = np.random.default_rng(0)
    items = rng.normal(size=(300, 16)) * rng.lognormal(0, 2, (300, 1))
    lower = np.linalg.cholesky(items.T @ items + 0.01 * np.eye(16))
    items = np.linalg.solve(lower, items.T).T
    for count in (1, 20, 299, 300):
        past = items[rng.permutation(300)[:count]]
        left, right = np.eye(16) + alpha * past.T @ past, (1 + alpha) * past.sum(0)
        squares, sums = torch.from_numpy(past.T @ past)[None], torch.from_numpy(past.sum(0))[None]
        (found,) = ridge._solve(squares, sums, alpha).numpy()
        np.testing.assert_allclose(found, np.linalg.solve(left, right), atol=1e-7)


def test_an_item_that_occurs_twice_in_a_history_counts_once() -> None:
    model, data, _ = world()
    first = data.first_past
    start = torch.zeros(3, data.users.shape[1], dtype=data.users.dtype)
    past = torch.tensor([[first + 2, first + 7, 0, 0], [first + 7, first + 2, first + 7, 0], [first + 7, 0, 0, 0]])
    one, two, other = model.user(torch.cat([start, past.to(start.dtype)], 1))
    assert torch.equal(one, two)
    assert not torch.allclose(one, other)


def test_a_user_without_a_history_is_what_similar_users_are() -> None:
    model, data, known = world()
    everyone, none = np.arange(len(data.users)), np.zeros(len(data.users), np.int64)
    found = recall.user_vectors(model, data, everyone, none, none)
    content = content_of(schema(), given().users, data.interactions.user_ids, "user")
    lower = np.linalg.cholesky(known.vectors.T @ known.vectors + known.settings.l2 * np.eye(WIDTH))
    folded: Doubles = factors.solve(known.liked, known.vectors, known.settings) @ lower
    weights, shift = methods.regression(content.values, known.liked.sum(1), folded, fitted().best["l2"])
    np.testing.assert_allclose(found, content.values @ weights + shift, atol=1e-5)
    assert found.std(0).max() > 0


def test_no_settings_are_those_of_a_training_and_nothing_can_be_continued() -> None:
    with pytest.raises(ConfigError, match=r"ridge: training\.epochs does not exist"):
        configure("ridge", {}, {"epochs": 3})
    assert "ridge" not in ASSETS.keys() | TRAINED_TOWERS.keys()
    assert not fitted().chosen
    assert entry("ridge").solve is solve


def test_nothing_is_learned_from_test_rows() -> None:
    changed = recall_world.source()
    tested = changed.interactions.parts == 2
    assert tested.any()
    weights = []
    for order in (1, -1):
        changed.interactions.items[tested] = changed.interactions.items[tested][::order]
        made = recall.fit("ridge", recall_world.schema(), changed, *configure("ridge", {"width": WIDTH}, {}), 1)
        weights.append(made.model.state_dict())
    for name, weight in weights[0].items():
        assert torch.equal(weight, weights[1][name]), name
