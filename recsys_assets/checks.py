"""Checks of rows that several assets share.

A check is named after the property that must hold. It runs inside its asset, where the rows are already loaded, and
its result is written into the manifest: every later run, not only its own, refuses a partition that failed a blocking
check. An asset declares its checks with `Check`, in `assets/lake_asset.py`.
"""

from collections.abc import Sequence
from dataclasses import asdict

from recsys_assets.datasets.duck import only_row, quote_name
from recsys_assets.datasets.label_rate import label_rates
from recsys_assets.datasets.profile import Profile
from recsys_assets.engines.engine import Engine
from recsys_assets.io_managers import Output


def check_no_nulls(output: Output, connection: Engine, rows: str, columns: Sequence[str]) -> None:
    """Result of `no_nulls`: no listed column is null in any of the rows (a relation in SQL)."""
    counts = ", ".join(f"count(*) - count({quote_name(column)})" for column in columns)
    found = only_row(connection, f"SELECT {counts} FROM {rows}")
    nulls = {column: int(count) for column, count in zip(columns, found, strict=True) if count}
    output.check("no_nulls", not nulls, nulls=nulls)


def check_unique(output: Output, connection: Engine, rows: str, keys: Sequence[str]) -> None:
    """Result of `unique_keys`: no two of the rows have the same key."""
    columns = ", ".join(map(quote_name, keys))
    found = only_row(connection, f"SELECT count(*), count(DISTINCT ({columns})) FROM {rows}")
    output.check("unique_keys", found[0] == found[1], rows=int(found[0]), keys=int(found[1]))


def check_label_rate(output: Output, connection: Engine, profile: Profile, rows: str, day: str) -> None:
    """Result of `label_rate_is_steady`: the day's label rate is near that of the day before."""
    found = label_rates(connection, profile, rows, day)
    if found is None:
        output.check("label_rate_is_steady", True, note="there are no events today or on the day before")
    else:
        output.check("label_rate_is_steady", found.is_steady, **asdict(found))


def check_floor(output: Output, property_name: str, value: float, floor: float) -> None:
    """Result of a check that a value reaches its floor; NaN does not.

    The check must not be a blocking one: what needs a partition below its floor is declined, and the run goes on.
    """
    passed = value >= floor
    output.check(property_name, passed, value=float(value), floor=float(floor))
    if not passed:
        said = f"{value:.4f} is below {floor:g}, the bound in the profile"
        output.manifest.below_floor = f"{output.manifest.asset} failed {property_name}: {said}"
