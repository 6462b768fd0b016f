"""Samples: the split of events into train, validation, test and online, and the rows that ranking models learn from."""

import datetime as dt
import math
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from recsys_assets.assets.data.sample_files import BOTH_CLASSES, Wanted, rows_and_positives, write_samples
from recsys_assets.assets.lake_asset import Check, lake_asset
from recsys_assets.assets.ranges import BY_MONTH
from recsys_assets.assets.reports import show
from recsys_assets.checks import check_label_rate, check_no_nulls, check_unique
from recsys_assets.datasets.duck import connect, only_row, quote, scan, write_parquet
from recsys_assets.datasets.impressions import label_impressions
from recsys_assets.datasets.ingest import ROWS, SHOWN
from recsys_assets.datasets.names import ANONYMOUS, DRAW_LOG_RATE, DRAWN, FEATURES_VERSION, KIND, RECALL_LABEL, WEIGHT
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import Negatives
from recsys_assets.datasets.splits import PARTS, split, split_sizes
from recsys_assets.engines.chosen import open_engine
from recsys_assets.engines.engine import Engine
from recsys_assets.features.history import sample_query, touch_query
from recsys_assets.io_managers import Output
from recsys_assets.manifest import Partition
from recsys_assets.resources import Dataset, LakeStore

SESSIONS = "anonymous.parquet"  # of splits: the rows without a user, in a profile with sessions
IMPRESSIONS = "impressions.parquet"  # of splits: what was shown, with labels and parts, in a profile with impressions


@lake_asset(
    backfill_policy=BY_MONTH,
    # It reads earlier days too; with a partition mapping for that, a backfill of one day would run all later days.
    deps=["interactions"],
    kinds={"duckdb", "parquet"},
    checks=[
        Check("no_nulls", "no key, label or part is null"),
        Check("unique_keys", "no event is in two parts"),
        Check("parts_in_order", "in each user's history, no part begins before the previous one ends"),
        Check("label_rate_is_steady", "the day's label rate is within bounds of the day before"),
    ],
)
def splits(output: Output, lake: LakeStore, dataset: Dataset) -> None:
    """Every event up to the bizdate with its label and its part: train, validation, test or online.

    The rule is the profile's `split`. The validation part is the tail of train and is used for every choice;
    `train_rows` includes it. Rows of anonymous sessions, where the profile has them, are in a file of their own,
    and so are impressions, labelled by the events that answered them.
    """
    profile, day = dataset.load(), output.manifest.bizdate
    events = lake.history("interactions", day)
    output.add_inputs(events)
    output.manifest.config = {"split": profile.split.model_dump(), "label": profile.label}
    if profile.events:
        output.manifest.config["events"] = profile.events.model_dump()
    if profile.session:
        output.manifest.config["session"] = profile.session.model_dump()
    if profile.impressions:
        output.manifest.config["impressions"] = profile.impressions.model_dump()
    with open_engine() as connection:
        split(connection, profile, [partition.path(ROWS) for partition in events], day)
        keys = ["user_id", "item_id", "timestamp", *([KIND] if profile.events else [])]
        write_splits(output, connection, profile, "SELECT * FROM splits ORDER BY user_id, position", keys)
        if profile.session:
            rows = write_parquet(
                connection, "SELECT * FROM anonymous ORDER BY user_id, position", output.path(SESSIONS)
            )
            output.manifest.metrics["anonymous_rows"] = float(rows)
        if rule := profile.impressions:
            touched, shown = ([each.path(file) for each in events] for file in (ROWS, f"{SHOWN}{ROWS}"))
            label_impressions(connection, profile, rule, touched, shown, day)
            rows = write_parquet(
                connection, "FROM shown ORDER BY user_id, timestamp, item_id", output.path(IMPRESSIONS)
            )
            positives = rows_and_positives(connection, "shown")[1]
            output.manifest.metrics |= {"impressions": float(rows), "answered_impressions": float(positives)}
        check_unique(output, connection, "splits", keys)
        late = _parts_out_of_order(connection)
        output.check("parts_in_order", late == 0, users=late)


@lake_asset(
    kinds={"duckdb", "parquet"},
    checks=[
        Check("no_nulls", "no key or label is null"),
        Check("rows_match_splits", "each part has the rows and positives of `splits`"),
        Check("features_know_only_the_past", "counted again, no row's features use that row or a later one"),
        BOTH_CLASSES,
    ],
    code_version=FEATURES_VERSION,
)
def rank_samples(
    output: Output,
    lake: LakeStore,
    dataset: Dataset,
    splits: Partition,
    users: Partition,
    items: Partition,
    factors: Partition,
    event_features: Partition,
) -> None:
    """Rows for ranking models with the features as they were just before each event, one file per part.

    Online rows are left out. Values are raw; `feature_schema` says how a model reads them. Drawn negatives, if the
    profile has any, are marked in `drawn`; events of items that could not have been drawn at their moment are left out.
    """
    profile = dataset.load()
    events, user_rows, item_rows, pairs = (each.path(ROWS) for each in (splits, users, items, factors))
    output.manifest.config = draws_config(profile, profile.draws)
    rankable = _drawable(events, pairs) if profile.draws else f"{scan([events])} WHERE part <> 'online'"
    if profile.impressions:
        rankable = ranked_impressions(splits.path(IMPRESSIONS), user_rows, item_rows)
    query = partial(sample_query, profile, user_rows, item_rows, pairs)
    wanted = Wanted(profile, events, query, profile.event_keys, rankable)
    write_samples(output, lake, wanted, event_features)
    output.metadata["negatives"] = profile.negatives_text


@lake_asset(
    kinds={"duckdb", "parquet"},
    checks=[
        Check("no_nulls", "no key or label is null"),
        Check("rows_match_splits", "each part has the events of `splits` that could have been drawn"),
        Check("features_know_only_the_past", "counted again, no row's features use that row or a later one"),
        BOTH_CLASSES,
    ],
    code_version=FEATURES_VERSION,
)
def touch_samples(
    output: Output,
    lake: LakeStore,
    dataset: Dataset,
    splits: Partition,
    users: Partition,
    items: Partition,
    factors: Partition,
    event_features: Partition,
) -> None:
    """Rows that tell what a user touches from what they do not: events, and an item drawn for each of them.

    They have the features of `rank_samples`, and are in the same files. The label of an event is 1, whatever its own
    is; that of a drawn item is 0. Events of items that could not have been drawn at their moment are left out.
    """
    profile = dataset.load()
    events, user_rows, item_rows, pairs = (each.path(ROWS) for each in (splits, users, items, factors))
    output.manifest.config = draws_config(profile, profile.touch)
    query = partial(touch_query, profile, user_rows, item_rows, pairs)
    touched = f"(SELECT * REPLACE (1 AS label) FROM {_drawable(events, pairs)})"
    wanted = Wanted(profile, events, query, profile.pair_keys, touched)
    write_samples(output, lake, wanted, event_features)


@lake_asset(
    backfill_policy=BY_MONTH,
    kinds={"duckdb", "parquet"},
    checks=[
        Check("no_nulls", "no key, label or part is null"),
        Check("rows_match_splits", "each part has the rows and positives of `splits`"),
    ],
)
def recall_samples(output: Output, dataset: Dataset, splits: Partition) -> None:
    """Events for recall methods, ordered by user and time: the history of a row is the user's rows before it.

    Negatives stay, because everything that was touched is history. Methods learn from the train rows, choose on the
    validation rows and are judged on the positives of the test rows. Online rows are left out. Anonymous sessions are
    marked: methods learn from them, and nobody is asked about them.
    """
    profile = dataset.load()
    output.manifest.config = {"recall": profile.recall.model_dump()}
    with open_engine() as db:
        events, mark = scan([splits.path(ROWS)]), ""
        if profile.session:
            both = " UNION ALL ".join(
                f"SELECT *, {file == SESSIONS} AS {ANONYMOUS} FROM {scan([splits.path(file)])}"
                for file in (ROWS, SESSIONS)
            )
            events, mark = f"({both})", f", {ANONYMOUS}"
        if profile.events:
            events = f"(SELECT * REPLACE ({RECALL_LABEL} AS label) FROM {events})"
        rows, weight = f"{events} WHERE part <> 'online'", f", {WEIGHT}" if profile.events else ""
        query = f"SELECT user_id, item_id, timestamp, label, part{weight}{mark} FROM {rows} ORDER BY user_id, position"
        output.manifest.rows = write_parquet(db, query, output.path(ROWS))
        written = scan([output.path(ROWS)])
        counts = db.execute(f"SELECT part, count(*), sum(label) FROM {written} GROUP BY part ORDER BY part").fetchall()
        output.manifest.metrics = {f"{part}_positives": float(positives) for part, _, positives in counts}
        output.manifest.metrics |= {f"{part}_rows": float(count) for part, count, _ in counts}
        check_no_nulls(output, db, written, ["user_id", "item_id", "timestamp", "label", "part"])
        expected, found = rows_and_positives(db, rows), rows_and_positives(db, written)
        output.check("rows_match_splits", found == expected, expected=list(expected), found=list(found))
    with connect() as duckdb:
        output.metadata["preview"] = show.preview(duckdb, f"FROM {written}", 5)


def draws_config(profile: Profile, rule: Negatives | None) -> dict[str, object]:
    """The rule of drawn negatives, or of impressions, for the config of an asset with such rows; empty without them."""
    if profile.impressions:
        return {"impressions": profile.impressions.model_dump()}
    return {"negatives": rule.model_dump()} if rule else {}


def ranked_impressions(shown: Path, users: Path, items: Path) -> str:
    """SQL for the impressions of a `splits` partition that are ranked rows: those of known users and items."""
    known = "".join(
        f" AND {side}_id IN (SELECT {side}_id FROM {scan([each])})" for side, each in (("user", users), ("item", items))
    )
    return f"{scan([shown])} WHERE part <> 'online'{known}"


def _drawable(events: Path, pairs: Path) -> str:
    """The offline events of a `splits` file whose item could have been drawn at their moment."""
    unknown = f"FROM {scan([pairs])} WHERE NOT {DRAWN} AND isfinite({DRAW_LOG_RATE}) IS NOT TRUE"
    return f"{scan([events])} ANTI JOIN ({unknown}) USING (user_id, timestamp, seq) WHERE part <> 'online'"


def write_splits(output: Output, connection: Engine, profile: Profile, query: str, keys: list[str]) -> None:
    """Write the rows of a query over the table `splits`, with the figures, checks and plot that such assets share."""
    output.manifest.rows = write_parquet(connection, query, output.path(ROWS))
    output.manifest.metrics = split_sizes(connection)
    check_no_nulls(output, connection, "splits", [*keys, "label", "part"])
    check_label_rate(output, connection, profile, "splits", output.manifest.bizdate)
    output.metadata["events by day"] = _events_by_day(connection, profile.files.day_sql())


def _parts_out_of_order(connection: Engine) -> int:
    """Number of users with a row in an earlier part than the row before it."""
    places = " ".join(f"WHEN {quote(part)} THEN {place}" for place, part in enumerate(PARTS))
    query = f"""
        SELECT count(DISTINCT user_id) FROM (
            SELECT user_id, place, lag(place) OVER (PARTITION BY user_id ORDER BY timestamp, seq) AS before
            FROM (SELECT user_id, timestamp, seq, CASE part {places} END AS place FROM splits)
        ) WHERE place < before
    """
    return int(only_row(connection, query)[0])


def _events_by_day(connection: Engine, day: str) -> dg.MarkdownMetadataValue:
    """Events per day (SQL), stacked by part; at most 120 bars, so that several years stay readable."""
    dates = f"SELECT part, date, count(*) FROM (SELECT part, {day} AS date FROM splits) GROUP BY part, date"
    bars = _at_most(120, connection.execute(f"{dates} ORDER BY date").fetchall())
    days = sorted({day for _, day in bars})
    figure, plot = show.axes("events by part", "day", "events")
    floor = dict.fromkeys(days, 0)
    width = min(((b - a).days for a, b in zip(days, days[1:], strict=False)), default=1)
    for part in [part for part in PARTS if part in {part for part, _ in bars}]:
        counts = {day: count for (of, day), count in bars.items() if of == part}
        plot.bar(list(counts), list(counts.values()), bottom=[floor[day] for day in counts], label=part, width=width)
        floor |= {day: floor[day] + count for day, count in counts.items()}
    figure.autofmt_xdate()
    figure.legend(loc="outside upper right", ncols=len(PARTS))
    return show.picture(figure)


def _at_most(bars: int, found: Sequence[tuple[str, dt.date, int]]) -> Counter[tuple[str, Any]]:
    """Events by part and by the first of so many days that there are few enough bars; `found` has each day's."""
    first, last = found[0][1], found[-1][1]
    width = math.ceil(((last - first).days + 1) / bars)
    counts = Counter[tuple[str, Any]]()  # matplotlib's types know no dates
    for part, date, count in found:
        counts[part, date - dt.timedelta((date - first).days % width)] += count
    return counts
