"""How many rows the features know up to a moment, and a checksum of them: whether a state is that of the same rows.

A state is extended only if the rows that it was made from are still the oldest rows of the log. They are not if a day
was corrected or landed late, if a label rule or an item's terms changed, or if the split keeps other rows unseen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from recsys_assets.datasets.duck import only_row, quote
from recsys_assets.engines.engine import Engine


@dataclass(frozen=True)
class Known:
    """The known rows up to a moment.

    Attributes:
        until: the moment, the newest row's, in UTC as DuckDB writes it.
        rows: their number.
        checksum: the sum of the hashes of all that the statement of `sql/history.sql` reads of each row. Other
            versions of DuckDB may have other hashes, and then a state is not extended.
    """

    until: str
    rows: int
    checksum: str


def newest_moment(connection: Engine) -> str:
    """The time of the newest row of the view `new_rows`."""
    return str(only_row(connection, "SELECT max(timestamp)::VARCHAR FROM new_rows")[0])


def count_known(connection: Engine, moments: Sequence[str]) -> list[Known]:
    """The known rows up to each of some moments, in ascending order.

    Args:
        connection: `history_table.offer_rows` has made its view of all rows.
        moments: in ascending order.
    """
    cases = " ".join(
        f"WHEN timestamp > {_moment(each)} THEN {place}" for place, each in reversed(list(enumerate(moments, 1)))
    )
    found = connection.execute(f"""
        SELECT CASE {cases} ELSE 0 END AS place, count(*), sum(hash(new_rows, item_terms)::HUGEINT)
        FROM new_rows LEFT JOIN item_terms USING (item_id) GROUP BY place
    """).fetchall()
    by_place = {place: (rows, checksum) for place, rows, checksum in found}
    steps = accumulate(
        (by_place.get(place, (0, 0)) for place in range(len(moments))), lambda a, b: (a[0] + b[0], a[1] + b[1])
    )
    return [Known(moment, rows, str(checksum)) for moment, (rows, checksum) in zip(moments, steps, strict=True)]


def only_after(moment: str) -> str:
    """SQL for whether a row comes after a moment."""
    return f"timestamp > {_moment(moment)}"


def _moment(text: str) -> str:
    return f"TIMESTAMP {quote(text)}"
