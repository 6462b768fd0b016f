"""How much of the order of events in users' histories is real: events with the same time have no order among them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_assets.arrays import number_values

# MovieLens 1M has 0.56, and its order is worth much. MovieLens Latest Small with its times cut to days has 0.95.
MOST_TIED, MOST_TIED_OF_DATES = 0.9, 0.5
_DAY = 86_400_000_000  # microseconds


@dataclass(frozen=True)
class Order:
    """The order of a log.

    Attributes:
        tied: the share of events that have the time of their user's event before them, among those with one before.
        dated: whether all times are midnight: the log says the day, not the moment.
    """

    tied: float
    dated: bool

    @property
    def is_real(self) -> bool:
        """Whether methods may learn from the order."""
        return self.tied <= (MOST_TIED_OF_DATES if self.dated else MOST_TIED)

    def describe(self) -> str:
        """A sentence for reports, on a log whose order is not real."""
        dates = " and all times are midnight" if self.dated else ""
        return (
            f"{self.tied:.0%} of the events have the same time as their user's event before them{dates}: their order "
            "means nothing, so item-to-item methods use no window and no recency, and models of sequences read "
            "positions that say nothing"
        )


def order_of(path: Path) -> Order:
    """The order of the rows of a `recall_samples` file."""
    return order_of_table(pq.read_table(path, columns=["user_id", "timestamp"]))


def order_of_table(rows: pa.Table) -> Order:
    """The order of rows of user_id and timestamp, ordered by both."""
    users = number_values(rows["user_id"])[1]
    times = rows["timestamp"].cast(pa.timestamp("us")).cast(pa.int64())
    follows, tied = users[1:] == users[:-1], np.diff(times.to_numpy()) == 0
    share = float(tied[follows].mean()) if follows.any() else 0.0
    dated = bool(len(times)) and bool(pc.all(pc.equal(pc.multiply(pc.divide(times, _DAY), _DAY), times)).as_py())
    return Order(share, dated)
