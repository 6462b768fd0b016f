"""The bounds of a drafted profile: what the days of a log themselves exceed would stop the graph for no reason."""

import math

import duckdb

from recsys_assets.datasets.drafting.columns import flow, note
from recsys_assets.datasets.drafting.log import Log
from recsys_assets.datasets.duck import only_row, quote_name
from recsys_assets.datasets.profile_parts import Bounds

_SPARE = 0.05  # above the highest share of the log's own days, for days to come


def bounds_text(connection: duckdb.DuckDBPyConnection, log: Log) -> str:
    """The line `bounds` for what exceeds the default bounds on some day, with the reason; empty if nothing does."""
    found, reasons = dict[str, float](), list[str]()
    rejected = _rejected(connection, log)
    if rejected > Bounds().max_rejected_rate:
        found["max_rejected_rate"] = _rounded(rejected)
        reasons.append(f"up to {rejected:.0%} of a day's events lack an id or a rating, or repeat user, item and time")
    change = _label_rate_change(connection, log) if log.positive else 0.0
    if change > Bounds().max_label_rate_change:
        found["max_label_rate_change"] = _rounded(change)
        reasons.append(f"the share of positives changes by up to {change:.0%} from day to day")
    return f"bounds: {flow(found)}{note('; '.join(reasons))}" if found else ""


def _rejected(connection: duckdb.DuckDBPyConnection, log: Log) -> float:
    """The highest share, on any day, of events that ingest would reject: without an id or a rating, or a repeat."""
    roles = log.roles
    user, item = (f"nullif(CAST({quote_name(name)} AS VARCHAR), '')" for name in (roles.user, roles.item))
    if roles.session:
        user = f"coalesce({user}, 'session ' || CAST({quote_name(roles.session)} AS VARCHAR))"
    kind = quote_name(roles.kind) if roles.kind else "NULL"
    is_rated = f"isfinite(try_cast({quote_name(roles.rating)} AS DOUBLE))" if roles.rating else "true"
    (share,) = only_row(
        connection,
        f"""
        SELECT max(share) FROM (
            SELECT 1 - count(DISTINCT (who, what, moment, kind))
                FILTER (who IS NOT NULL AND what IS NOT NULL AND is_rated) / count(*) AS share
            FROM (SELECT {log.day} AS day, {user} AS who, {item} AS what, {quote_name(roles.time)} AS moment,
                {kind} AS kind, {is_rated} AS is_rated FROM {log.events.sample})
            WHERE day IS NOT NULL GROUP BY day
        )
        """,
    )
    return float(share)


def _label_rate_change(connection: duckdb.DuckDBPyConnection, log: Log) -> float:
    """The largest change of the share of positives from one day with events to the next, less three errors of it."""
    (change,) = only_row(
        connection,
        f"""
        SELECT max(abs(rate - lag_rate) - 3 * sqrt(pooled * (1 - pooled) * (1 / n + 1 / lag_n))) FROM (
            SELECT *, (rate * n + lag_rate * lag_n) / (n + lag_n) AS pooled FROM (
                SELECT n, rate, lag(n) OVER days AS lag_n, lag(rate) OVER days AS lag_rate FROM (
                    SELECT day, count(positive) AS n, avg(positive) AS rate
                    FROM (SELECT {log.day} AS day, ({log.positive})::INT AS positive FROM {log.events.sample})
                    WHERE day IS NOT NULL AND positive IS NOT NULL GROUP BY day
                ) WINDOW days AS (ORDER BY day)
            )
        )
        """,
    )
    return float(change or 0)


def _rounded(share: float) -> float:
    """The share with some to spare, in whole per cents."""
    return min(1.0, math.ceil(100 * (share + _SPARE)) / 100)
