"""Columns of a candidate that are not from channels: the snapshots, the user's affinity, the ranker's probability.

A snapshot is of one moment: of the end of the validation part when the order of candidates is learned, of the last
offline row when they are served. Both are made by the same statements. What is computed for a pair is rounded to
`GRID`, as in `candidates.py`.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.arrays import Floats, Ints
from recsys_assets.datasets.names import AFFINITY, DRAW_LOG_RATE, ITEM_STATISTICS, NEARBY, USER_STATISTICS
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.splits import PARTS
from recsys_assets.features.pair_data import Pairs
from recsys_assets.features.pair_features import SERVING_COLUMNS, candidate_rows
from recsys_assets.funnel.candidates import on_grid
from recsys_assets.funnel.scoring import PAIRS_AT_ONCE, THREADS, Scorer

RECENT_SHARE = 0.1  # the newest events of all users that count as recent
RECENT_COUNT, TREND = "item_recent_count", "item_trend"
RANKER, PROBABILITY = "ranker", "probability"
COMPUTED = (AFFINITY, NEARBY)  # lists of floats for each pair


@dataclass(frozen=True)
class Known:
    """Both snapshots of one moment, and the ranker as it is served, if there is one.

    Attributes:
        users: `user_features`.
        items: `item_features` of all items, with the columns of `item_trends`.
        ranker: its output becomes the column `RANKER`; `PROBABILITY`, which is shown to people, orders nothing.
    """

    profile: Profile
    users: pa.Table
    items: pa.Table
    ranker: Scorer | None

    def describe(self, user: Ints, item: Ints, moment: Mapping[str, pa.Array] | None = None) -> dict[str, Floats]:
        """Columns (M,) of M pairs of a row of `users` (ascending) and a row of `items`; NaN where nothing is known.

        `moment` has the features of the moment of their requests, (M,) each; what a request does not say is null, or
        absent.
        """
        users, items = self._needed(self.users), self._needed(self.items)

        def block(first: int) -> dict[str, Floats]:
            theirs, its = user[first : first + PAIRS_AT_ONCE], item[first : first + PAIRS_AT_ONCE]
            shown = users.slice(theirs[0], theirs[-1] - theirs[0] + 1)
            now = {name: column.slice(first, PAIRS_AT_ONCE) for name, column in (moment or {}).items()}
            rule = self.profile.features.affinity
            return self._columns(candidate_rows(Pairs(shown, items, theirs - theirs[0], its, rule), now))

        with ThreadPoolExecutor(THREADS) as pool:
            parts = list(pool.map(block, range(0, len(user), PAIRS_AT_ONCE)))
        return {name: np.concatenate([each[name] for each in parts]) for name in (parts[0] if parts else ())}

    def _needed(self, snapshot: pa.Table) -> pa.Table:
        """The columns of a snapshot that pairs, the ranker or the candidates' order read."""
        read = {*SERVING_COLUMNS, *self._numbers, "item_id", DRAW_LOG_RATE}
        read |= {feature.name for feature in self.ranker.schema.features} if self.ranker else set()
        return snapshot.select([name for name in snapshot.column_names if name in read])

    @property
    def _numbers(self) -> tuple[str, ...]:
        return (*self.profile.features.numeric, *USER_STATISTICS, *ITEM_STATISTICS, RECENT_COUNT, TREND)

    def _columns(self, rows: pa.Table) -> dict[str, Floats]:
        found = {name: _floats(rows[name]) for name in self._numbers if name in rows.column_names}
        for name in COMPUTED:
            numbers = on_grid(pc.list_flatten(rows[name]).to_numpy().reshape(rows.num_rows, -1))
            found |= {f"{name}:{place}": column for place, column in enumerate(numbers.T)}
        return found | (self._probabilities(self.ranker, rows) if self.ranker else {})

    def _probabilities(self, ranker: Scorer, rows: pa.Table) -> dict[str, Floats]:
        """The ranker's own output, and the probability that is shown: corrected where negatives are drawn.

        A correction is fitted on test rows, so the order is not learned from it.
        """
        found = ranker.at_once(rows)
        shown = (
            ranker.correction(found, rows[DRAW_LOG_RATE].to_numpy()) if DRAW_LOG_RATE in rows.column_names else found
        )
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
