"""Scores of some items for each query, in a catalogue that is too wide to hold the scores of all items."""

from dataclasses import dataclass

import numpy as np

from recsys_assets.arrays import Bools, Ints, Scores, is_among, place_in_group

WIDE = 1 << 17  # items from which on channels give entries


@dataclass(frozen=True)
class Entries:
    """M scores of items for n queries.

    Attributes:
        row: (M,) the query, from 0 to n - 1.
        item: (M,) number of the item, each at most once for a query.
        score: (M,) its score there.
    """

    row: Ints
    item: Ints
    score: Scores

    def where(self, kept: Bools) -> "Entries":
        """The entries that `kept` (M,) marks."""
        return Entries(self.row[kept], self.item[kept], self.score[kept])

    def without(self, rows: Ints, items: Ints) -> "Entries":
        """The entries without some items (T,) of some queries (T,)."""
        width = 1 + max(int(self.item.max(initial=0)), int(items.max(initial=0)))
        return self.where(~is_among(self.row * width + self.item, rows * width + items))

    def best(self, k: int) -> tuple["Entries", Ints]:
        """The k highest entries of each query, best first, and their places from 0; ties by the item's number."""
        order = np.lexsort((self.item, -self.score, self.row))
        place = place_in_group(self.row[order])
        kept = order[place < k]
        return Entries(self.row[kept], self.item[kept], self.score[kept]), place[place < k]
