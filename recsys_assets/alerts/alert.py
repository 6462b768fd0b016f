"""An alert, and what has been reported so far: the cursor of the sensor."""

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Alert:
    """One failure.

    Attributes:
        key: which failure it is; two alerts of one failure have the same key, so that a receiver can drop the second.
        time: when it happened, in seconds since 1970.
        title: what failed, in a line.
        cause: why, in a sentence or in one line per check.
        link: where Dagster's UI shows it.
    """

    key: str
    time: float
    title: str
    cause: str
    link: str

    def content(self) -> dict[str, str]:
        """The fields of an alert in JSON; `text` holds all of it, as Slack, Mattermost and Rocket.Chat read it."""
        when = dt.datetime.fromtimestamp(self.time, dt.UTC).isoformat(timespec="seconds")
        text = f"{self.title}\n{self.cause}\n{self.link}"
        return {
            "text": text,
            "key": self.key,
            "time": when,
            "title": self.title,
            "cause": self.cause,
            "link": self.link,
        }


@dataclass
class Reported:
    """The cursor of `alert_sensor`.

    Attributes:
        began: the time of the first tick, in seconds since 1970; 0 before it. Failures from before it are no news.
        until: up to when failures were looked for.
        keys: the times of the failures that were reported lately, by key.
        failing: the error of each sensor and schedule whose last tick failed, by name.
        waiting: alerts that a channel has not taken yet, each with the channel's name.
    """

    began: float = 0.0
    until: float = 0.0
    keys: dict[str, float] = field(default_factory=dict)
    failing: dict[str, str] = field(default_factory=dict)
    waiting: list[tuple[str, Alert]] = field(default_factory=list)

    @classmethod
    def read(cls, cursor: str | None) -> "Reported":
        """Read the cursor, or make that of the first tick."""
        content: dict[str, Any] = json.loads(cursor or "{}")
        waiting = [(channel, Alert(**alert)) for channel, alert in content.pop("waiting", [])]
        return cls(**content, waiting=waiting)

    def text(self) -> str:
        """The text of the cursor."""
        waiting = [(channel, asdict(alert)) for channel, alert in self.waiting]
        return json.dumps({**vars(self), "waiting": waiting})

    def since(self, now: float, overlap: float) -> float:
        """The moment after which failures are looked for now, so much before the end of the last look."""
        self.began = self.began or now
        return max(self.began, self.until - overlap)

    def take_new(self, found: Sequence[Alert], now: float, overlap: float) -> list[Alert]:
        """Those of the alerts that were not reported yet, oldest first; from now on they are."""
        new = {alert.key: alert for alert in found if alert.key not in self.keys}
        self.keys |= {key: now for key in new}
        self.keys = {key: when for key, when in self.keys.items() if when > now - 3 * overlap}
        self.until = now
        return sorted(new.values(), key=lambda alert: (alert.time, alert.key))
