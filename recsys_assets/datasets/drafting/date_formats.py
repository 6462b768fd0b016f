"""The form of times in a text column that are not written as the standard says, such as 31/12/2025 18:05."""

import duckdb

from recsys_assets.datasets.duck import only_row, quote, quote_name

MOST = 0.95  # share of values that say what a column holds: the others are faults, of which few logs have none
_DATES = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%d %b %Y")
_TIMES = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p", "T%H:%M:%S")
_LOOKED_AT = 100  # values by which forms are ruled out before all are read


def find_date_format(connection: duckdb.DuckDBPyConnection, sample: str, column: str) -> str | None:
    """The form in which most values of a column are times; None if there is none, or the standard's own reads them.

    If day and month may be either way round, it is the form that reads more values, then by which times are closer
    together.
    """
    value = f"SELECT trim({quote_name(column)}) AS value FROM {sample} WHERE trim({quote_name(column)}) <> ''"
    first = f"{value} LIMIT {_LOOKED_AT}"
    (plain,) = only_row(connection, f"SELECT bool_or(try_cast(value AS TIMESTAMP) IS NOT NULL) FROM ({first})")
    if plain is not False:
        return None
    forms = [date + time for date in _DATES for time in _TIMES if _share(connection, first, date + time) >= MOST]
    shares = {form: _share(connection, value, form) for form in forms}
    fits = [form for form in forms if shares[form] >= MOST]
    return min(fits, key=lambda form: (-shares[form], _span(connection, value, form)), default=None)


def _share(connection: duckdb.DuckDBPyConnection, values: str, form: str) -> float:
    """The share of values that have this form."""
    read = f"avg((try_strptime(value, {quote(form)}) IS NOT NULL)::INT)"
    (share,) = only_row(connection, f"SELECT coalesce({read}, 0) FROM ({values})")
    return float(share)


def _span(connection: duckdb.DuckDBPyConnection, values: str, form: str) -> float:
    """The seconds from the first to the last time."""
    time = f"epoch(try_strptime(value, {quote(form)}))"
    (seconds,) = only_row(connection, f"SELECT max({time}) - min({time}) FROM ({values})")
    return float(seconds)
