"""Counters of the service for Prometheus: of this process, or of all of them together.

`PROMETHEUS_MULTIPROC_DIR` names a folder in which prometheus_client keeps the counters of every process; whichever
process is asked adds them up. Labels have few values: a name that a client chose is never one.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from recsys_assets.arrays import Ints
from recsys_assets.serving.engine import Found
from recsys_assets.serving.respond import Answer

SECONDS = (0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.012, 0.016, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
SIZES = (0, 1, 10, 50, 100, 200, 500)  # items of a channel
METHODS = ("GET", "HEAD", "POST", "OPTIONS")
AGES = (1, 7, 30, 90, 365)  # days since the first event of an item: at most
# prometheus_client decides this when it is imported. Feast sets the variable later, for counters of its own.
_SHARES = "PROMETHEUS_MULTIPROC_DIR" in os.environ


class Metrics:
    """The counters of requests and answers."""

    def __init__(self) -> None:
        self._own = own = CollectorRegistry()
        self._requests = Counter("recsys_requests", "Requests.", ["method", "status"], registry=own)
        self._shed = Counter("recsys_shed_requests", "Requests that found too many waiting.", registry=own)
        self._answers = Counter("recsys_answers", "Lists, by how they were made.", ["served_by"], registry=own)
        self._short = Counter("recsys_short_answers", "Lists with fewer items than asked for.", registry=own)
        self._empty = Counter("recsys_empty_answers", "Lists without an item.", registry=own)
        self._without = Counter("recsys_degraded_answers", "Lists, by what they lack.", ["without"], registry=own)
        self._sizes = Histogram("recsys_channel_items", "Items of a channel.", ["channel"], buckets=SIZES, registry=own)
        self._exposed = Counter("recsys_exposed_items", "Items of lists, by age in days.", ["at_most"], registry=own)
        self._told = Counter("recsys_told_events", "Events that were told.", registry=own)
        self._rows = Counter(
            "recsys_fresh_rows", "Rows of items and users that changed between releases.", registry=own
        )
        self._seconds = Histogram("recsys_answer_seconds", "Time of a list.", buckets=SECONDS, registry=own)
        self._steps = Histogram("recsys_step_seconds", "Time of a step.", ["step"], buckets=SECONDS, registry=own)

    def request(self, method: str, status: int) -> None:
        """Count a request."""
        self._requests.labels(method if method in METHODS else "other", status).inc()

    def shed(self) -> None:
        """Count a request that was refused because too many wait."""
        self._shed.inc()

    def answered(self, answer: Answer, ages: Ints, seconds: float) -> None:
        """Count an answer.

        Args:
            answer: its content may say what was left out, as `step: why`.
            ages: (I,) days since the first event of each item of the release.
            seconds: that it took.
        """
        self._answers.labels(answer.content["served_by"]).inc()
        for each in answer.content.get("left_out", ()):
            self._without.labels(each.partition(":")[0]).inc()
        self._seconds.observe(seconds)
        rows = answer.content["items"]
        if len(rows) < answer.asked.wish.size:
            self._short.inc()
        if not rows:
            self._empty.inc()
        if answer.found:
            self._steps_of(answer.found)
        numbers = answer.engine.numbers([row["item_id"] for row in rows])
        self._exposures(np.where(numbers >= 0, ages[numbers], 0))  # an item that the release does not know is fresh

    def _steps_of(self, found: Found) -> None:
        for step, each in found.seconds.items():
            self._steps.labels(step).observe(each)
        for name, lists in found.lists.channels.items():
            self._sizes.labels(name).observe(int((lists.items >= 0).sum()))

    def _exposures(self, ages: Ints) -> None:
        counts = np.bincount(np.searchsorted(AGES, ages), minlength=len(AGES) + 1)
        for label, count in zip((*map(str, AGES), "more"), counts.tolist(), strict=True):
            if count:
                self._exposed.labels(label).inc(count)

    def told(self, events: int) -> None:
        """Count events that were told."""
        self._told.inc(events)

    def told_rows(self, rows: int) -> None:
        """Count fresh rows that changed."""
        self._rows.inc(rows)

    def text(self, numbers: Mapping[tuple[str, str], float]) -> bytes:
        """All counters in Prometheus' text form, and numbers of the moment by name and meaning."""
        counters, moment = self._own, CollectorRegistry()
        if _SHARES:
            counters = CollectorRegistry()
            MultiProcessCollector(counters)  # type: ignore[no-untyped-call]
        moment.register(_Gauges(numbers))
        return generate_latest(counters) + generate_latest(moment)


@dataclass(frozen=True, eq=False)
class _Gauges(Collector):
    """Numbers of the moment, which no process keeps: an ordinary gauge would be written to a file."""

    numbers: Mapping[tuple[str, str], float]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """A gauge for each number."""
        for (name, meaning), number in self.numbers.items():
            yield GaugeMetricFamily(name, meaning, value=number)
