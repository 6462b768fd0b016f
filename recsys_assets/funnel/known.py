"""Columns of a candidate that are not from channels: the snapshots, the user's affinity, the ranker's probability.

A snapshot is of one moment: of the end of the validation part when the order of candidates is learned, of the last
offline row when they are served. Both are made by the same statements. What is computed for a pair is rounded to
`GRID`, as in `candidates.py`.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import copy

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.arrays import Floats, Ints
from recsys_assets.datasets.names import AFFINITY, ITEM_STATISTICS, NEARBY, USER_STATISTICS
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.splits import PARTS
from recsys_assets.features.feed import Feed
from recsys_assets.features.pair_data import ItemSnapshot, Pairs
from recsys_assets.features.pair_features import pair_numbers
from recsys_assets.funnel.candidates import on_grid
from recsys_assets.funnel.scoring import PAIRS_AT_ONCE, THREADS, Scorer, log_draw_rates, pair_blocks

RECENT_SHARE = 0.1  # the newest events of all users that count as recent
RECENT_COUNT, TREND = "item_recent_count", "item_trend"
RANKER, PROBABILITY = "ranker", "probability"
COMPUTED = (AFFINITY, NEARBY)  # lists of floats for each pair


class Known:
    """Knowledge of pairs at one moment; whatever is of the items alone is prepared once.

    Args:
        profile: its rules say how features of pairs are computed, and which columns are numbers.
        items: `item_features` of all items, with the columns of `item_trends`.
        ranker: the model as it is served, if there is one. Its output becomes the column `RANKER`; `PROBABILITY`,
            which is shown to people, orders nothing.
    """

    def __init__(self, profile: Profile, items: pa.Table, ranker: Scorer | None) -> None:
        self.items, self.ranker = ItemSnapshot(items, profile.features.affinity), ranker
        names = (*profile.features.numeric, *USER_STATISTICS, *ITEM_STATISTICS, RECENT_COUNT, TREND)
        self._numbers = {name: _floats(items[name]) if name in items.column_names else None for name in names}
        self._feed = Feed(ranker.schema, self.items) if ranker else None

    def without_ranker(self) -> "Known":
        """The same without the ranker's columns."""
        twin = copy(self)
        twin.ranker = twin._feed = None
        return twin

    def describe(
        self, users: pa.Table, user: Ints, item: Ints, moment: Mapping[str, pa.Array] | None = None
    ) -> dict[str, Floats]:
        """Columns (M,) of M pairs; NaN where nothing is known.

        Args:
            users: `user_features` of the users.
            user: (M,) rows of `users`, ascending.
            item: (M,) rows of the items.
            moment: features of the moment of their requests, (M,) each; what a request does not say is null, or absent.
        """
        starts = range(0, len(user), PAIRS_AT_ONCE)
        moments = (
            {name: each.slice(start, PAIRS_AT_ONCE) for name, each in (moment or {}).items()} for start in starts
        )
        blocks = pair_blocks(users, self.items, user, item)
        if len(starts) == 1:
            return self._describe(next(blocks), next(moments))
        with ThreadPoolExecutor(THREADS) as pool:
            parts = list(pool.map(self._describe, blocks, moments))
        return {name: np.concatenate([each[name] for each in parts]) for name in (parts[0] if parts else ())}

    def _describe(self, pairs: Pairs, moment: Mapping[str, pa.Array]) -> dict[str, Floats]:
        found, computed = {}, pair_numbers(pairs)
        for name, of_items in self._numbers.items():
            if of_items is not None:
                found[name] = of_items[pairs.item]
            elif name in pairs.users.column_names:
                found[name] = _floats(pairs.users[name])[pairs.user]
        for name in COMPUTED:
            found |= {f"{name}:{place}": column for place, column in enumerate(on_grid(computed[name]).T)}
        return found | self._probabilities(pairs, computed, moment)

    def _probabilities(
        self, pairs: Pairs, computed: Mapping[str, Floats], moment: Mapping[str, pa.Array]
    ) -> dict[str, Floats]:
        """The ranker's own output, and the probability that is shown: corrected where negatives are drawn.

        A correction is fitted on test rows, so the order is not learned from it.
        """
        if self.ranker is None or self._feed is None:
            return {}
        found = shown = self.ranker.run(self._feed(pairs, computed, moment))
        if (rates := log_draw_rates(pairs)) is not None:
            shown = self.ranker.correction(found, rates)
        return {RANKER: on_grid(found), PROBABILITY: shown.astype(np.float32)}


def item_trends(events: pa.Table, part: str, items: pa.Table) -> pa.Table:
    """The items' table with two more columns, from the events before a part.

    `RECENT_COUNT` is ln(1 + its events among the newest tenth of all events), `TREND` the logarithm of how many times
    more these are than expected, (recent + 1) / (a tenth of all its events + 1).

    Args:
        events: item_id, timestamp and part.
        part: whose events and later ones are not known.
        items: a table with the column item_id.
    """
    known = events.filter(pc.is_in(events["part"], pa.array(PARTS[: PARTS.index(part)])))
    times = known["timestamp"].cast(pa.int64()).to_numpy()
    begin = np.quantile(times, 1 - RECENT_SHARE, method="lower") if len(times) else 0
    number = pc.index_in(known["item_id"], value_set=items["item_id"].combine_chunks()).to_numpy()
    count = np.bincount(number, minlength=items.num_rows)
    recent = np.bincount(number[times > begin], minlength=items.num_rows)
    trend = np.log((recent + 1) / (RECENT_SHARE * count + 1))
    for name, column in {RECENT_COUNT: np.log1p(recent), TREND: trend}.items():
        items = items.append_column(name, pa.array(column.astype(np.float32)))
    return items


def _floats(column: pa.ChunkedArray) -> Floats:
    """(N,) the numbers as float32, NaN where there is none."""
    found: Floats = column.cast(pa.float32()).to_numpy(zero_copy_only=False)
    return found
