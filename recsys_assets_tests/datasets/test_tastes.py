"""Tastes of the generated world are as strong as real ones: personal methods lead, and sessions have themes."""

import datetime as dt
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from recsys_assets.arrays import Ints
from recsys_assets.datasets.population import users_on
from recsys_assets.datasets.sample import day_of
from recsys_assets.datasets.themes import GENRES, themes_of
from recsys_assets.datasets.world import World
from recsys_assets.funnel.channels import popularity
from recsys_assets.i2i.itemcf import ItemCF, itemcf
from recsys_assets.i2i.neighbours import Neighbours
from recsys_assets.i2i.swing import Swing, swing
from recsys_assets.i2i.triggers import trigger_scores
from recsys_assets.retrieval.interactions import from_table, queries
from recsys_assets.retrieval.lists import Lists, evaluate, recommend

SINCE = dt.date(2026, 1, 1)


def month(world: World) -> pa.Table:
    """The events of the world's days, ordered by user and time, those of the last 3 days in the test part."""
    days = [SINCE + dt.timedelta(days=number) for number in range(world.days)]
    events = []
    for place, day in enumerate(days):
        part = "test" if place >= world.days - 3 else "train"
        made = [table for name, table in day_of(world, SINCE, day) if name == "interactions"]
        events += [table.append_column("part", pa.array([part] * len(table))) for table in made]
    return pa.concat_tables(events).sort_by([("user_id", "ascending"), ("timestamp", "ascending")])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_personal_methods_lead_as_on_movielens(seed: int) -> None:
    """There popularity has a recall@20 of 0.095, ItemCF of 0.241 and Swing of 0.212 (`benchmarks/sample_tastes.py`)."""
    table = month(World(seed=seed))
    labels = (table["rating"].to_numpy() > 3).astype(np.int8)
    events = from_table(table.append_column("label", pa.array(labels)))
    asked, known = queries(events, "test", filter_seen=True), events.before("test")

    def recall(lists: Lists) -> float:
        return evaluate(lists.items, asked, [20])["recall@20"]

    def alike(found: Neighbours) -> float:
        return recall(recommend(trigger_scores(found.lists, events, asked), events, asked, 20, filter_seen=True))

    base = recall(popularity(events, "test")(events, asked, 20, True))
    assert alike(itemcf(known, ItemCF())) > 1.6 * base
    assert alike(swing(known, Swing())) > 1.5 * base


def test_a_session_stays_with_its_theme() -> None:
    world = World(seed=1)
    genres = {item: set(names) for item, names in _genres(world)}
    table = month(world)
    touched, users = [genres[item] for item in table["item_id"].to_pylist()], table["user_id"].to_numpy()
    assert _shared(touched, users, apart=1) > _shared(touched, users, apart=30) + 0.05


def _genres(world: World) -> list[tuple[int, list[str]]]:
    days = (SINCE + dt.timedelta(days=number) for number in range(world.days))
    items = pa.concat_tables(table for day in days for name, table in day_of(world, SINCE, day) if name == "items")
    return list(zip(items["item_id"].to_pylist(), items["genres"].to_pylist(), strict=True))


def _shared(touched: Sequence[set[str]], users: Ints, apart: int) -> float:
    """How often two events of a user, so many places apart, share a genre."""
    same = np.flatnonzero(users[apart:] == users[:-apart])
    return float(np.mean([bool(touched[place] & touched[place + apart]) for place in same.tolist()]))


def test_latent_tastes_drift_and_keep_their_strength() -> None:
    world = World(seed=1, users=3000)
    first, tenth, later = (users_on(world, SINCE, SINCE + dt.timedelta(days=age)) for age in (0, 10, 40))
    both = np.intersect1d(first.id, tenth.id, return_indices=True)
    before, after = (users.taste[places] for users, places in zip((first, tenth), both[1:], strict=True))
    hidden = slice(len(GENRES), None)
    assert (before[:, : len(GENRES)] == after[:, : len(GENRES)]).all()  # who somebody is does not change
    cosine = (before[:, hidden] * after[:, hidden]).sum(axis=1) / (before[:, hidden] ** 2).sum(axis=1)
    assert cosine == pytest.approx(np.cos(2 * np.pi * 10 / 90), abs=1e-4)
    assert later.taste[:, hidden].std() == pytest.approx(first.taste[:, hidden].std(), rel=0.05)


def test_themes_are_the_worlds_own_and_more_in_a_larger_catalogue() -> None:
    small, default, large = (themes_of(World(seed=1, items=items)) for items in (100, 800, 100_000))
    assert [len(themes) for themes in (small, default, large)] == [4, 16, 64]
    assert themes_of(World(seed=2)).latent.tolist() != default.latent.tolist()
