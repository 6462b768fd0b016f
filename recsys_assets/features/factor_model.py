"""The factor model behind the user-item features: EM fits the items, a Kalman filter follows the users.

The model is probabilistic PCA with missing values (Tipping & Bishop 1999, Roweis 1998): the value that user u gives
item i is b_i + w_i · x_u + noise with x_u ~ N(0, I). The first number of x_u is the user's level, how high their values
are in general; the other `width` numbers are tastes. So D = width + 2 numbers describe an item, (b, w), or a user,
(1, x), and their inner product is the predicted value. EM fits the items on the train rows of users. A user's x is its
posterior mean given the rows strictly before a row; newer rows weigh more.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from recsys_assets.arrays import Bools, Floats, Ints

# Chosen on the validation rows of MovieLens 1M, in units of the values' variance and of rows.
NOISE = 0.8  # share of the variance: EM's own in-sample estimate is too low, and trusts few rows too much
ROUNDS = 10
BIAS_ROWS, LEVEL_ROWS, FACTOR_ROWS = 1.5, 6.0, 50.0  # how many rows of an item weigh as much as its prior, by number
# Variance that each event adds to the uncertainty about its user: tastes change, and a user's rating level changes
# faster. Without it the affinity of one fold had a validation AUC of 0.817 instead of 0.823.
DRIFT, LEVEL_DRIFT = 0.002, 0.01
START_LEVEL = 0.5  # start value of how strongly a user's own level affects an item's values


@dataclass(frozen=True)
class Events:
    """M valued events, ordered by user and time.

    Attributes:
        users, items: (M,) numbers from 0 on.
        values: (M,) ratings or labels, centred and scaled by the train rows' mean and deviation; NaN if there is none.
        train: (M,) whether items may be fitted on the row.
    """

    users: Ints
    items: Ints
    values: Floats
    train: Bools

    @property
    def has_value(self) -> Bools:
        """(M,) which events have a value."""
        return ~np.isnan(self.values)

    def take(self, rows: Ints | Bools) -> "Events":
        """The rows at the given positions, or where the mask is set."""
        return Events(self.users[rows], self.items[rows], self.values[rows], self.train[rows])


def fit_items(events: Events, users: int, items: int, width: int) -> Floats:
    """(I, D) b and w of each item by EM, on events with values; an item without events has the prior's."""
    places = (events.users, events.items)
    count = csr_array((np.ones_like(events.values), places), (users, items))
    total = csr_array((events.values, places), (users, items))
    by_item = count.T.tocsr(), total.T.tocsr()
    fitted = np.random.default_rng(0).normal(0, 0.1, (items, width + 2)).astype(np.float32)
    fitted[:, 0], fitted[:, 1] = 0, START_LEVEL
    for _ in range(ROUNDS):
        fitted = _regress(*by_item, *_posterior(count, total, fitted), fitted[:, 1].mean())
    return fitted


def follow(items: Floats, events: Events, users: Ints) -> tuple[Floats, Floats]:
    """(M,) the value predicted for each event before it is known, and (users, D) the users after their last event.

    A Kalman filter (Kalman 1960) whose state is a random walk; each step takes one event of every user. `users` are
    ascending; those without events are at the prior's mean. An event without a value only adds drift.
    """
    valued = events.has_value
    counts = np.bincount(np.searchsorted(users, events.users), minlength=len(users))
    order = np.argsort(-counts, kind="stable")  # users with an event at a step come first
    starts, counts = (np.cumsum(counts) - counts)[order], counts[order]
    affinity = np.zeros(len(events.users), np.float32)
    state = np.eye(1, items.shape[1], dtype=np.float32).repeat(len(users), axis=0)
    covariance = np.eye(items.shape[1] - 1, dtype=np.float32)[None].repeat(len(users), axis=0)
    drift = np.diag([LEVEL_DRIFT, *[DRIFT] * (items.shape[1] - 2)]).astype(np.float32)
    for step in range(counts.max(initial=0)):
        active = slice(0, np.count_nonzero(counts > step))
        rows = starts[active] + step
        item = items[events.items[rows]]
        covariance[active] += drift
        affinity[rows] = (state[active] * item).sum(axis=1)
        spread = np.einsum("nij,nj->ni", covariance[active], item[:, 1:])  # (active users, D - 1)
        gain = spread / (NOISE + (spread * item[:, 1:]).sum(axis=1, keepdims=True)) * valued[rows, None]
        surprise = np.where(valued[rows], events.values[rows] - affinity[rows], 0)
        state[active, 1:] += gain * surprise[:, None]
        covariance[active] -= gain[:, :, None] * spread[:, None, :]
    return affinity, state[np.argsort(order)]


def _posterior(count: csr_array, total: csr_array, items: Floats) -> tuple[Floats, Floats]:
    """(U, D) the mean of (1, x) for each user and (U, D, D) its second moment, given all values of the user."""
    bias, weights = items[:, :1], items[:, 1:]
    precision = _square(count @ _triangle(weights)) / NOISE + np.eye(weights.shape[1], dtype=np.float32)
    covariance = np.linalg.inv(precision)
    evidence = (total @ weights - count @ (bias * weights)) / NOISE
    mean = np.einsum("uij,uj->ui", covariance, evidence)
    extended = np.concatenate([np.ones((len(mean), 1), np.float32), mean], axis=1)
    second = extended[:, :, None] * extended[:, None, :]
    second[:, 1:, 1:] += covariance
    return extended, second


def _regress(count: csr_array, total: csr_array, mean: Floats, second: Floats, level: np.floating) -> Floats:
    """(I, D) the b and w of the items that fit the users' values best, shrunk towards their prior."""
    size = mean.shape[1]
    rows = np.full(size, FACTOR_ROWS, np.float32)
    rows[0], rows[1] = BIAS_ROWS, LEVEL_ROWS
    prior = np.zeros(size, np.float32)
    prior[1] = level
    solved: Floats = np.linalg.solve(
        _square(count @ _triangle_of(second)) + np.diag(rows), (total @ mean + prior * rows)[:, :, None]
    )
    return solved[:, :, 0]


def _triangle(vectors: Floats) -> Floats:
    """(N, D (D + 1) / 2) products of the entries of each vector, each pair once to save half of the work."""
    row, column = np.triu_indices(vectors.shape[1])
    return vectors[:, row] * vectors[:, column]


def _triangle_of(matrices: Floats) -> Floats:
    """(N, D (D + 1) / 2) the upper triangles of symmetric matrices (N, D, D)."""
    row, column = np.triu_indices(matrices.shape[1])
    return matrices[:, row, column]


def _square(triangles: Floats) -> Floats:
    """(N, D, D) the symmetric matrices of upper triangles."""
    size = int((np.sqrt(8 * triangles.shape[1] + 1) - 1) / 2)
    place = np.empty((size, size), np.int64)
    row, column = np.triu_indices(size)
    place[row, column] = place[column, row] = np.arange(len(row))
    return triangles[:, place]
