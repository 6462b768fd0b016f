"""Told events without HTTP: a writer on the database of a profile, the landing of its events, and their ingest."""

import contextlib
import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from recsys_assets.arrays import Ids
from recsys_assets.datasets.duck import connect
from recsys_assets.datasets.ingest import EVENTS_OF_DAYS, ROWS, SHOWN, ingest_events, load_known_ids
from recsys_assets.datasets.profile import Profile
from recsys_assets.serving.events import EventsBody, rows_of
from recsys_assets.serving.told import Told
from recsys_assets.serving.told_database import Database, told_folder
from recsys_assets.serving.told_landing import Landing
from recsys_assets.serving.told_writer import Answer, Call, Writer

Event = dict[str, Any]


@dataclass
class Teller:
    """A way to tell events and to land them; `told` has what was told."""

    profile: Profile
    database: Database
    told: Told

    def __call__(self, *events: Event, impressions: list[Event] | None = None, known: Mapping[str, Ids] = {}) -> Answer:
        body = EventsBody(events=list(events), impressions=impressions or [])
        return self.told.tell(Call(list(rows_of(self.profile, body)), known)).result(60)

    def land(self, now: dt.datetime | None = None) -> list[Path]:
        """Land what is due at a time, by default everything; returns all landing files of told events."""
        Landing(self.profile, self.database).land(now or dt.datetime.now(dt.UTC), everything=now is None)
        return sorted(self.profile.landing.rglob("told-*"))


@contextlib.contextmanager
def telling(profile: Profile) -> Iterator[Teller]:
    """Events of the profile can be told in the block; they land only when they are asked to."""
    database = Database(told_folder(profile.name))
    with Writer(profile, database) as writer:
        yield Teller(profile, database, Told(database, writer))


def ingested(profile: Profile, home: Path, day: str) -> tuple[dict[str, list[Event]], dict[str, dict[str, int]]]:
    """The rows of a day as ingest keeps them, by table, and what it counted."""
    rows, counts = dict[str, list[Event]](), dict[str, dict[str, int]]()
    folder = home / "ingested" / day
    folder.mkdir(parents=True, exist_ok=True)
    with connect(folder) as connection:
        load_known_ids(connection, profile, day)
        for table in (each for each in EVENTS_OF_DAYS if each in profile.tables):
            counts[table] = ingest_events(connection, profile, day, folder, table)
            file = folder / f"{SHOWN if table == 'impressions' else ''}{ROWS}"
            rows[table] = pq.read_table(file).drop_columns("seq").to_pylist()
    return rows, counts
