"""A rehearsal of a profile on what has landed: what ingest and split would do, within seconds and outside the lake."""

import tempfile
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from recsys_assets.datasets.duck import connect, only_row, quote_name, scan
from recsys_assets.datasets.ingest import (
    ROWS,
    NotLanded,
    allowed_rejection_rate,
    ingest_entities,
    ingest_events,
    load_known_ids,
)
from recsys_assets.datasets.label_rate import label_rates
from recsys_assets.datasets.landing import landed_bizdates
from recsys_assets.datasets.moments import moment_columns
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import TableName
from recsys_assets.datasets.splits import SplitError, split, split_rows, split_sizes
from recsys_assets.datasets.tables import LandedFileError

_ENOUGH, _DAYS = 300_000, 100  # events, and days, of the newest ones: a day takes about 50 ms
_ENTITIES: tuple[TableName, ...] = ("users", "items")


@dataclass(frozen=True)
class Finding:
    """A thing that the rehearsal found out; a fault would stop the graph, anything else is for information."""

    text: str
    is_fault: bool = False


def rehearse(profile: Profile) -> Iterator[Finding]:
    """Ingest and split the newest days into a temporary folder, and say what would fail when the graph is built."""
    days = landed_bizdates(profile)
    if not days:
        yield Finding(f"nothing has landed under {profile.landing_place}: run `recsys land`, or put files there", True)
        return
    with tempfile.TemporaryDirectory(prefix="recsys_assets-check-") as folder, connect(Path(folder)) as connection:
        try:
            events = yield from _ingest(connection, profile, days, Path(folder))
            yield from _split(connection, profile, events, days[-1])
            yield from _moments(connection, profile)
            for table in _ENTITIES if profile.has_entities else ():
                yield from _look_at(connection, profile, table, days[-1], Path(folder), events)
        except (LandedFileError, NotLanded, SplitError) as error:
            yield Finding(str(error), True)


def _ingest(
    connection: duckdb.DuckDBPyConnection, profile: Profile, days: Sequence[str], folder: Path
) -> Generator[Finding, None, list[Path]]:
    """Ingest the newest days; returns their files, oldest first."""
    load_known_ids(connection, profile, days[-1])
    counts, events, refused = Counter[str](), list[Path](), list[str]()
    for day in reversed(days[-_DAYS:]):
        if counts["rows"] >= _ENOUGH:
            break
        (folder / day).mkdir()
        of_day = Counter(ingest_events(connection, profile, day, folder / day, empty_until=days[-1]))
        rejected, landed = of_day.total() - of_day["rows"], of_day.total()
        if landed and rejected / landed > allowed_rejection_rate(profile.bounds.max_rejected_rate, landed):
            refused.append(day)
        counts += of_day
        if profile.impressions:
            shown = ingest_events(connection, profile, day, folder / day, "impressions", days[-1])
            counts += Counter({f"{reason}, of impressions": each for reason, each in shown.items() if reason != "rows"})
        events.insert(0, folder / day / ROWS)
    yield Finding(f"{counts['rows']:,} events of the newest {len(events):,} of {len(days):,} days were read")
    for reason, count in counts.most_common():
        if reason != "rows":
            yield Finding(f"{count:,} rows would be rejected: {reason}")
    if refused:
        bound = profile.bounds.max_rejected_rate
        what = (
            f"{len(refused)} days, such as {refused[0]}, have more rejected rows than bounds.max_rejected_rate {bound}"
        )
        yield Finding(f"{what} allows: correct the files or the columns, or raise the bound", True)
    return events


def _split(
    connection: duckdb.DuckDBPyConnection, profile: Profile, events: Sequence[Path], bizdate: str
) -> Iterator[Finding]:
    """Split the events, and name parts in which all labels are the same."""
    (split if profile.has_entities else split_rows)(connection, profile, events, bizdate)
    rows = {name.removesuffix("_rows"): f"{int(count):,}" for name, count in split_sizes(connection).items()}
    yield Finding(
        f"{rows['train']} rows would train, {rows['validation']} of them validate, {rows['test']} test, "
        f"{rows['online']} are online; {rows['positives']} of all are positives"
    )
    rates = label_rates(connection, profile, "splits", bizdate)
    if rates and not rates.is_steady:
        yield Finding(
            f"{rates.today:.0%} of the newest day's events are positives, and {rates.yesterday:.0%} of those of the "
            "day before: correct the newest files, or raise bounds.max_label_rate_change",
            True,
        )
    found = connection.execute(
        "SELECT part, min(label) FROM splits WHERE part <> 'online' GROUP BY part HAVING min(label) = max(label)"
    ).fetchall()
    if found and not profile.draws and not profile.impressions:
        parts = ", ".join(f"{part} (all {label})" for part, label in found)
        yield Finding(
            f"labels are all the same in {parts}: models that learn labels are declined, the others are built"
        )
    if profile.draws:
        yield Finding(f"ranking models learn from drawn negatives: {profile.draws.text}")
    if profile.impressions:
        yield Finding(f"ranking models learn from impressions; negatives are {profile.negatives_text}")


def _moments(connection: duckdb.DuckDBPyConnection, profile: Profile) -> Iterator[Finding]:
    """Name features of the moment that are the same in all events."""
    rows = f"(SELECT part{moment_columns(profile, 'splits')} FROM splits)"
    for name in profile.features.moment:
        (different,) = only_row(connection, f"SELECT count(DISTINCT {quote_name(name)}) FROM {rows}")
        if different < 2:
            what = "has no two values, so no model learns from it: leave it out, or check the times and its column"
            yield Finding(f"features.moment: {name} {what}")


def _look_at(
    connection: duckdb.DuckDBPyConnection,
    profile: Profile,
    table: TableName,
    bizdate: str,
    folder: Path,
    events: Sequence[Path],
) -> Iterator[Finding]:
    """Ingest users or items, and name features that say nothing about them."""
    (folder / table).mkdir()
    counts = Counter(ingest_entities(connection, profile, table, bizdate, folder / table, events))
    yield Finding(f"{counts['rows']:,} {table} are known")
    for reason, count in counts.items():
        if reason != "rows":
            yield Finding(f"{count:,} rows of {table} would be rejected: {reason}")
    own = profile.columns_of(table)
    for name in [each for each in profile.features.columns if each in own]:
        column = quote_name(name)
        different, filled = only_row(
            connection, f"SELECT count(DISTINCT {column}), count({column}) FROM {scan([folder / table / ROWS])}"
        )
        if different < 2:
            what = "is empty" if not filled else "has one value only"
            yield Finding(f"features: {name} {what}, so no model learns from it: leave it out, or check its column")
