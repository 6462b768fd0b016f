"""Judging a method's lists of many queries: made, written, checked and counted block by block.

The lists of 10^6 users at once, with what their metrics need, would take about 20 GB.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from recsys_assets.arrays import Bools
from recsys_assets.retrieval.details import details, faults
from recsys_assets.retrieval.interactions import BLOCK, Interactions, Queries
from recsys_assets.retrieval.lists import Lists, Tally


@dataclass
class Judged:
    """The lists of all queries, as far as they are judged.

    Attributes:
        tally: the sums of the metrics.
        shown: (cutoffs, I) whether an item is in some list, cut at each of the cutoffs.
        faults: counts of faults; see `details.faults`.
        heads: (N, K) the first items of every list, in blocks.
    """

    tally: Tally
    shown: Bools
    faults: Counter[str] = field(default_factory=Counter)
    heads: list[npt.NDArray[np.int32]] = field(default_factory=list)

    def coverage(self, catalogue: Bools) -> list[float]:
        """The share of the items of the catalogue (I,) that are in some list, at each of the cutoffs."""
        covered: list[float] = ((self.shown & catalogue).sum(axis=1) / catalogue.sum()).tolist()
        return covered


def judge(
    recall: Callable[[Queries], Lists],
    interactions: Interactions,
    asked: Queries,
    cutoffs: Sequence[int],
    filter_seen: bool,
    path: Path,
) -> Judged:
    """Write the details of a method's lists to a file and judge them; heads are as long as the least cutoff."""
    found = Judged(Tally(max(cutoffs)), np.zeros((len(cutoffs), len(interactions.item_ids)), bool))
    with ExitStack() as opened:
        writer = None
        for block in asked.blocks(BLOCK):
            lists = recall(block)
            rows = details(interactions, block, lists)
            writer = writer or opened.enter_context(pq.ParquetWriter(path, rows.schema, compression="zstd"))
            writer.write_table(rows)
            found.tally.add(lists.items, block)
            found.faults.update(faults(interactions, block, lists, filter_seen))
            found.heads.append(lists.items[:, : min(cutoffs)].astype(np.int32))
            for shown, k in zip(found.shown, cutoffs, strict=True):
                shown[lists.items[:, :k][lists.items[:, :k] >= 0]] = True
    return found
