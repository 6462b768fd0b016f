"""The day's data: volumes and rejected rows; and its rows and bins, for the section on drift."""

import contextlib
import datetime as dt
from collections.abc import Iterator

import pyarrow as pa

from recsys_assets.coldstart.boundaries import read_boundaries
from recsys_assets.datasets.duck import connect
from recsys_assets.datasets.ingest import REJECTED, ROWS
from recsys_assets.datasets.profile_parts import TableName
from recsys_assets.features.schema import FeatureSchema
from recsys_assets.reports.day import Absent, Day
from recsys_assets.reports.day_rows import read_day
from recsys_assets.reports.drift import Known, Read
from recsys_assets.reports.figures import Section
from recsys_assets.reports.page import charts, table, text
from recsys_assets.reports.svg import lines
from recsys_assets.reports.volumes import EVENTS, Volume, volume

ENTITIES: tuple[TableName, ...] = ("users", "items")
SCHEMA_FILE = "schema.json"


def volumes(day: Day) -> Section:
    """Rows of the day's tables, rejected rows by reason, and the course of events over the last days."""
    section = Section("Data")
    for asset in ("interactions", "users", "items"):
        if (made := day.of_day.get(asset)) and made.rows is not None:
            section.add(asset, "rows", made.rows)
    rows = [(each.name, each.value) for each in section.figures]
    found = volume_of(day, day.bizdate)
    section.add(EVENTS, "rejected rows", found.landed - found.rows)
    for reason, count in found.rejected.items():
        section.add(EVENTS, f"rejected: {reason}", count)
    section.html.append(table("Rows", ["", "rows"], rows))
    share = [(reason, count, f"{count / found.landed:.2%}") for reason, count in found.rejected.items()]
    section.html.append(table("Rejected events", ["reason", "rows", "share"], share) or text("No event was rejected."))
    events = {each.bizdate: each.rows for each in day.manifests.values() if each.asset == EVENTS}
    points = [(dt.date.fromisoformat(when).toordinal(), float(count or 0)) for when, count in sorted(events.items())]
    if len(points) > 1:
        section.html.append(charts([lines("Events by day", {EVENTS: points}, None, (min(events), max(events)))]))
    return section


def volume_of(day: Day, bizdate: str) -> Volume:
    """The volume of a day's events."""
    made = day.open(EVENTS, bizdate)
    return volume(made.manifest.rows or 0, made.path(REJECTED) if REJECTED in made.manifest.files else None)


def known_bins(day: Day) -> Known:
    """The bins of columns that are features: their edges and vocabularies, where the day has them."""
    found = feature_bins(day)
    tables: tuple[TableName, ...] = ("users", "items") if day.profile.has_entities else ("interactions",)
    names = {f"{table}.{name}": name for table in tables for name in day.profile.columns_of(table)}
    return Known(
        {column: found.edges[name] for column, name in names.items() if name in found.edges},
        {column: found.vocabularies[name] for column, name in names.items() if name in found.vocabularies},
    )


def feature_bins(day: Day) -> Known:
    """Edges and vocabularies by the name of the feature; none if the day has no schema."""
    try:
        schema = FeatureSchema.read(day.open("feature_schema").path(SCHEMA_FILE))
        edges = read_boundaries(day.open("feature_boundaries").path(ROWS))
    except Absent:
        return Known()
    return Known(edges, {each.name: each.vocabulary for each in schema.sparse})


@contextlib.contextmanager
def reader(day: Day) -> Iterator[Read]:
    """Reads the watched rows of a bizdate; users and items count where they were built for that bizdate."""
    with connect() as connection:

        def read(bizdate: str) -> pa.Table:
            entities = {}
            for name in ENTITIES:
                with contextlib.suppress(Absent):
                    entities[name] = day.open(name, bizdate).path(ROWS)
            return read_day(connection, day.profile, day.open(EVENTS, bizdate).path(ROWS), entities)

        yield read
