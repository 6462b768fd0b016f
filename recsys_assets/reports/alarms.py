"""When a day's statistic is an alarm: it is above what the last days' own statistics, and chance, allow.

There are no fixed thresholds: what is usual differs between logs, and every distance grows when rows get fewer. The
bound of a statistic is the larger one of

* the upper end of the prediction interval for one more day (Student's t), from the statistics of the last 5 to 28 days,
  each of which was compared with its own last days in the same way. A week's rhythm widens it by itself;
* what the distance reaches by chance, if the rows of both sides came from one distribution.

A distance or a share is 1 at most, and so is its bound; one whose bound is 1 cannot be an alarm.

Both ends are at a level at which all statistics of a report together give one false alarm in `DAYS_A_FALSE_ALARM` days
(Bonferroni), if the statistics of quiet days are normal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy  # which loads `special` when it is used: 0.1 s

Kind = Literal["distance", "share", "count"]
FEWEST, MOST = 5, 28  # days of history that a bound needs, and uses
DAYS_A_FALSE_ALARM = 100


@dataclass(frozen=True)
class Statistic:
    """A statistic of a day, of the days before it, and what it reaches by chance.

    Attributes:
        column: what it is of, such as `items.price`.
        name: which statistic it is, such as `unknown`.
        kind: a distance from 0 to 1, a share of rows, or a count of rows. A count may be unusually low, too.
        value: of the day.
        history: of up to `MOST` days before.
        degrees: of a distance: the bins that are not empty, less 1.
        rows: of the day.
        reference_rows: of the days that the day is compared with.
    """

    column: str
    name: str
    kind: Kind
    value: float
    history: Sequence[float]
    degrees: int = 0
    rows: float = 0.0
    reference_rows: float = 0.0


@dataclass(frozen=True)
class Judged:
    """A statistic with the range that is allowed; both ends are None if there are too few days to tell."""

    statistic: Statistic
    low: float | None
    high: float | None

    @property
    def is_alarm(self) -> bool:
        """Whether the value is outside of the range."""
        value = self.statistic.value
        return (self.high is not None and value > self.high) or (self.low is not None and value < self.low)

    @property
    def excess(self) -> float:
        """How many times the value is as far as it may be; the alarms with the largest excess come first."""
        if self.high is None:
            return 0.0
        over = self.statistic.value / self.high if self.high else np.inf * self.statistic.value
        under = self.low / max(self.statistic.value, 1e-9) if self.low is not None else 0.0
        return float(max(np.nan_to_num(over), under))


def judge(statistics: Sequence[Statistic]) -> list[Judged]:
    """Each statistic with its bounds, in the given order."""
    level = 1 / (DAYS_A_FALSE_ALARM * max(len(statistics), 1))
    return [Judged(each, *_range(each, level)) for each in statistics]


def _range(statistic: Statistic, level: float) -> tuple[float | None, float | None]:
    """The lowest and highest value that are allowed; counts alone have a lowest one."""
    history = np.array(statistic.history[-MOST:], np.float64)
    if len(history) < FEWEST or (statistic.kind == "share" and not statistic.rows):  # no row has a share
        return None, None
    if statistic.kind == "distance":
        by_chance = _distance_by_chance(statistic, level)
        return None, min(max(_predict(history, level), by_chance), 1.0)
    if statistic.kind == "share":  # its square root varies equally, whatever its size
        by_chance = float(scipy.special.pdtrik(1 - level, max(history.mean() * statistic.rows, 1.0)) / statistic.rows)
        return None, min(max(_predict(np.sqrt(history), level) ** 2, by_chance), 1.0)
    logs = np.log(np.maximum(history, 0.5))
    chance = scipy.special.stdtrit(1e6, 1 - level / 2) * np.exp(-logs.mean() / 2)  # of a Poisson count, in logarithms
    middle, up = logs.mean(), _predict(logs, level / 2) - logs.mean()
    return float(np.exp(middle - max(up, chance))), float(np.exp(middle + max(up, chance)))


def _predict(history: np.ndarray, level: float) -> float:
    """The value that one more day exceeds with this probability, if days are independent and normal."""
    days = len(history)
    spread = history.std(ddof=1) * np.sqrt(1 + 1 / days)
    return float(history.mean() + scipy.special.stdtrit(days - 1, 1 - level) * spread)


def _distance_by_chance(statistic: Statistic, level: float) -> float:
    """The Jensen-Shannon distance of two samples of one distribution: 8 n its square is chi-squared distributed."""
    if not (statistic.degrees and statistic.rows and statistic.reference_rows):
        return 0.0
    pairs = 1 / statistic.rows + 1 / statistic.reference_rows
    return float(np.sqrt(scipy.special.chdtri(statistic.degrees, level) * pairs / 8 / np.log(2)))
