"""Settings of the generated world (`sample.py`), and the users and items that are alive in it on a day.

User (or item) number k is born on day k / rate, so those alive on a day come from one range of numbers, and their
traits from one range of the Philox generator's counter (Salmon et al., Parallel Random Numbers, 2011).
"""

import math
from dataclasses import dataclass

import numpy as np

from recsys_assets.arrays import Doubles, Ints
from recsys_assets.datasets.feed import LandingError

VERSION = 2  # of the generator; raise it when the same settings and day give other rows
LEAST = {"users": 10, "items": 50, "events": 100, "days": 1, "seed": 0}
MIN_ITEMS = 20  # on a day; with fewer there is nothing to choose from


@dataclass(frozen=True)
class Kind:
    """Users or items.

    Attributes:
        number: part of the seed, so that users and items have different traits.
        life: the mean days that one lives; each lives half to one and a half times that.
        width: the uniforms that one takes.
    """

    number: int
    life: int
    width: int

    def rate(self, total: int, days: int) -> float:
        """Births per day such that `total` are alive at some time in `days` days."""
        return total / (days + self.life)

    def count_alive(self, total: int, days: int) -> float:
        """How many are alive on a day."""
        return self.rate(total, days) * self.life

    def draw_alive(self, seed: int, rate: float, age: int) -> tuple[Ints, Doubles]:
        """Numbers of those alive `age` days after the world's first day, and their (n, width) uniforms."""
        longest = self.life * 3 // 2  # the first are born this long before, so that the world starts full
        numbers = np.arange(max(0, int(age * rate)), int((age + longest + 1) * rate) + 2)
        uniforms = self._uniforms(seed, numbers[0], len(numbers))
        born = np.floor(numbers / rate).astype(np.int64) - longest
        dies = born + np.round(self.life * (0.5 + uniforms[:, 0])).astype(np.int64)
        alive = (born <= age) & (age < dies)
        return numbers[alive], uniforms[alive]

    def _uniforms(self, seed: int, first: int, count: int) -> Doubles:
        """Rows of an endless table of uniforms in (0, 1), from row `first` on."""
        key = np.random.SeedSequence([seed, self.number]).generate_state(2, np.uint64)
        counter = [int(first) * self.width // 4, 0, 0, 0]  # Philox makes 4 numbers per step
        draws = np.random.Generator(np.random.Philox(key=key, counter=counter)).random((count, self.width))
        return np.maximum(draws, 2.0**-53)


USERS = Kind(1, life=30, width=36)
ITEMS = Kind(2, life=120, width=40)


@dataclass(frozen=True)
class World:
    """Size of the world: users, items and events that are seen in `days` days, and the seed of everything."""

    users: int = 600
    items: int = 800
    events: int = 40_000
    days: int = 30
    seed: int = 20260101

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                raise LandingError(f"--{name} {getattr(self, name)}: must be at least {least}")
        live = ITEMS.count_alive(self.items, self.days)
        if live < max(MIN_ITEMS, 8 * self.events_a_user_day):
            raise LandingError(
                f"only {live:.0f} items a day for users with {self.events_a_user_day:.1f} events a day each, and a "
                f"user touches an item once a day: give more --items or --users, or fewer --events or --days"
            )

    @property
    def events_a_user_day(self) -> float:
        """Mean events of a living user on a day."""
        return self.events / self.days / USERS.count_alive(self.users, self.days)

    @staticmethod
    def of(options: dict[str, int]) -> "World":
        """A world as active as the default one: settings that are not given follow from the days and the events.

        Each user is as active as by default, and items grow with the square root of a day's events,
        down to an eighth of the default.
        """
        days = options.get("days", World.days)
        events = options.get("events", max(World.events * days // World.days, LEAST["events"]))
        times = max(events, 1) / max(days, 1) / (World.events / World.days)
        users = round(USERS.rate(World.users, World.days) * times * (days + USERS.life))
        items = round(ITEMS.rate(World.items, World.days) * max(math.sqrt(times), 1 / 8) * (days + ITEMS.life))
        sizes = {"users": max(users, LEAST["users"]), "items": max(items, LEAST["items"])}
        return World(**{**sizes, "events": events, **options})
