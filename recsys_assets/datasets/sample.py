"""A generated world as a source of landing files: users with tastes, items that come and go, known probabilities.

Every user and item has hidden traits, drawn from a counter-based generator at the position of its number. Any day can
therefore be generated alone: it depends on the world's settings and its date, never on the range of days that is
generated. Users and items are born at a steady rate and live for a while, so one month is like another.
"""

import datetime as dt
import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from recsys_assets.arrays import Bools, Floats, Ints
from recsys_assets.datasets.feed import EPOCH, SECONDS_A_DAY, Feed, LandingError
from recsys_assets.datasets.population import Items, Users, items_on, users_on
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import TableName
from recsys_assets.datasets.world import World

WORLD_FILE = "world.json"
EVENTS_A_FILE = 2**19  # about 300 MB of memory while they are generated
SESSION = 6.0  # mean events of a session
GAP = 40.0  # mean seconds between events of a session; 1 in 40 is in the same second as the previous one
CANDIDATES = 8  # items a user looks at before touching one
# Redraws of items that a user would touch twice in a day; repeats left after them are dropped: under 1 %, or 4 % at
# World's limit.
REDRAWS = 3


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
        notes={WORLD_FILE: json.dumps({**asdict(world), "since": profile.first_bizdate.isoformat()}, indent=1) + "\n"},
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
        since = saved.pop("since")
        world = World(**saved)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LandingError(f"{path} is damaged ({error}): remove {profile.landing} and land again") from error
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
    who, time = _sessions(world, rng, users)
    what, kept = _choices(rng, users, items, who)
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


def _sessions(world: World, rng: np.random.Generator, users: Users) -> tuple[Ints, Ints]:
    """The user's index and the second of the day of each event, ordered by user, session and time."""
    sessions = rng.poisson(users.activity * world.events_a_user_day / SESSION)
    lengths = rng.geometric(1 / SESSION, sessions.sum())
    start = SECONDS_A_DAY * rng.beta(2.5, 1.7, len(lengths))  # mostly in the evening
    gap = np.floor(rng.exponential(GAP, lengths.sum()))
    before = np.repeat(np.cumsum(lengths) - lengths, lengths)
    passed = np.concatenate([[0], np.cumsum(gap)])
    second = np.repeat(start, lengths) + passed[:-1] - passed[before]
    who = np.repeat(np.repeat(np.arange(len(users.id)), sessions), lengths)
    return who, np.minimum(second, SECONDS_A_DAY - 1).astype(np.int64)


def _choices(rng: np.random.Generator, users: Users, items: Items, who: Ints) -> tuple[Ints, Bools]:
    """The index of each event's item, and which events to keep: an item occurs once in a user's day."""
    what = _draw_items(rng, users, items, who)
    for _ in range(REDRAWS):
        again = np.flatnonzero(_repetitions(who, what, len(items.id)))
        what[again] = _draw_items(rng, users, items, who[again])
    return what, ~_repetitions(who, what, len(items.id))


def _draw_items(rng: np.random.Generator, users: Users, items: Items, who: Ints) -> Ints:
    """The best fit among a few items drawn by popularity, with Gumbel noise (a softmax choice)."""
    popularity = np.cumsum(items.popularity)
    draws = rng.random((CANDIDATES, len(who))) * popularity[-1]
    places = np.minimum(np.searchsorted(popularity, draws, side="right"), len(items.id) - 1)  # (candidates, events)
    fit = np.stack([_taste_fit(users, items, who, row) for row in places]) + rng.gumbel(size=places.shape)
    chosen: Ints = places[fit.argmax(axis=0), np.arange(len(who))]
    return chosen


def _repetitions(who: Ints, what: Ints, items: int) -> Bools:
    """Rows whose user and item occur in an earlier row."""
    repeated = np.ones(len(who), bool)
    repeated[np.unique(who * items + what, return_index=True)[1]] = False
    return repeated


def _taste_fit(users: Users, items: Items, who: Ints, what: Ints) -> Floats:
    """How well the item suits the user's tastes, without the user's bias and the item's quality."""
    fit: Floats = np.einsum("ij,ij->i", users.taste[who], items.taste[what])
    return fit


def _chance(users: Users, items: Items, who: Ints, what: Ints) -> Floats:
    """True probability that the rating is above 3."""
    logit = users.bias[who] + items.quality[what] + _taste_fit(users, items, who, what)
    chance: Floats = 1 / (1 + np.exp(-logit))
    return chance


def _ratings(rng: np.random.Generator, chance: Floats) -> Floats:
    """4 or 5 with the given chance, else 1 to 3."""
    liked, degree = rng.random((2, len(chance)))
    high = 4 + (degree < 0.6 * chance)
    low = 3 - (degree < 0.4) - (degree < 0.13)
    ratings: Floats = np.where(liked < chance, high, low).astype(np.float32)
    return ratings
