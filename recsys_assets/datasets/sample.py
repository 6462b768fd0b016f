"""A generated world as a source of landing files: users with tastes, items that come and go, known probabilities.

Every user and item has hidden traits, drawn from a counter-based generator at the position of its number. Any day can
therefore be generated alone: it depends on the world's settings and its date, never on the range of days that is
generated. Users and items are born at a steady rate and live for a while, so one month is like another. Tastes drift,
and a session mostly stays with one theme (`choices.py`).
"""

import datetime as dt
import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from recsys_assets.arrays import Floats, Ints
from recsys_assets.datasets.choices import Chooser, choices, taste_fit
from recsys_assets.datasets.feed import EPOCH, SECONDS_A_DAY, Feed, LandingError
from recsys_assets.datasets.population import Items, Users, items_on, users_on
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import TableName
from recsys_assets.datasets.themes import themes_of
from recsys_assets.datasets.world import VERSION, World

WORLD_FILE = "world.json"
EVENTS_A_FILE = 2**19  # about 300 MB of memory while they are generated
SESSION = 6.0  # mean events of a session
GAP = 40.0  # mean seconds between events of a session; 1 in 40 is in the same second as the previous one


def feed(
    profile: Profile,
    first: dt.date | None,
    last: dt.date | None,
    today: dt.date | None,
    options: dict[str, int],
) -> Feed:
    """The world of the profile's landing folder, or a new one; from `first` to `last`.

    Raises:
        LandingError: `last` is not over yet, or the options differ from those that the folder was made with.
    """
    yesterday = (today or dt.datetime.now(dt.UTC).date()) - dt.timedelta(days=1)
    last = last or min(yesterday, profile.last_bizdate or yesterday)
    world = _world(profile, options, last)
    if last > yesterday:
        raise LandingError(f"--to {last} is not over yet (UTC): the last complete day is {yesterday}")
    first = first or _first_day(profile, world, last)
    if first > last:
        raise LandingError(f"nothing to land from {first} to {last}: give another --from or --to")
    count = (last - first).days + 1
    return Feed(
        [first + dt.timedelta(days=n) for n in range(count)],
        lambda day: day_of(world, profile.first_bizdate, day),
        notes={WORLD_FILE: _world_text(world, profile)},
    )


def _world_text(world: World, profile: Profile) -> str:
    """The text of `world.json`."""
    return (
        json.dumps({"version": VERSION, **asdict(world), "since": profile.first_bizdate.isoformat()}, indent=1) + "\n"
    )


def _first_day(profile: Profile, world: World, last: dt.date) -> dt.date:
    """The first of the world's number of days up to `last`; earlier if that would leave a gap after the landed days."""
    window = max(profile.first_bizdate, last - dt.timedelta(days=world.days - 1))
    folders = (profile.landing / "interactions").glob("bizdate=*")
    landed = [dt.date.fromisoformat(folder.name.removeprefix("bizdate=")) for folder in folders]
    newest = max((day for day in landed if day <= last), default=window)
    return min(window, newest + dt.timedelta(days=1))


def day_of(world: World, since: dt.date, day: dt.date) -> Iterator[tuple[TableName, pa.Table]]:
    """Tables of one day: the living items, then for each slice of the users, the active ones and their events.

    `since` is the first day of the world; a slice's events are in the order of time.
    """
    items = items_on(world, since, day)
    yield "items", items.table()
    slices = math.ceil(world.events / world.days / EVENTS_A_FILE)
    users = users_on(world, since, day)
    for number, part in enumerate(np.array_split(np.arange(len(users.id)), slices)):
        rng = np.random.default_rng([world.seed, day.toordinal(), number])
        who, events = _events(world, rng, users.take(part), items, (day - EPOCH).days * SECONDS_A_DAY)
        yield "users", users.take(part).take(np.unique(who)).table()
        yield "interactions", events


def _world(profile: Profile, options: dict[str, int], last: dt.date) -> World:
    """The world that the landing folder was made with; options may repeat its settings but not change them."""
    path = profile.landing / WORLD_FILE
    if unknown := sorted(options.keys() - asdict(World()).keys()):
        raise LandingError(f"a sample world has no setting {', '.join(unknown)}")
    if not path.exists():
        return World.of(options)
    try:
        saved: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = saved.pop("version", 1)
        since = saved.pop("since")
        world = World(**saved)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LandingError(f"{path} is damaged ({error}): remove {profile.landing} and land again") from error
    if version != VERSION:
        raise LandingError(
            f"{path} is of version {version} of the generator; this is version {VERSION}, which makes other rows: use "
            f"another landing folder (RECSYS_LANDING), or remove {profile.landing} and land again"
        )
    wanted = {**options, "since": profile.first_bizdate.isoformat()}
    for name, value in wanted.items():
        if value != (present := {**asdict(world), "since": since}[name]):
            first = last - dt.timedelta(days=options.get("days", 1) - 1)
            part = f"run `recsys land {profile.name} --from {first} --to {last}` for a part of it, " * (name == "days")
            raise LandingError(
                f"{profile.landing} holds a world with {name} {present}, not {value}: {part}use another landing folder "
                f"(RECSYS_LANDING), or remove this one and land again"
            )
    return world


def _events(world: World, rng: np.random.Generator, users: Users, items: Items, midnight: int) -> tuple[Ints, pa.Table]:
    """Events of some users on a day: the index in `users` of each event's user, and the rows."""
    who, session, time = _sessions(world, rng, users)
    what, kept = choices(Chooser.of(rng, users, items, themes_of(world)), who, session)
    order = np.argsort(time, kind="stable")
    order = order[kept[order]]
    who, what, time = who[order], what[order], time[order]
    chance = _chance(users, items, who, what)
    return who, pa.table(
        {
            "user_id": users.id[who],
            "item_id": items.id[what],
            "rating": _ratings(rng, chance),
            "timestamp": midnight + time,
            "true_probability": chance,
        }
    )


def _sessions(world: World, rng: np.random.Generator, users: Users) -> tuple[Ints, Ints, Ints]:
    """The user's index, the session's and the second of the day of each event, ordered by user, session and time."""
    sessions = rng.poisson(users.activity * world.events_a_user_day / SESSION)
    lengths = rng.geometric(1 / SESSION, sessions.sum())
    start = SECONDS_A_DAY * rng.beta(2.5, 1.7, len(lengths))  # mostly in the evening
    gap = np.floor(rng.exponential(GAP, lengths.sum()))
    before = np.repeat(np.cumsum(lengths) - lengths, lengths)
    passed = np.concatenate([[0], np.cumsum(gap)])
    second = np.repeat(start, lengths) + passed[:-1] - passed[before]
    session = np.repeat(np.arange(len(lengths)), lengths)
    who = np.repeat(np.arange(len(users.id)), sessions)[session]
    return who, session, np.minimum(second, SECONDS_A_DAY - 1).astype(np.int64)


def _chance(users: Users, items: Items, who: Ints, what: Ints) -> Floats:
    """True probability that the rating is above 3."""
    logit = users.bias[who] + items.quality[what] + taste_fit(users, items, who, what)
    chance: Floats = 1 / (1 + np.exp(-logit))
    return chance


def _ratings(rng: np.random.Generator, chance: Floats) -> Floats:
    """4 or 5 with the given chance, else 1 to 3."""
    liked, degree = rng.random((2, len(chance)))
    high = 4 + (degree < 0.6 * chance)
    low = 3 - (degree < 0.4) - (degree < 0.13)
    ratings: Floats = np.where(liked < chance, high, low).astype(np.float32)
    return ratings
