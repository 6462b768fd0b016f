"""The choices of users in the generated world (`sample.py`): a theme that suits them, in it the best of a few items.

Put here how an item is chosen. Whether it is liked then depends on the user and the item alone, never on the choice.
"""

from dataclasses import dataclass

import numpy as np

from recsys_assets.arrays import Bools, Doubles, Floats, Ints, offsets
from recsys_assets.datasets.population import Items, Users
from recsys_assets.datasets.themes import Themes

CANDIDATES = 4  # items of a theme that a user looks at before touching one
STAY = 0.9  # share of a session's events that are within its theme
# Redraws of items that a user would touch twice in a day: the first ones from a theme that is drawn again, the others
# from all items. Repeats left after them are dropped: under 0.1 %, or 4 % at World's limit.
REDRAWS, THEME_REDRAWS = 6, 2


@dataclass(frozen=True)
class Shelves:
    """The items of a day by theme. Numbers are drawn from the cumulated popularity: a range of it belongs to each item.

    Attributes:
        order: (N,) the items' indices, those of a theme together.
        edges: (N + 1,) where each one's range starts, and where the last one ends.
        bounds: (T + 1,) where each theme's range starts, and where the last one ends.
    """

    order: Ints
    edges: Doubles
    bounds: Doubles

    @classmethod
    def of(cls, items: Items, themes: int) -> "Shelves":
        """The shelves of a day's items."""
        order = np.argsort(items.theme, kind="stable")
        edges = np.concatenate([[0.0], np.cumsum(items.popularity[order])])
        return cls(order, edges, edges[offsets(np.bincount(items.theme, minlength=themes))])

    def draw(self, rng: np.random.Generator, low: Doubles, high: Doubles) -> Ints:
        """An item by popularity from each range of `edges`, (M,)."""
        place = np.searchsorted(self.edges, low + rng.random(len(low)) * (high - low), side="right") - 1
        drawn: Ints = self.order[np.minimum(place, len(self.order) - 1)]
        return drawn


@dataclass(frozen=True)
class Chooser:
    """Draws themes and items for the users of a day."""

    rng: np.random.Generator
    users: Users
    items: Items
    shelves: Shelves
    appeal: Doubles  # (users * T + 1,) how likely each user is to choose each theme, cumulated over themes and users

    @classmethod
    def of(cls, rng: np.random.Generator, users: Users, items: Items, themes: Themes) -> "Chooser":
        """The chooser of a day's users and items."""
        shelves = Shelves.of(items, len(themes))
        wanted = themes.attraction(users.taste) * np.diff(shelves.bounds)
        wanted /= wanted.sum(axis=1, keepdims=True)
        return cls(rng, users, items, shelves, np.concatenate([[0.0], np.cumsum(wanted)]))

    def themes(self, who: Ints) -> Ints:
        """(M,) a theme for each of the users (M,), by their tastes."""
        count = len(self.shelves.bounds) - 1
        low, high = self.appeal[who * count], self.appeal[(who + 1) * count]
        place = np.searchsorted(self.appeal, low + self.rng.random(len(who)) * (high - low), side="right") - 1
        themes: Ints = np.clip(place - who * count, 0, count - 1)
        return themes

    def of_themes(self, who: Ints, themes: Ints) -> Ints:
        """(M,) an item of the theme for each of the users (M,)."""
        return self._best(who, self.shelves.bounds[themes], self.shelves.bounds[themes + 1])

    def of_all(self, who: Ints) -> Ints:
        """(M,) an item of any theme for each of the users (M,)."""
        return self._best(who, np.zeros(len(who)), np.full(len(who), self.shelves.edges[-1]))

    def _best(self, who: Ints, low: Doubles, high: Doubles) -> Ints:
        """The best fit among a few items drawn by popularity, with Gumbel noise (a softmax choice)."""
        best, chosen = np.full(len(who), -np.inf), np.zeros(len(who), np.int64)
        for _ in range(CANDIDATES):
            item = self.shelves.draw(self.rng, low, high)
            fit = taste_fit(self.users, self.items, who, item) + self.rng.gumbel(size=len(who))
            chosen = np.where(fit > best, item, chosen)
            best = np.maximum(fit, best)
        return chosen


def choices(chooser: Chooser, who: Ints, session: Ints) -> tuple[Ints, Bools]:
    """The index of each event's item, and which events to keep: an item occurs once in a user's day.

    `who` (M,) is the index of each event's user, `session` (M,) the number of its session, from 0 on, ascending.
    """
    themes = chooser.themes(who)
    stays = chooser.rng.random(len(who)) < STAY
    first = np.unique(session, return_index=True)[1]
    what = chooser.of_themes(who, np.where(stays, themes[first][session], themes))
    width = len(chooser.items.id)
    for number in range(REDRAWS):
        again = np.flatnonzero(_repetitions(who, what, width))
        whose = who[again]
        if number < THEME_REDRAWS:
            what[again] = chooser.of_themes(whose, chooser.themes(whose))
        else:
            what[again] = chooser.of_all(whose)
    return what, ~_repetitions(who, what, width)


def taste_fit(users: Users, items: Items, who: Ints, what: Ints) -> Floats:
    """How well the item suits the user's tastes, without the user's bias and the item's quality."""
    fit: Floats = np.einsum("ij,ij->i", users.taste[who], items.taste[what])
    return fit


def _repetitions(who: Ints, what: Ints, items: int) -> Bools:
    """Rows whose user and item occur in an earlier row."""
    repeated = np.ones(len(who), bool)
    repeated[np.unique(who * items + what, return_index=True)[1]] = False
    return repeated
