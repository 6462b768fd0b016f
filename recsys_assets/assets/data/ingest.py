"""Ingest: the landed tables, validated. Rejected rows are kept in a file of their own, with the reasons.

`interactions[D]` holds the events of day D; `users[D]` and `items[D]` the tables as of the end of D.
"""

from collections.abc import Mapping, Sequence

import dagster as dg
import duckdb

from recsys_assets.assets.data.empty_days import EmptyDays
from recsys_assets.assets.lake_asset import Check, lake_asset, report_outdated
from recsys_assets.assets.ranges import BY_MONTH, report_days, result_of, text_of
from recsys_assets.assets.reports import show
from recsys_assets.checks import check_no_nulls, check_unique
from recsys_assets.datasets.duck import connect, scan
from recsys_assets.datasets.files import Files
from recsys_assets.datasets.ingest import (
    ROWS,
    NotLanded,
    allowed_rejection_rate,
    ingest_entities,
    ingest_events,
    landed_content,
    load_known_ids,
    unread_files,
)
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import TableName
from recsys_assets.datasets.tables import LandedFileError
from recsys_assets.io_managers import Output, write_partition
from recsys_assets.lake import Lake
from recsys_assets.manifest import Partition, PartitionDamaged, PartitionMissing
from recsys_assets.resources import Dataset, LakeStore

NO_NULLS = Check("no_nulls", "no key column is null")
UNIQUE_KEYS = Check("unique_keys", "no two rows have the same key")
LANDED_CHECKS = (
    Check(
        "rejected_rows_are_few",
        "rejected rows are at most bounds.max_rejected_rate of what landed, plus three standard errors",
    ),
    Check("all_files_are_read", "nothing that landed was left out"),
)


@lake_asset(
    backfill_policy=dg.BackfillPolicy.single_run(),
    kinds={"duckdb", "parquet"},
    checks=[
        NO_NULLS,
        Check(
            "unique_keys",
            "no two rows have the same user, item, time and kind, or, without users, the same day and place",
        ),
        *LANDED_CHECKS,
    ],
)
def interactions(context: dg.AssetExecutionContext, lake: LakeStore, dataset: Dataset) -> dg.MaterializeResult:
    """Events of one day: who touched what, when, in the order of the landing files (`seq`).

    Rows with missing or unknown ids, values out of bounds or a time outside the day, rows that repeat user, item and
    time, and lines that are not rows go to `rejected.parquet` with the reason. A range of days is ingested in one run.
    If the profile has impressions, those of the day are in `shown_data.parquet`.
    """
    profile, days = dataset.load(), list(context.partition_keys)
    failed: dict[str, Exception] = {}
    done: dict[str, Output] = {}
    before, empty = lake.lake.fingerprints("interactions", days), EmptyDays.of(profile)
    with connect() as connection:
        load_known_ids(connection, profile, days[-1])
        for number, day in enumerate(days, start=1):
            try:
                done[day] = _ingest_day(context, connection, lake, profile, day, empty)
            except (LandedFileError, NotLanded) as error:
                failed[day] = error
            if number % 100 == 0:
                context.log.info(f"{number} of {len(days)} days ingested, up to {day}")
    made = {output.manifest.name: output.manifest.fingerprint for output in done.values()}
    report_outdated(context, lake.lake, [name for name in made if made[name] != before.get(name)])
    if failed:
        report_days(context, done)
        raise next(iter(failed.values())) if len(days) == 1 else LandedFileError(text_of(failed, len(days)))
    return result_of(context, done)


@lake_asset(
    backfill_policy=BY_MONTH,
    kinds={"duckdb", "parquet"},
    checks=[NO_NULLS, UNIQUE_KEYS, *LANDED_CHECKS],
)
def users(output: Output, dataset: Dataset) -> None:
    """Every user known by the end of the bizdate, the newest row of each, ordered by `user_id`."""
    write_entities(output, dataset.load(), "users")


@lake_asset(
    backfill_policy=BY_MONTH,
    kinds={"duckdb", "parquet"},
    checks=[NO_NULLS, UNIQUE_KEYS, *LANDED_CHECKS],
    code_version="2",
)
def items(output: Output, dataset: Dataset) -> None:
    """Every item known by the end of the bizdate, the newest row of each, ordered by `item_id`."""
    write_entities(output, dataset.load(), "items")


def _ingest_day(
    context: dg.AssetExecutionContext,
    connection: duckdb.DuckDBPyConnection,
    lake: LakeStore,
    profile: Profile,
    day: str,
    empty: EmptyDays,
) -> Output:
    with write_partition(context, lake, bizdate=day) as output:
        output.manifest.config = _deciding_settings(profile, "interactions", day)
        if empty.fill(output):
            return output
        tables: tuple[TableName, ...] = ("interactions", "impressions") if profile.impressions else ("interactions",)
        folder = output.draft.folder
        counts = [ingest_events(connection, profile, day, folder, table, empty.until) for table in tables]
        _describe(output, connection, profile, "interactions", *counts)
        empty.keep(output)
    return output


def write_entities(output: Output, profile: Profile, table: TableName, events: Sequence[Partition] = ()) -> None:
    """Write users or items, with the figures and checks of ingested tables; `events` as in `ingest_entities`."""
    day = output.manifest.bizdate
    output.manifest.config = _deciding_settings(profile, table, day)
    with connect() as connection:
        log = [partition.path(ROWS) for partition in events]
        counts = ingest_entities(connection, profile, table, day, output.draft.folder, log)
        _describe(output, connection, profile, table, counts)
        output.metadata["preview"] = show.preview(connection, f"FROM {scan([output.path(ROWS)])}")


def _describe(
    output: Output,
    connection: duckdb.DuckDBPyConnection,
    profile: Profile,
    table: TableName,
    counts: dict[str, int],
    impressions: dict[str, int] | None = None,
) -> None:
    """Checks and figures of an ingested table, and of the impressions that were ingested with it."""
    unread = unread_files(profile, table, output.manifest.bizdate)
    if impressions:
        unread |= unread_files(profile, "impressions", output.manifest.bizdate)
        output.manifest.metrics["impressions"] = float(impressions["rows"])
    _check_files(output, unread)
    rows, keys = scan([output.path(ROWS)]), profile.keys(table)
    rejected = sum(counts.values()) - counts["rows"]
    output.manifest.rows = counts["rows"]
    output.manifest.metrics["rejected_rows"] = float(rejected)
    check_no_nulls(output, connection, rows, keys)
    check_unique(output, connection, rows, keys)
    _check_rejected(output, profile.bounds.max_rejected_rate, {"rejected": counts, "rejected impressions": impressions})


def _check_rejected(output: Output, bound: float, tables: Mapping[str, dict[str, int] | None]) -> None:
    """Record the check `rejected_rows_are_few`, which each table must pass, and show the rejected rows."""
    found: dict[str, float] = {}
    few = True
    for title, counts in tables.items():
        if not counts:
            continue
        rejected, landed = sum(counts.values()) - counts["rows"], max(1, sum(counts.values()))
        allowed, rate = allowed_rejection_rate(bound, landed), rejected / landed
        few &= rate <= allowed
        found = found or {"rejected": rejected, "rate": rate, "allowed": allowed}
        if reasons := [(reason, count) for reason, count in counts.items() if reason != "rows"]:
            output.metadata[title] = show.table(["reason", "rows"], reasons)
    output.check("rejected_rows_are_few", few, **found)


def _check_files(output: Output, unread: dict[str, str]) -> None:
    """Record the check `all_files_are_read`; files left out are counted, and shown with the reasons."""
    output.manifest.metrics["files_left_out"] = float(len(unread))
    some = dict(list(unread.items())[:100])
    output.check("all_files_are_read", not unread, files=len(unread), left_out=some)
    if unread:
        output.metadata["left out"] = show.table(["file", "why"], list(some.items()))


def _deciding_settings(profile: Profile, table: TableName, day: str) -> dict[str, object]:
    """The profile's settings and the landed files that decide the content of an ingested table.

    Call it before the files are read, so that a change in the meantime shows as a change.
    """
    columns = {name: column.deciding_settings() for name, column in profile.tables.get(table, {}).items()}
    columns |= {name: column.deciding_settings() for name, column in profile.carried(table).items()}
    rule: dict[str, object] = {"label": profile.label} if table == "interactions" else {}
    if table == "interactions" and profile.events:
        rule["events"] = profile.events.model_dump()
    if table == "interactions" and profile.split.parts:
        rule["parts"] = profile.split.parts
    if table == "interactions" and profile.impressions:
        columns_shown = profile.tables["impressions"]
        rule["impressions"] = {name: column.deciding_settings() for name, column in columns_shown.items()}
    if profile.session:
        rule["session"] = profile.session.column
    if profile.files != Files():
        rule["files"] = profile.files.of(table).model_dump(exclude_defaults=True)
    if profile.unknown_ids == "keep":
        rule["unknown_ids"] = "keep"
    return {"columns": columns, **rule, "landed": landed_content(profile, table, day)}


def has_new_files(profile: Profile, lake: Lake, table: TableName, bizdate: str) -> bool:
    """Whether an ingested table is missing or damaged, or was built from other landing files than there are now."""
    try:
        made_from = lake.manifest(table, bizdate).config.get("landed")
    except (PartitionMissing, PartitionDamaged):
        return True
    return bool(made_from != landed_content(profile, table, bizdate))
