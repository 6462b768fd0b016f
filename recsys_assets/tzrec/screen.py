"""A screen for vector search: it finds which of I items could reach a score threshold with each of N queries.

Everything is multiplied in bfloat16 (float32 where that is not fast), and a bound on the rounding error is
added within the same product. With x = x' + dx and q = q' + dq, where primes mark the rounded vectors,

    q x <= q' x' + |q'| |dx| + |dq| |x|                     (Cauchy-Schwarz, twice)

is again an inner product, of vectors with two more columns each; two further columns subtract the threshold.
So an item passes if one product is above zero, and no item whose score reaches the threshold fails.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from recsys_assets.arrays import Doubles, Ints, Vectors
from recsys_assets.bfloat16 import bfloat16_is_fast

if TYPE_CHECKING:
    import torch


EVERYTHING = -1e37  # a threshold that all items pass
QUERY_BLOCK = 2048  # per block; with ITEM_BLOCK, 4 MB of products per core; half and double are a tenth slower
ITEM_BLOCK = 1024
GROUP_SIZE = 32  # neighbouring items: their products are looked at one by one only if the highest is above zero
GROUP_BLOCK = 2048  # groups looked at in one go
SAMPLE_SIZE = 1 << 16
SAMPLE_PARTS = 2048  # least number of parts of the sample
_UP = 1 + 2**-6  # more than bfloat16 rounds down
_DOWN = 2**-8  # as much as bfloat16 rounds up
_TINY = 1e-24  # more than is lost if vectors of length 10^9 meet numbers that are too small for float32


def sample(count: int) -> Ints:
    """Numbers of the items, among `count`, that thresholds are estimated from; the same ones each time."""
    return np.random.default_rng(0).permutation(count)[:SAMPLE_SIZE]


class Screen:
    """The items in the form that the screen needs: 2 (D + 4) bytes per item."""

    def __init__(self, items: Vectors) -> None:
        """Round the items (I, D), which must be finite, and draw a sample of them."""
        import torch

        fast = bfloat16_is_fast(torch.device("cpu"))
        self._kind, self._bits = (torch.bfloat16, torch.int16) if fast else (torch.float32, torch.int32)
        self._width = items.shape[1]
        # Four times what a float32 sum of D + 4 products may lose, as a share of |q| |x| and of the threshold.
        self._sums = (self._width + 4) * 2.0**-22
        self._items = torch.zeros(-(-len(items) // ITEM_BLOCK) * ITEM_BLOCK, self._width + 4, dtype=self._kind)
        for first in range(0, len(items), SAMPLE_SIZE):
            part = torch.from_numpy(items[first : first + SAMPLE_SIZE])
            self._fill(self._items[first : first + len(part)], part)
        drawn = self._items[torch.from_numpy(sample(len(items)))]
        self._sample = drawn[:, : self._width].contiguous()
        self._most_lost, self._longest = drawn[:, self._width : self._width + 2].float().amax(0).tolist()

    def thresholds(self, queries: Vectors, ranks: Ints) -> Doubles:
        """(N,) an estimate of the score at rank `ranks` (1 is the best) in the sample, for queries (N, D).

        It is too low if good items are neighbours in the sample, and `EVERYTHING` if the sample has fewer items.
        """
        import torch

        size = max(1, len(self._sample) // max(SAMPLE_PARTS, 4 * int(ranks.max())))  # items in a part of the sample
        step, parts = size * max(1, ITEM_BLOCK // size), len(self._sample) // size
        rounded = torch.from_numpy(queries).to(self._kind).T
        highest = [
            torch.mm(items, rounded).view(-1, size, len(queries)).amax(1).float()
            for items in torch.split(self._sample[: parts * size], step)
        ]
        ordered = np.sort(torch.cat(highest).T.contiguous().numpy(), axis=1)
        found = ordered[np.arange(len(queries)), np.maximum(parts - ranks, 0)].astype(np.float64)
        return np.where(ranks <= parts, found - np.abs(found) * _DOWN, EVERYTHING)

    def floors(self, queries: Vectors, k: int) -> Doubles:
        """(N,) a score that at least k items reach, for queries (N, D); close to that of the sample's k best."""
        import torch

        rounded, lost = self._round(torch.from_numpy(queries))
        error = rounded.norm(dim=1) * self._most_lost + lost * self._longest
        floors: Doubles = self.thresholds(queries, np.full(len(queries), k)) - _UP * error.numpy()
        return floors

    def passing_pairs(self, queries: Vectors, thresholds: Doubles) -> Iterator[tuple[Ints, Ints]]:
        """(query's row, item) of all pairs whose score may reach the query's threshold, and of some others.

        The items of a row come in ascending order. An item whose score equals the threshold passes.
        """
        import torch

        side = self._query_side(torch.from_numpy(queries), torch.from_numpy(thresholds)).T.contiguous()
        products = torch.empty(ITEM_BLOCK, len(queries), dtype=self._kind)
        # The sign of a float is the sign of its bits, and numpy compares 16-bit integers 16 times as fast.
        bits = products.view(self._bits).numpy().reshape(ITEM_BLOCK // GROUP_SIZE, GROUP_SIZE, len(queries))
        for first in range(0, len(self._items), ITEM_BLOCK):
            torch.mm(self._items[first : first + ITEM_BLOCK], side, out=products)
            group, row = np.divmod(np.flatnonzero(bits.max(axis=1) > 0), len(queries))
            for some in range(0, len(row), GROUP_BLOCK):
                groups, rows = group[some : some + GROUP_BLOCK], row[some : some + GROUP_BLOCK]
                pair, place = np.nonzero(bits[groups, :, rows] > 0)
                yield rows[pair], first + groups[pair] * GROUP_SIZE + place

    def _fill(self, place: "torch.Tensor", items: "torch.Tensor") -> None:
        """Fill in (I, D + 4): the rounded items, |dx|, |x|, and ones for the threshold."""
        width = self._width
        place[:, :width] = items
        place[:, width] = (items - place[:, :width].float()).norm(dim=1) * _UP
        place[:, width + 1] = items.norm(dim=1) * _UP
        place[:, width + 2 :] = 1

    def _query_side(self, queries: "torch.Tensor", thresholds: "torch.Tensor") -> "torch.Tensor":
        """(N, D + 4): the rounded queries, |q'|, |dq|, and minus the threshold in two parts.

        2^-15 of the threshold is twice the rounding error of the two parts.
        """
        import torch

        rounded, lost = self._round(queries)
        minus = (thresholds.abs() * (2**-15 + self._sums) + _TINY - thresholds).float()
        high = minus.to(self._kind).float()
        more = [rounded.norm(dim=1) * _UP, lost * _UP, high, minus - high]
        return torch.cat([rounded, torch.stack(more, 1)], 1).to(self._kind)

    def _round(self, queries: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
        """The rounded queries, and (N,) |dq| plus the error of float32 sums."""
        rounded = queries.to(self._kind).float()
        return rounded, (queries - rounded).norm(dim=1) + self._sums * queries.norm(dim=1)
