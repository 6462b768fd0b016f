"""Themes of the generated world (`sample.py`): every item belongs to one, and a session mostly stays with one.

Put here what a theme is and how much it suits a user; `choices.py` draws from it. A theme has a main genre and a place
in the space of latent tastes, so that its items are alike in what the columns show and in what they do not.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from recsys_assets.arrays import Doubles, Floats, Ints
from recsys_assets.datasets.world import ITEMS, World

LATENT = 8  # dimensions of the tastes that no column shows
LATENT_TASTE = 0.25  # variance that they add to the logit of a rating above 3
GENRES = {  # and how frequent each is
    "Drama": 16, "Comedy": 12, "Action": 5, "Thriller": 5, "Romance": 5, "Horror": 3.5, "Adventure": 3, "Sci-Fi": 3,
    "Children's": 2.5, "Crime": 2, "War": 1.5, "Documentary": 1.3, "Musical": 1.1, "Mystery": 1.1, "Animation": 1,
    "Fantasy": 0.7, "Western": 0.7, "Film-Noir": 0.4,
}  # fmt: skip
MAIN_GENRE = 20  # how many times as frequent its main genre is among a theme's items
OWN_LATENT = 0.5  # share of the variance of items' latent traits that their theme does not explain
LIVING = 40  # items of a theme that are in the catalogue on a day, on average
FEWEST, MOST = 4, 64  # themes
# How far the logit of choosing a theme varies with latent tastes (standard deviations); with genres by that of a taste.
# Chosen so that recall relates as on MovieLens 1M: see `benchmarks/sample_tastes.py`.
LATENT_CHOICE = 3.5


@dataclass(frozen=True)
class Themes:
    """T themes: `genre` (T,), the index of each one's main genre, and `latent` (T, LATENT), its place."""

    genre: Ints
    latent: Doubles

    def __len__(self) -> int:
        return len(self.genre)

    def attraction(self, tastes: Floats) -> Doubles:
        """(N, T) how many times as often users with these tastes (N, genres + LATENT) choose a theme as an average one.

        Logits are rounded, so that a last bit of the product, which differs between machines, does not move a draw.
        """
        scale = LATENT_CHOICE / np.sqrt(LATENT * LATENT_TASTE)  # latent tastes have the variance LATENT_TASTE each
        features = np.concatenate([np.eye(len(GENRES))[self.genre], scale * self.latent], axis=1)
        attraction: Doubles = np.exp(np.round(tastes.astype(np.float64) @ features.T, 6))
        return attraction


@lru_cache(maxsize=1)
def themes_of(world: World) -> Themes:
    """The world's themes, the same every day: more of them in a larger catalogue."""
    count = int(np.clip(ITEMS.count_alive(world.items, world.days) / LIVING, FEWEST, MOST))
    rng = np.random.default_rng([world.seed, 1])
    shares = np.array(list(GENRES.values()))
    return Themes(rng.choice(len(GENRES), count, p=shares / shares.sum()), rng.standard_normal((count, LATENT)))
