"""The form of times in a text column that are not written as the standard says, such as 31/12/2025 18:05."""

import duckdb

from recsys_assets.datasets.duck import only_row, quote, quote_name

_DATES = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%d %b %Y")
_TIMES = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p", "T%H:%M:%S")
_LOOKED_AT = 100  # values by which forms are ruled out before all are read


def find_date_format(connection: duckdb.DuckDBPyConnection, sample: str, column: str) -> str | None:
    """The form in which every value of a column is a time; None if there is none, or the standard's own reads them.

    If day and month may be either way round, it is the form by which the times are closer together.
    """
    value = f"SELECT trim({quote_name(column)}) AS value FROM {sample} WHERE trim({quote_name(column)}) <> ''"
    first = f"{value} LIMIT {_LOOKED_AT}"
    (plain,) = only_row(connection, f"SELECT bool_or(try_cast(value AS TIMESTAMP) IS NOT NULL) FROM ({first})")
    if plain is not False:
        return None
    forms = [date + time for date in _DATES for time in _TIMES if _fits(connection, first, date + time)]
    spans = {form: _span(connection, value, form) for form in forms if _fits(connection, value, form)}
    return min(spans, key=lambda form: spans[form], default=None)


def _fits(connection: duckdb.DuckDBPyConnection, values: str, form: str) -> bool:
    """Whether all values have this form."""
    (fits,) = only_row(connection, f"SELECT bool_and(try_strptime(value, {quote(form)}) IS NOT NULL) FROM ({values})")
    return bool(fits)


def _span(connection: duckdb.DuckDBPyConnection, values: str, form: str) -> float:
    """The seconds from the first to the last time."""
    time = f"epoch(strptime(value, {quote(form)}))"
    (seconds,) = only_row(connection, f"SELECT max({time}) - min({time}) FROM ({values})")
    return float(seconds)
