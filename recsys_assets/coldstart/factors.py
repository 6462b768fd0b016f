"""Preference vectors from implicit feedback by alternating least squares (Hu, Koren & Volinsky 2008).

It is the model under DropoutNet's paper (WMF): a touched pair weighs 1 + alpha, every other pair 1. The rows that a
half-step solves for are independent, so their normal equations are made by one product of matrices and solved at once.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from recsys_assets.arrays import Doubles, slices

_ROWS = 1024  # rows solved at once: 1024 matrices of 64 x 64 doubles are 33 MB


@dataclass(frozen=True)
class Als:
    """Settings, of which `alpha` and `l2` matter most."""

    width: int = 32
    alpha: float = 10.0
    l2: float = 10.0
    rounds: int = 8
    seed: int = 1


def fit(liked: csr_array, settings: Als) -> Doubles:
    """(I, D) vectors of items from the positives (U, I); zeros for an item without any."""
    rng = np.random.default_rng(settings.seed)
    items = rng.normal(0, 0.1, (liked.shape[1], settings.width))
    by_item = csr_array(liked.T)
    for _ in range(settings.rounds):
        items = solve(by_item, solve(liked, items, settings), settings)
    return items


def solve(liked: csr_array, others: Doubles, settings: Als) -> Doubles:
    """(N, D) the vectors of the rows of `liked` (N, M), given those of its columns (M, D); zeros for an empty row."""
    width = others.shape[1]
    squares = (others[:, :, None] * others[:, None, :]).reshape(len(others), -1)  # (M, D x D)
    shared = others.T @ others + settings.l2 * np.eye(width)
    found = np.zeros((liked.shape[0], width))
    for block in slices(liked.shape[0], _ROWS):
        rows = liked[block]
        left = shared + settings.alpha * (rows @ squares).reshape(-1, width, width)
        right = (1 + settings.alpha) * (rows @ others)
        found[block] = np.linalg.solve(left, right[:, :, None])[:, :, 0]
    return found
