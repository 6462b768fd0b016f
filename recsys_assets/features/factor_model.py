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

from recsys_assets.arrays import Bools, Floats, Ints, slices, spread
from recsys_assets.features.draws import NONE_DRAWN, Drawn

# Chosen on the validation rows of MovieLens 1M, in units of the values' variance and of rows.
NOISE = 0.8  # share of the variance: EM's own in-sample estimate is too low, and trusts few rows too much
# Rounds of EM from random items, and from a fitted start. One round per fold had a validation AUC
# of the labels' affinity of 0.8180, two 0.8194, three 0.8196 and four 0.8197 (each with FACTOR_ROWS = 50).
START_ROUNDS, FOLD_ROUNDS = 5, 2
STRIDE = np.float32(1.7)  # a round goes this many times as far as EM says; EM is known to converge below 2
# How many rows of an item weigh as much as its prior, by number. FACTOR_ROWS = 50, 75, 100 had validation AUCs of the
# labels' affinity of 0.8194, 0.8204 and 0.8210; those of the ratings' were 0.8247, 0.8249 and 0.8249.
BIAS_ROWS, LEVEL_ROWS, FACTOR_ROWS = 1.5, 6.0, 100.0
# Variance that each event adds to the uncertainty about its user: tastes change, and a user's rating level changes
# faster. Without it the affinity of one fold had a validation AUC of 0.817 instead of 0.823.
DRIFT, LEVEL_DRIFT = 0.002, 0.01
START_LEVEL = 0.5  # start value of how strongly a user's own level affects an item's values
ROWS_AT_ONCE = 1024  # bounds the memory of their matrices: 5 MB each at width 32


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


def fit_items(
    events: Events, items: int, width: int, start: Floats | None = None, rounds: int = START_ROUNDS
) -> Floats:
    """(I, D) b and w of each item by EM, on events with values; an item without events has the prior's.

    `start` is a result for other events to begin with. All rounds but the last go further than EM says, by `STRIDE`.
    """
    users = np.unique(events.users, return_inverse=True)[1]
    places, shape = (users, events.items), (users.max(initial=-1) + 1, items)
    count = csr_array((np.ones_like(events.values), places), shape)
    total = csr_array((events.values, places), shape)
    by_item = count.T.tocsr(), total.T.tocsr()
    fitted = _random_items(items, width) if start is None else start
    for left in reversed(range(rounds)):
        target = _regress(*by_item, *_posterior(count, total, fitted), fitted[:, 1].mean())
        fitted = target if left == 0 else fitted + STRIDE * (target - fitted)
    return fitted


def follow(items: Floats, events: Events, users: Ints, drawn: Drawn = NONE_DRAWN) -> tuple[Floats, Floats]:
    """(M + K,) predicted values, and (users, D) the users after their last event.

    The values are those of the M events, each before it is known, and of K drawn items at the moment of an event.

    A Kalman filter (Kalman 1960) whose state is a random walk; each step takes one event of every user. `users` are
    ascending; those without events are at the prior's mean. An event without a value only adds drift, and drawn items
    change nothing.
    """
    counts = np.bincount(np.searchsorted(users, events.users), minlength=len(users))
    order = np.argsort(-counts, kind="stable")  # users with as many events are followed together
    starts = np.cumsum(counts) - counts
    found = _Predictions(len(events.users), drawn)
    last = np.zeros((len(users), items.shape[1]), np.float32)
    for block in slices(len(order), ROWS_AT_ONCE):
        chosen = order[block]
        last[chosen] = _follow(items, events, starts[chosen], counts[chosen], found)
    return found.values, last


class _Predictions:
    """The predicted values of M events and K drawn items, which are filled in step by step."""

    def __init__(self, events: int, drawn: Drawn) -> None:
        self.values, self.drawn = np.zeros(events + len(drawn.events), np.float32), drawn
        self._starts = np.searchsorted(drawn.events, np.arange(events + 1))

    def fill(self, rows: Ints, state: Floats, items: Floats, item: Floats) -> None:
        """Predict N events and the items drawn for them, from their users' states (N, D); `item` is (N, D)."""
        self.values[rows] = (state * item).sum(axis=1)
        user, others = spread(self._starts[rows], self._starts[rows + 1])
        self.values[len(self._starts) - 1 + others] = (state[user] * items[self.drawn.items[others]]).sum(axis=1)


def _follow(items: Floats, events: Events, starts: Ints, counts: Ints, found: _Predictions) -> Floats:
    """(N, D) the last states of N users whose events begin at `starts`, those with most first."""
    valued = events.has_value
    state = np.eye(1, items.shape[1], dtype=np.float32).repeat(len(starts), axis=0)
    covariance = np.eye(items.shape[1] - 1, dtype=np.float32)[None].repeat(len(starts), axis=0)
    drift = np.diag([LEVEL_DRIFT, *[DRIFT] * (items.shape[1] - 2)]).astype(np.float32)
    for step in range(counts.max(initial=0)):
        active = slice(0, np.count_nonzero(counts > step))
        rows = starts[active] + step
        item = items[events.items[rows]]
        covariance[active] += drift
        found.fill(rows, state[active], items, item)
        unsure = np.einsum("nij,nj->ni", covariance[active], item[:, 1:])  # (active users, D - 1)
        gain = unsure / (NOISE + (unsure * item[:, 1:]).sum(axis=1, keepdims=True)) * valued[rows, None]
        surprise = np.where(valued[rows], events.values[rows] - found.values[rows], 0)
        state[active, 1:] += gain * surprise[:, None]
        covariance[active] -= gain[:, :, None] * unsure[:, None, :]
    return state


def _random_items(items: int, width: int) -> Floats:
    """(I, D) items without a bias, that all agree on a user's level and differ in tastes at random."""
    drawn = np.random.default_rng(0).normal(0, 0.1, (items, width + 2)).astype(np.float32)
    drawn[:, 0], drawn[:, 1] = 0, START_LEVEL
    return drawn


def _posterior(count: csr_array, total: csr_array, items: Floats) -> tuple[Floats, Floats]:
    """(U, D) the mean of (1, x) for each user and (U, T) the triangle of its second moment, given all their values."""
    products, unknown = _triangle(items), np.eye(items.shape[1] - 1, dtype=np.float32)
    means = np.empty((count.shape[0], items.shape[1]), np.float32)
    seconds = np.empty((count.shape[0], products.shape[1]), np.float32)
    for rows in slices(len(means), ROWS_AT_ONCE):
        seen = _square(count[rows] @ products)  # (N, D, D) sums over the items of each user
        covariance = np.linalg.inv(seen[:, 1:, 1:] / NOISE + unknown)
        evidence = (total[rows] @ items[:, 1:] - seen[:, 0, 1:]) / NOISE
        means[rows, 0], means[rows, 1:] = 1, np.einsum("uij,uj->ui", covariance, evidence)
        second = means[rows, :, None] * means[rows, None, :]
        second[:, 1:, 1:] += covariance
        seconds[rows] = _triangle_of(second)
    return means, seconds


def _regress(count: csr_array, total: csr_array, means: Floats, seconds: Floats, level: np.floating) -> Floats:
    """(I, D) the b and w of the items that fit the users' values best, shrunk towards their prior."""
    size = means.shape[1]
    weight = np.full(size, FACTOR_ROWS, np.float32)
    weight[0], weight[1] = BIAS_ROWS, LEVEL_ROWS
    prior = np.zeros(size, np.float32)
    prior[1] = level
    solved = np.empty((count.shape[0], size), np.float32)
    for rows in slices(len(solved), ROWS_AT_ONCE):
        known = _square(count[rows] @ seconds) + np.diag(weight)
        solved[rows] = np.linalg.solve(known, (total[rows] @ means + prior * weight)[:, :, None])[:, :, 0]
    return solved


def _triangle(vectors: Floats) -> Floats:
    """(N, T) products of the entries of each vector, each pair once to save half of the work; T = D (D + 1) / 2."""
    row, column = np.triu_indices(vectors.shape[1])
    return vectors.take(row, axis=1) * vectors.take(column, axis=1)  # `take` is four times as fast as an index


def _triangle_of(matrices: Floats) -> Floats:
    """(N, T) the upper triangles of symmetric matrices (N, D, D)."""
    size = matrices.shape[1]
    row, column = np.triu_indices(size)
    triangles: Floats = matrices.reshape(len(matrices), size * size).take(row * size + column, axis=1)
    return triangles


def _square(triangles: Floats) -> Floats:
    """(N, D, D) the symmetric matrices of upper triangles."""
    size = int((np.sqrt(8 * triangles.shape[1] + 1) - 1) / 2)
    place = np.empty((size, size), np.int64)
    row, column = np.triu_indices(size)
    place[row, column] = place[column, row] = np.arange(len(row))
    squares: Floats = triangles.take(place, axis=1)
    return squares
