"""The asset decorator `lake_asset`, how an asset declares its checks, and checks that several assets share.

A check is named after the property that must hold. It runs inside its asset, where the rows are already loaded, and
its result is written into the manifest: every later run, not only its own, refuses a partition that failed a blocking
check.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
import duckdb

from recsys_assets.datasets.duck import name, one
from recsys_assets.io_managers import Output
from recsys_assets.lake import Lake
from recsys_assets.lineage import Lineage
from recsys_assets.manifest import describe_outdated
from recsys_assets.partitions import bizdate


@dataclass(frozen=True)
class Check:
    """A property that an asset's partition must have; if it is blocking and fails, the gate closes."""

    name: str
    description: str
    blocking: bool = True

    def spec(self, asset: str) -> dg.AssetCheckSpec:
        """The check as Dagster knows it."""
        with warnings.catch_warnings():
            # Without partitions_def a check would cover all partitions; the argument has been in preview since 1.13.
            warnings.simplefilter("ignore", dg.PreviewWarning)
            return dg.AssetCheckSpec(
                self.name,
                asset=asset,
                description=self.description,
                blocking=self.blocking,
                partitions_def=bizdate,
            )


# `report_outdated` fails this check when a day of events that the partition was built from is materialized again.
UP_TO_DATE = Check(
    "up_to_date",
    "nothing that the partition was built from has changed since; `recsys refresh` rebuilds outdated partitions",
    blocking=False,
)
LANDED = frozenset({"interactions", "users", "items"})  # built from landing files, not from other partitions


def lake_asset(
    *, kinds: set[str], checks: Sequence[Check] = (), code_version: str = "1", name: str | None = None, **settings: Any
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """`dg.asset` with the settings that all assets of the lake share: the bizdate, an owner, checks per partition."""

    def declare(function: Callable[..., Any]) -> dg.AssetsDefinition:
        key = name or function.__name__
        declared = [*checks, *([] if key in LANDED else [UP_TO_DATE])]
        made: dg.AssetsDefinition = dg.asset(
            name=key,
            partitions_def=bizdate,
            kinds=kinds,
            owners=["team:recsys"],
            code_version=code_version,
            check_specs=[check.spec(key) for check in declared],
            **settings,
        )(function)
        return made

    return declare


def report_outdated(instance: dg.DagsterInstance, lake: Lake, changed: Iterable[str]) -> None:
    """Fail `up_to_date` for every partition that was built from one of the changed ones (`asset/bizdate`)."""
    names, lineage = sorted(changed), Lineage(lake)
    for made in lineage.dependents(names) if names else []:
        because = describe_outdated(made, lineage.outdated(made))
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=dg.AssetKey(made.asset),
                check_name=UP_TO_DATE.name,
                passed=False,
                metadata={"because": because},
                blocking=False,
                partition=made.bizdate,
            )
        )


def check_no_nulls(output: Output, connection: duckdb.DuckDBPyConnection, rows: str, columns: Sequence[str]) -> None:
    """Result of `no_nulls`: no listed column is null in any of the rows (a relation in SQL)."""
    counts = ", ".join(f"count(*) - count({name(column)})" for column in columns)
    found = one(connection, f"SELECT {counts} FROM {rows}")
    nulls = {column: int(count) for column, count in zip(columns, found, strict=True) if count}
    output.check("no_nulls", not nulls, nulls=nulls)


def check_unique(output: Output, connection: duckdb.DuckDBPyConnection, rows: str, keys: Sequence[str]) -> None:
    """Result of `unique_keys`: no two of the rows have the same key."""
    columns = ", ".join(map(name, keys))
    found = one(connection, f"SELECT count(*), count(DISTINCT ({columns})) FROM {rows}")
    output.check("unique_keys", found[0] == found[1], rows=int(found[0]), keys=int(found[1]))


def check_label_rate(output: Output, connection: duckdb.DuckDBPyConnection, rows: str, day: str, bound: float) -> None:
    """Result of `label_rate_is_steady`: the day's label rate differs from the day before by at most the bound.

    Three standard errors of the difference are added to the bound, so that a day of ten events is not refused.
    """
    found = connection.execute(f"""
        SELECT date_diff('day', timestamp::DATE, DATE '{day}') AS age, count(*), avg(label)
        FROM (SELECT timestamp, label FROM {rows}) WHERE age < 2 GROUP BY age ORDER BY age
    """).fetchall()
    rates = {age: (int(count), float(rate)) for age, count, rate in found}
    if len(rates) < 2:
        output.check("label_rate_is_steady", True, note="there are no events today or on the day before")
        return
    (today_rows, today), (yesterday_rows, yesterday) = rates[0], rates[1]
    pooled = (today * today_rows + yesterday * yesterday_rows) / (today_rows + yesterday_rows)
    allowed = bound + 3 * math.sqrt(pooled * (1 - pooled) * (1 / today_rows + 1 / yesterday_rows))
    passed = abs(today - yesterday) <= allowed
    output.check("label_rate_is_steady", passed, today=today, yesterday=yesterday, allowed_change=allowed)


def check_floor(output: Output, property_name: str, value: float, floor: float) -> None:
    """Result of a check that a value reaches its floor; NaN does not."""
    output.check(property_name, value >= floor, value=float(value), floor=float(floor))
