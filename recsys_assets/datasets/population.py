"""Users and items of the generated world (`sample.py`): their visible columns and their hidden traits.

A day's users and items are made from the uniforms of `world.py`, each trait from its own column.
"""

import datetime as dt
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy  # which loads `special` when it is used

from recsys_assets.arrays import Bools, Doubles, Floats, Ints
from recsys_assets.datasets.themes import GENRES, LATENT, LATENT_TASTE, MAIN_GENRE, OWN_LATENT, themes_of
from recsys_assets.datasets.world import ITEMS, USERS, World

# The logit of a rating above 3 is a sum of these parts and the latent tastes (standard deviations), around MEAN.
MEAN, USER_BIAS, ITEM_QUALITY, GENRE_TASTE = -0.45, 0.9, 1.0, 1.0
FAME = 0.6  # correlation of how well an item is known with its quality
TURN = 90  # days in which a user's latent tastes turn once around
AGES = {1: 0.04, 18: 0.18, 25: 0.35, 35: 0.20, 45: 0.09, 50: 0.08, 56: 0.06}  # lower ends, as in MovieLens
OCCUPATIONS = 21
MALE = 0.7
FIRST_WORDS = (
    "Silent Last Golden Broken Hidden Crimson Distant Electric Forgotten Gentle Hollow Iron Paper Quiet Restless Wild"
)
SECOND_WORDS = (
    "Harbour Letter Summer River Garden Witness Orchard Signal Winter Voyage Mirror Station Island Promise Shadow Road"
)


class _Taken:
    def take(self, places: Ints) -> Self:
        """The users or items at the given positions."""
        return replace(self, **{part.name: getattr(self, part.name)[places] for part in fields(self)})  # type: ignore[type-var, arg-type]


@dataclass(frozen=True)
class Users(_Taken):
    """N users: columns of the table, then hidden traits. `taste` is (N, genres + LATENT)."""

    id: Ints
    gender: Ints
    age: Ints
    occupation: Ints
    zip: Ints
    activity: Doubles
    bias: Floats
    taste: Floats

    def table(self) -> pa.Table:
        """The columns that land."""
        return pa.table(
            {
                "user_id": self.id,
                "gender": pa.array(["F", "M"]).take(pa.array(self.gender)),
                "age": np.array(list(AGES))[self.age],
                "occupation": self.occupation,
                "zip": pc.utf8_lpad(pa.array(self.zip).cast(pa.string()), 5, "0"),
            }
        )


@dataclass(frozen=True)
class Items(_Taken):
    """N items: columns of the table, then hidden traits. `taste` is (N, genres + LATENT)."""

    id: Ints
    words: Ints
    year: Ints
    theme: Ints
    genres: Bools
    popularity: Doubles
    quality: Floats
    taste: Floats

    def table(self) -> pa.Table:
        """The columns that land; `imdb_url` is null, as the films do not exist."""
        first, second = (pa.array(words.split()) for words in (FIRST_WORDS, SECOND_WORDS))
        year = pa.array(self.year)
        name = pc.binary_join_element_wise(
            first.take(pa.array(self.words // 16)), second.take(pa.array(self.words % 16)), " "
        )
        row, genre = np.nonzero(self.genres)
        offsets = np.searchsorted(row, np.arange(len(self.id) + 1)).astype(np.int32)
        return pa.table(
            {
                "item_id": self.id,
                "title": pc.binary_join_element_wise(name, " (", year.cast(pa.string()), ")", ""),
                "year": year,
                "genres": pa.ListArray.from_arrays(pa.array(offsets), pa.array(list(GENRES)).take(pa.array(genre))),
                "imdb_url": pa.nulls(len(self.id), pa.string()),
            }
        )


def users_on(world: World, since: dt.date, day: dt.date) -> Users:
    """Users who are alive on a day.

    Tastes for genres come mostly from gender, age and occupation; latent ones are a user's own, and drift.
    """
    number, u = USERS.draw_alive(world.seed, USERS.rate(world.users, world.days), (day - since).days)
    gender = (u[:, 1] < MALE).astype(np.int64)
    age = np.searchsorted(np.cumsum(list(AGES.values()))[:-1], u[:, 2], side="right")
    occupation = (u[:, 3] * OCCUPATIONS).astype(np.int64)
    by_gender, by_age, by_occupation = _group_tastes(world.seed)
    shared = by_gender[gender] + by_age[age] + by_occupation[occupation]
    own = scipy.special.ndtri(u[:, 10 : 10 + len(GENRES) + LATENT])
    genre_taste = GENRE_TASTE * (np.sqrt(0.65) * shared + np.sqrt(0.35) * own[:, : len(GENRES)])
    latent = np.sqrt(LATENT_TASTE) * _turn(own[:, len(GENRES) :], 2 * np.pi * (day - since).days / TURN)
    return Users(
        id=number + 1,
        gender=gender,
        age=age,
        occupation=occupation,
        zip=(u[:, 4] * 100_000).astype(np.int64),
        activity=np.exp(0.8 * scipy.special.ndtri(u[:, 5]) - 0.32),  # mean 1
        bias=(MEAN + USER_BIAS * scipy.special.ndtri(u[:, 6])).astype(np.float32),
        taste=np.concatenate([genre_taste, latent], axis=1).astype(np.float32),
    )


def items_on(world: World, since: dt.date, day: dt.date) -> Items:
    """Items that are in the catalogue on a day, with their popularity on that day."""
    rate = ITEMS.rate(world.items, world.days)
    number, u = ITEMS.draw_alive(world.seed, rate, (day - since).days)
    born = np.floor(number / rate).astype(np.int64) - ITEMS.life * 3 // 2
    themes = themes_of(world)
    theme = (u[:, 9] * len(themes.genre)).astype(np.int64)
    genres = _genres(u[:, 1], u[:, 10 : 10 + len(GENRES)], themes.genre[theme])
    latent = np.sqrt(1 - OWN_LATENT) * themes.latent[theme] + np.sqrt(OWN_LATENT) * scipy.special.ndtri(
        u[:, 30 : 30 + LATENT]
    )
    quality = scipy.special.ndtri(u[:, 2])
    born_year = ((np.datetime64(since) + born).astype("datetime64[Y]")).astype(np.int64) + 1970
    return Items(
        id=number + 1,
        words=(u[:, 3] * 256).astype(np.int64),
        year=born_year - np.floor(-8 * np.log(u[:, 4])).astype(np.int64),
        theme=theme,
        genres=genres,
        popularity=_popularity(u, quality, (day - since).days - born),
        quality=(ITEM_QUALITY * quality).astype(np.float32),
        taste=np.concatenate(
            [genres / np.sqrt(genres.sum(axis=1, keepdims=True)), np.sqrt(LATENT_TASTE / LATENT) * latent], axis=1
        ).astype(np.float32),
    )


def _popularity(u: Doubles, quality: Doubles, age: Ints) -> Doubles:
    """Zipf-like weights; better items are seen more, old ones less, and each item has a cycle of its own."""
    fame = scipy.special.ndtri(u[:, 5]) * np.sqrt(1 - FAME**2) + FAME * quality
    rank = scipy.special.ndtr(-fame) + 0.01  # share of items that are better known; 0.01 keeps one item from taking all
    swing = u[:, 6] * np.sin(2 * np.pi * (age / (20 + 40 * u[:, 7]) + u[:, 8]))
    weight: Doubles = rank**-0.7 * np.exp(swing - age / ITEMS.life)
    return weight


def _genres(several: Doubles, draws: Doubles, main: Ints) -> Bools:
    """(N, genres): one to three per item, drawn by weight without replacement (Efraimidis and Spirakis, 2006).

    The genre of the item's theme, `main` (N,), has MAIN_GENRE times its weight.
    """
    weights = np.tile(list(GENRES.values()), (len(main), 1))
    weights[np.arange(len(main)), main] *= MAIN_GENRE
    key = -np.log(draws) / weights
    count = 1 + (several > 0.45).astype(np.int64) + (several > 0.8)
    chosen: Bools = key.argsort(axis=1).argsort(axis=1) < count[:, None]
    return chosen


def _turn(latent: Doubles, angle: float) -> Doubles:
    """Latent tastes (N, LATENT) turned in the planes of two dimensions each, which keeps their distribution."""
    one, other = latent[:, ::2], latent[:, 1::2]
    turned = [one * np.cos(angle) - other * np.sin(angle), one * np.sin(angle) + other * np.cos(angle)]
    return np.concatenate(turned, axis=1)


def _group_tastes(seed: int) -> list[Doubles]:
    """How tastes differ by gender, age and occupation: (groups, genres) each, zero on average over the users."""
    rng = np.random.default_rng([seed, 0])
    shares = [np.array([1 - MALE, MALE]), np.array(list(AGES.values())), np.full(OCCUPATIONS, 1 / OCCUPATIONS)]
    tastes = [rng.standard_normal((len(share), len(GENRES))) for share in shares]
    return [(taste - share @ taste) / np.sqrt(3) for taste, share in zip(tastes, shares, strict=True)]
