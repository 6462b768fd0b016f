"""Plants twelve drifts into a generated log and counts which of them the daily report names, and its false alarms.

    python benchmarks/drift.py                       # 1,300 events a day, 30 quiet days, 28 days of history
    python benchmarks/drift.py --history 5           # a bound from 5 days
    python benchmarks/drift.py --seed 2 --quiet 60

The log is that of the profile `sample` with the columns dwell, device, bought and price. Each drift changes the landing
files of one day, which is then ingested and compared as `daily_report` does it. A drift is found if an alarm of that
same day names its column. The last line is the result as JSON.
"""

import argparse
import datetime as dt
import json
import shutil
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from recsys_assets.datasets.duck import connect
from recsys_assets.datasets.ingest import REJECTED, ROWS, ingest_entities, ingest_events, load_known_ids
from recsys_assets.datasets.profile import load_profile
from recsys_assets.datasets.profile_parts import TableName
from recsys_assets.datasets.sample import day_of
from recsys_assets.datasets.world import World
from recsys_assets.reports.day_rows import read_day
from recsys_assets.reports.drift import HISTORY, Drift, Known, measure
from recsys_assets.reports.volumes import Volume, statistics, volume

FIRST = dt.date(2026, 1, 1)
WARM = 40  # days of the world before the first one that lands, so that nothing is new
PROFILE = {
    "name": "planted",
    "first_bizdate": FIRST.isoformat(),
    "tables": {
        "interactions": {
            "user_id": "int64",
            "item_id": "int64",
            "timestamp": "timestamp",
            "bought": "int64",
            "dwell": {"type": "float32", "min": 0},
            "device": "string",
        },
        "users": {"user_id": "int64", "gender": "string", "age": "int64", "occupation": "int64"},
        "items": {"item_id": "int64", "year": "int64", "genres": "strings", "price": "float32"},
    },
    "label": "bought = 1",
    "features": {"categorical": ["user_id", "item_id", "gender", "age", "occupation"], "multi_valued": ["genres"]},
    "split": {"strategy": "by_day", "validation_days": 1, "test_days": 1},
}
ENTITIES: tuple[TableName, ...] = ("users", "items")
Tables = dict[str, pa.Table]


def tables_of(world: World, day: dt.date) -> Tables:
    """The tables of a day of the sample's world, with further columns of the day's own seed."""
    found = dict(day_of(world, FIRST - dt.timedelta(days=WARM), day))
    events, items, users = (found[name] for name in ("interactions", "items", "users"))
    rng = np.random.default_rng([world.seed, day.toordinal(), 99])
    bought = events["rating"].to_numpy() > 3
    columns = {name: events[name] for name in ("user_id", "item_id", "timestamp")}
    columns |= {
        "bought": pa.array(bought.astype(np.int64)),
        "dwell": pa.array(rng.lognormal(3 + 0.5 * bought, 1.0).astype(np.float32)),
        "device": pa.array(
            np.array(["phone", "web", "tablet"])[(rng.random(len(bought)) > [[0.6], [0.9]]).sum(axis=0)]
        ),
    }
    price = 5 + (items["item_id"].to_numpy() * 2_654_435_761 % 997) / 20  # a property of the item
    return {
        "interactions": pa.table(columns),
        "users": users.select(list(PROFILE["tables"]["users"])),  # type: ignore[index]
        "items": items.select(["item_id", "year", "genres"]).append_column("price", pa.array(price, pa.float32())),
    }


def put(table: pa.Table, name: str, values: object) -> pa.Table:
    """The table with other values in a column."""
    return table.set_column(table.column_names.index(name), name, pa.array(values, table[name].type))


def change(table: str, name: str, make: Callable[[np.ndarray], object]) -> Callable[[Tables], Tables]:
    """A drift that changes one column."""
    return lambda day: {**day, table: put(day[table], name, make(day[table][name].to_numpy()))}


def swapped(day: Tables) -> Tables:
    """Ages and occupations are in each other's columns."""
    users = day["users"]
    return {**day, "users": put(put(users, "age", users["occupation"]), "occupation", users["age"])}


def bots(day: Tables) -> Tables:
    """A fifth of all events are one user's."""
    events = day["interactions"]
    users = events["user_id"].to_numpy().copy()
    users[::5] = users[0]
    return {**day, "interactions": put(events, "user_id", users)}


def half(day: Tables) -> Tables:
    """The second half of the day is missing."""
    events = day["interactions"]
    return {**day, "interactions": events.filter(pa.array(events["timestamp"].to_numpy() % 86_400 < 43_200))}


def late_labels(day: Tables) -> Tables:
    """Purchases after noon are not known yet."""
    events = day["interactions"]
    known = events["timestamp"].to_numpy() % 86_400 < 43_200
    return {**day, "interactions": put(events, "bought", events["bought"].to_numpy() * known)}


def renamed(day: Tables) -> Tables:
    """Genres have other names, for the items that land on the day."""
    genres = day["items"]["genres"].to_pylist()
    return {**day, "items": put(day["items"], "genres", [[f"g:{each}" for each in row] for row in genres])}


def twice(day: Tables) -> Tables:
    """A file has landed under two names."""
    events = day["interactions"]
    return {**day, "interactions": pa.concat_tables([events, events])}


EVERY = "interactions"
DRIFTS: dict[str, tuple[Callable[[Tables], Tables], tuple[str, ...]]] = {
    "unit change": (change(EVERY, "dwell", lambda v: v * 1000), ("interactions.dwell",)),
    "constant": (change(EVERY, "device", lambda v: ["web"] * len(v)), ("interactions.device",)),
    "swapped columns": (swapped, ("users.age", "users.occupation")),
    "new category": (
        change(EVERY, "device", lambda v: np.where(np.arange(len(v)) % 10 < 3, "tv", v)),
        ("interactions.device",),
    ),
    "bot traffic": (bots, ("interactions.user_id",)),
    "half a day missing": (half, ("interactions.timestamp",)),
    "duplicated file": (twice, ("interactions: repeats user, item and time",)),
    "time-zone shift": (change(EVERY, "timestamp", lambda v: v - 7 * 3600), ("interactions.timestamp",)),
    "label delay": (late_labels, ("label",)),
    "price scale": (change("items", "price", lambda v: v * 100), ("items.price",)),
    "renamed genres": (renamed, ("items.genres",)),
    "popularity shock": (
        change(EVERY, "item_id", lambda v: np.where(np.arange(len(v)) % 10 < 2, v[0], v)),
        ("interactions.item_id",),
    ),
}


class Log:
    """A log that lands and is ingested day by day in a folder, and days of it with planted drifts."""

    def __init__(self, home: Path, world: World, days: int) -> None:
        path = home / "planted.yaml"
        path.write_text(yaml.safe_dump({**PROFILE, "landing": str(home / "landing")}), encoding="utf-8")
        self.home, self.world, self.profile = home, world, load_profile(str(path))
        self.days = [(FIRST + dt.timedelta(days=n)).isoformat() for n in range(days)]
        for day in self.days:
            self._ingest(day, tables_of(world, dt.date.fromisoformat(day)), home / "lake" / day)
        self.read = lru_cache(maxsize=None)(self._read)

    def compare(self, day: str, history: int, planted: Callable[[Tables], Tables] | None = None) -> Drift:
        """The drift of a day, as it is or with another one planted, against as many days before."""
        place = self.home / "lake" / day
        if planted:
            place = self.home / "planted"
            self._ingest(day, planted(tables_of(self.world, dt.date.fromisoformat(day))), place)
        earlier = self.days[: self.days.index(day)][-history:]
        volumes = {each: self._volume(self.home / "lake" / each) for each in earlier} | {day: self._volume(place)}

        def read(each: str) -> pa.Table:
            return self._rows(place) if each == day else self.read(each)

        return measure(read, day, earlier, Known(), statistics(volumes, day))

    def _ingest(self, day: str, tables: Tables, place: Path) -> None:
        """Land a day's tables alone, as each day has all its users and items, and ingest them into a new folder."""
        shutil.rmtree(self.profile.landing, ignore_errors=True)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for table, rows in tables.items():
            folder = self.profile.landing / table / f"bizdate={day}"
            folder.mkdir(parents=True)
            pq.write_table(rows, folder / "rows.parquet")
        with connect(self.home) as connection:
            load_known_ids(connection, self.profile, day)
            ingest_events(connection, self.profile, day, place)
            for table in ENTITIES:
                (place / table).mkdir()
                ingest_entities(connection, self.profile, table, day, place / table)

    def _read(self, day: str) -> pa.Table:
        return self._rows(self.home / "lake" / day)

    def _rows(self, place: Path) -> pa.Table:
        with connect(self.home) as connection:
            return read_day(connection, self.profile, place / ROWS, {table: place / table / ROWS for table in ENTITIES})

    def _volume(self, place: Path) -> Volume:
        rejected = place / REJECTED
        return volume(pq.read_metadata(place / ROWS).num_rows, rejected if rejected.exists() else None)


def main() -> None:
    """Print which drifts are found, and the alarms of quiet days."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1300, help="a day")
    parser.add_argument("--users", type=int, default=400)
    parser.add_argument("--items", type=int, default=600)
    parser.add_argument("--quiet", type=int, default=30, help="days without a drift")
    parser.add_argument("--history", type=int, default=HISTORY, help="days before, at most")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    sizes = {"users": given.users, "items": given.items, "events": given.events * 30, "days": 30}
    with tempfile.TemporaryDirectory() as folder:
        log = Log(Path(folder), World.of({**sizes, "seed": given.seed}), given.history + given.quiet)
        quiet = {day: log.compare(day, given.history).alarms for day in log.days[given.history :]}
        false = {day: alarms for day, alarms in quiet.items() if alarms}
        for day, alarms in false.items():
            print(f"false alarm on {day}: {', '.join(f'{a.statistic.column} {a.statistic.name}' for a in alarms)}")
        found = {}
        for number, (name, (plant, columns)) in enumerate(DRIFTS.items()):
            day = log.days[given.history + number % given.quiet]
            alarms = log.compare(day, given.history, plant).alarms
            found[name] = any(each.statistic.column in columns for each in alarms)
            said = "; ".join(f"{a.statistic.column} {a.statistic.name} x{a.excess:.1f}" for a in alarms[:4])
            print(f"{name:20} {day} {'found' if found[name] else 'MISSED':7} {said}")
    alarmed = sum(map(len, false.values()))
    print(f"{sum(found.values())} of {len(found)} drifts found; {alarmed} false alarms in {given.quiet} quiet days")
    print(
        json.dumps({"found": sum(found.values()), "of": len(found), "false_alarms": alarmed, "quiet_days": given.quiet})
    )


if __name__ == "__main__":
    main()
