"""Methods that score items which nobody has touched, from what is known of them: the baselines of cold start.

Each is fitted once and then scores all items for users' positives. Items without an event in the log are cold; a
method may be weak on warm ones, for which there is the preference model: see `merge.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

from recsys_assets.arrays import Bools, Doubles, Ints, spread
from recsys_assets.coldstart import factors
from recsys_assets.coldstart.content import Content, cosines
from recsys_assets.coldstart.factors import Als
from recsys_assets.declined import CannotBeBuilt
from recsys_assets.retrieval.interactions import Interactions, Queries

MOST_ITEMS = 20_000  # a dense matrix of all pairs of so many items takes 3.2 GB
_TAUGHT = 1000  # users whose likes teach how much each feature says about likeness
_SEED = 1
OfLikes = Callable[[csr_array], Doubles]  # positives (N, I) of N users to scores (N, I) of all items


@dataclass(frozen=True)
class Known:
    """The events and the content that methods may learn from.

    Attributes:
        liked: (U, I) 1 for each pair with a positive.
        counts: (I,) events of each item; 0 for a cold one.
        content: of all items.
        settings: of implicit ALS.
    """

    liked: csr_array
    counts: Ints
    content: Content
    settings: Als = field(default_factory=Als)

    @staticmethod
    def of(log: Interactions, content: Content, settings: Als | None = None) -> "Known":
        """The positives of a log, with the content of its items."""
        liked = _pairs(log, log.users, np.arange(len(log)), len(log.user_ids))
        return Known(liked, log.item_counts, content, settings or Als())

    @property
    def warm(self) -> Bools:
        """(I,) the items with an event."""
        warm: Bools = self.counts > 0
        return warm

    @cached_property
    def vectors(self) -> Doubles:
        """(I, D) preference vectors of the items, by implicit ALS; zeros for cold ones."""
        return factors.fit(self.liked, self.settings)

    @cached_property
    def alike(self) -> Doubles:
        """(I, I) how alike items are by content: see `likeness`."""
        return likeness(self)

    def inverse(self, l2: float) -> Doubles:
        """(I, I) P = (X^T X + l2 I)^-1 for the likes X (U, I).

        With fewer users than items it comes from the inverse of (U, U), by Woodbury's identity: 671 users and 9,066
        items would otherwise take minutes.

        Raises:
            CannotBeBuilt: there are too many items.
        """
        users, items = self.liked.shape
        refuse_many(items)
        if users >= items:
            return _inverse((self.liked.T @ self.liked).toarray(), l2)
        likes = self.liked.toarray()
        found: Doubles = likes.T @ (_inverse((self.liked @ self.liked.T).toarray(), l2) @ likes) / -l2
        found[np.diag_indices(items)] += 1 / l2
        return found


def positives(log: Interactions, asked: Queries, block: slice) -> csr_array:
    """(N, I) 1 for each item that is liked in the history of a query of the block."""
    row, event = spread(asked.starts[block], asked.ends[block])
    return _pairs(log, row, event, block.stop - block.start)


def _pairs(log: Interactions, rows: Ints, events: Ints, count: int) -> csr_array:
    """(count, I) 1 for each pair of a row and the item of its event (M,), if that is a positive."""
    liked = log.labels[events] > 0
    places = (rows[liked], log.items[events[liked]])
    found = csr_array((np.ones(liked.sum()), places), (count, len(log.item_ids)))
    found.data[:] = 1.0  # a pair that occurs twice counts once
    return found


def random(_: Known) -> OfLikes:
    """Items in random order, the same for the same users."""

    def score(liked: csr_array) -> Doubles:
        found: Doubles = np.random.default_rng(_SEED).random(liked.shape)
        return found

    return score


def popularity(known: Known, l2: float = 100.0) -> OfLikes:
    """The number of events in a logarithm; for a cold item, what ridge regression from content expects of it."""
    counts = np.log1p(known.counts)[:, None]
    expected = np.where(known.warm, counts[:, 0], ridge_to(known, counts, l2)[:, 0])

    def score(liked: csr_array) -> Doubles:
        return np.tile(expected, (liked.shape[0], 1))

    return score


def neighbours(known: Known) -> OfLikes:
    """The sum of the cosines of an item's content with that of the liked items."""
    alike = _pairs_of_items(known.content.values)

    def score(liked: csr_array) -> Doubles:
        found: Doubles = liked @ alike
        return found

    return score


def ridge(known: Known, l2: float = 100.0) -> OfLikes:
    """Preference vectors that ridge regression predicts from content (DeepMusic, van den Oord et al. 2013).

    Every item gets the predicted vector; a user has the vector of implicit ALS.
    """
    items = ridge_to(known, known.vectors, l2)

    def score(liked: csr_array) -> Doubles:
        found: Doubles = factors.solve(liked, known.vectors, known.settings) @ items.T
        return found

    return score


def als(known: Known) -> OfLikes:
    """The preference model alone: implicit ALS, which gives nothing to a cold item."""

    def score(liked: csr_array) -> Doubles:
        found: Doubles = factors.solve(liked, known.vectors, known.settings) @ known.vectors.T
        return found

    return score


def ease(known: Known, l2: float = 300.0) -> OfLikes:
    """EASE (Steck 2019), the preference model in closed form; a cold item gets 0.

    The weights are I - P / diag(P).
    """
    inverse = known.inverse(l2)
    own = inverse.diagonal()

    def score(liked: csr_array) -> Doubles:
        found: Doubles = liked.toarray() - (liked @ inverse) / own
        return found

    return score


def aligned_ease(known: Known, l2: float = 300.0, rare: float = 20.0) -> OfLikes:
    """EASE aligned with metadata, in closed form: the idea of MARec (Monteil et al. 2024, arXiv 2404.13298).

    The weights B minimise |X - X B|^2 + l2 |B|^2 + |(X B - X G) D|^2 with a diagonal of 0: an item is to score as its
    likeness by content G says, the more (D) the fewer events it has. With the ridge scaled by 1 + d_j for item j, all
    columns share one inverse: B = (I - l2 P)(I + G D)(I + D)^-1 - P diag(c). Here d_j is `rare` over the events of the
    item, so that a cold item follows its content alone. G is a sum of cosines, one per feature, whose weights are
    learned from how often warm items are liked together. B itself is never made: it would take a product of (I, I).
    """
    inverse = known.inverse(l2)
    trust = known.counts / (known.counts + rare)  # 1 / (1 + d)
    wanted = known.alike * (1 - trust)
    wanted[np.diag_indices_from(wanted)] += trust
    unrestricted = wanted.diagonal() - l2 * np.einsum("ij,ij->j", inverse, wanted)  # the diagonal of (I - l2 P) wanted
    multipliers = unrestricted / inverse.diagonal()

    def score(liked: csr_array) -> Doubles:
        half = liked @ inverse  # (N, I)
        found: Doubles = (liked.toarray() - l2 * half) @ wanted - half * multipliers
        return found

    return score


def likeness(known: Known) -> Doubles:
    """(I, I) how alike items are by content: cosines by feature, weighted so that the liked items foretell one more.

    The weights are those of a regression without negative ones of likes (U, I) on the sums of an item's cosines with
    the other liked items, over drawn users and warm items: so scores have the scale of likes.
    """
    from scipy.optimize import nnls  # its import takes 0.1 s

    content = known.content
    parts = [_pairs_of_items(content.field(number)) for number in range(len(content.names))]
    if not parts:
        return np.zeros((len(known.counts), len(known.counts)))
    drawn = np.random.default_rng(_SEED).permutation(known.liked.shape[0])[:_TAUGHT]
    liked = known.liked[np.sort(drawn)]
    told = np.stack([(liked @ part)[:, known.warm].ravel() for part in parts], 1)
    wanted = liked.toarray()[:, known.warm].ravel()
    weights = nnls(told.T @ told, told.T @ wanted)[0]  # of the normal equations, which are few
    total: Doubles = sum((w * part for w, part in zip(weights, parts, strict=True)), np.zeros_like(parts[0]))
    return total


def ridge_to(known: Known, targets: Doubles, l2: float) -> Doubles:
    """(I, D) what ridge regression from content predicts, fitted on the targets (I, D) of warm items."""
    weights, shift = regression(known.content.values, known.counts, targets, l2)
    found: Doubles = known.content.values @ weights + shift
    return found


def regression(values: Doubles, counts: Ints, targets: Doubles, l2: float) -> tuple[Doubles, Doubles]:
    """Weights (F, D) and a shift (D,) by which values (N, F) predict targets (N, D): ridge regression.

    A row weighs as much as the root of its events (N,): the vector of an item with few events is mostly noise, and one
    without any teaches nothing.
    """
    warm = counts > 0
    trust = np.sqrt(counts[warm])[:, None]
    trust = trust / trust.mean()
    middle = (trust * targets[warm]).sum(0) / trust.sum()
    centre = (trust * values[warm]).sum(0) / trust.sum()
    rows = values[warm] - centre
    left = (rows * trust).T @ rows + l2 * np.eye(rows.shape[1])
    weights = np.linalg.solve(left, (rows * trust).T @ (targets[warm] - middle))
    return weights, middle - centre @ weights


def _pairs_of_items(values: Doubles) -> Doubles:
    """Cosines (I, I) of the rows of (I, F), and 0 for an item with itself.

    Raises:
        CannotBeBuilt: there are too many items.
    """
    refuse_many(len(values))
    alike = cosines(values)
    np.fill_diagonal(alike, 0.0)
    return alike


def refuse_many(items: int) -> None:
    """Raise `CannotBeBuilt` if a matrix of all pairs of so many items would not fit into memory."""
    if items > MOST_ITEMS:
        raise CannotBeBuilt(f"{items:,} items: methods that hold all pairs of items take at most {MOST_ITEMS:,}")


def _inverse(products: Doubles, l2: float) -> Doubles:
    """The inverse of (N, N) products of rows of likes plus a ridge, which is positive definite.

    By Cholesky's decomposition, in half the operations of `numpy.linalg.inv`.
    """
    from scipy.linalg import lapack

    products[np.diag_indices_from(products)] += l2
    lower, failed = lapack.dpotrf(products, lower=1, overwrite_a=1)
    inverse, failed = lapack.dpotri(lower, lower=1, overwrite_c=1) if not failed else (lower, failed)
    if failed:
        raise ArithmeticError(f"a matrix of products with a ridge of {l2:g} is not positive definite")
    found: Doubles = np.tril(inverse) + np.tril(inverse, -1).T
    return found
