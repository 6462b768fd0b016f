"""The label rate of a day next to that of the day before: a jump is more often a broken file than a changed taste."""

import math
from dataclasses import dataclass

from recsys_assets.datasets.profile import Profile
from recsys_assets.engines.engine import Engine


@dataclass(frozen=True)
class LabelRates:
    """The share of positives on a day and on the day before, and the change that is allowed."""

    today: float
    yesterday: float
    allowed_change: float

    @property
    def is_steady(self) -> bool:
        """Whether the change is allowed."""
        return abs(self.today - self.yesterday) <= self.allowed_change


def label_rates(connection: Engine, profile: Profile, rows: str, day: str) -> LabelRates | None:
    """The rates of labelled rows (a relation in SQL); None if there are no events on one of the two days.

    The profile's bound limits the change. Three standard errors are added to it, so that a day of ten events is not
    refused.
    """
    date = profile.files.day_sql()
    found = connection.execute(f"""
        SELECT {date} AS date, count(*), avg(label) FROM (SELECT timestamp, label FROM {rows})
        WHERE {date} BETWEEN DATE '{day}' - 1 AND DATE '{day}' GROUP BY date ORDER BY date
    """).fetchall()
    if len(found) < 2:
        return None
    (_, yesterday_rows, yesterday), (_, today_rows, today) = found
    pooled = (today * today_rows + yesterday * yesterday_rows) / (today_rows + yesterday_rows)
    errors = math.sqrt(pooled * (1 - pooled) * (1 / today_rows + 1 / yesterday_rows))
    return LabelRates(today, yesterday, profile.bounds.max_label_rate_change + 3 * errors)
