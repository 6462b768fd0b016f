"""The label rate of a day next to that of the day before: a jump is more often a broken file than a changed taste."""

import math
from dataclasses import dataclass

import duckdb

from recsys_assets.datasets.profile import Profile


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


def label_rates(connection: duckdb.DuckDBPyConnection, profile: Profile, rows: str, day: str) -> LabelRates | None:
    """The rates of labelled rows (a relation in SQL); None if there are no events on one of the two days.

    The profile's bound limits the change. Three standard errors are added to it, so that a day of ten events is not
    refused.
    """
    found = connection.execute(f"""
        SELECT date_diff('day', {profile.files.day_sql()}, DATE '{day}') AS age, count(*), avg(label)
        FROM (SELECT timestamp, label FROM {rows}) WHERE age < 2 GROUP BY age ORDER BY age
    """).fetchall()
    rates = {age: (int(count), float(rate)) for age, count, rate in found}
    if len(rates) < 2:
        return None
    (today_rows, today), (yesterday_rows, yesterday) = rates[0], rates[1]
    pooled = (today * today_rows + yesterday * yesterday_rows) / (today_rows + yesterday_rows)
    errors = math.sqrt(pooled * (1 - pooled) * (1 / today_rows + 1 / yesterday_rows))
    return LabelRates(today, yesterday, profile.bounds.max_label_rate_change + 3 * errors)
