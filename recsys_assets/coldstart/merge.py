"""Lists of warm and cold items together: each item keeps the score of the method that knows it best.

A warm item has its preference score, a cold one the score from its content. The two have different scales, so each is
standardised for each user, by its mean and deviation over the warm items, for which both methods have scores. A lift,
chosen on validation rows, says how much sooner or later people come to cold items than to warm ones that fit as well.
All of this is linear in the item's vectors, so that one inner product serves it too.
"""

from collections.abc import Callable

import numpy as np

from recsys_assets.arrays import Bools, Doubles

Score = Callable[[slice], Doubles]  # the scores (n, I) of the queries in a slice
_LEAST = 1e-12  # deviation of scores that are not all the same


def merged(preference: Score, content: Score, routed: Bools, lift: float) -> Score:
    """The scores of both methods in one: those of `preference` for the items (I,) that are routed to it.

    Args:
        preference: scores that are good for items with events.
        content: scores that need no events.
        routed: the items with enough events; at least one.
        lift: added to the standardised scores of the others.
    """

    def score(block: slice) -> Doubles:
        return np.where(routed, _standard(preference(block), routed), _standard(content(block), routed) + lift)

    return score


def _standard(scores: Doubles, over: Bools) -> Doubles:
    """Scores (n, I) with mean 0 and deviation 1 over some items, for each user."""
    taken = scores[:, over]
    found: Doubles = (scores - taken.mean(1, keepdims=True)) / np.maximum(taken.std(1, keepdims=True), _LEAST)
    return found
