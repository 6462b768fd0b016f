"""Check that labelled rows have both classes: rows of one class can neither train, choose nor evaluate a ranker."""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.datasets.row_files import RowSource, read_columns
from recsys_assets.declined import CannotBeBuilt

LISTED = 5  # a message names up to this many days one by one


class OneClass(CannotBeBuilt):
    """A part whose rows all have the same label; the message names the part and its days."""


def require_both_classes(parts: Mapping[str, RowSource]) -> None:
    """Check that every part has both classes.

    Args:
        parts: rows with `label` and, if their rows have a time, `timestamp`.

    Raises:
        OneClass: at least one part has rows of one class only.
    """
    found = {part: one_class(source) for part, source in parts.items()}
    if faults := [f"the {part} part has one class only: {said}" for part, said in found.items() if said]:
        raise OneClass(
            f"{'; '.join(faults)}. A model that learns labels needs positives and negatives in each part: land days "
            "that have both, or change `label` or `split` in the profile"
        )


def one_class(source: RowSource) -> str:
    """A text on the label that all rows share; empty if their labels differ or there are no rows."""
    rows = read_columns(source, ("label", "timestamp"))
    labels = pc.unique(rows["label"]).to_pylist()
    if len(labels) != 1:
        return ""
    return f"all {rows.num_rows:,} rows{_days(rows)} have label {labels[0]}"


def _days(rows: pa.Table) -> str:
    """A text on the days of rows that have a time: all days if they are few, else the first and the last."""
    if "timestamp" not in rows.column_names or not pa.types.is_timestamp(rows["timestamp"].type):
        return ""
    days = sorted(map(str, pc.unique(rows["timestamp"].cast(pa.date32(), safe=False)).to_pylist()))
    if len(days) <= LISTED:
        return f", of {', '.join(days)},"
    return f", of {len(days)} days from {days[0]} to {days[-1]},"
