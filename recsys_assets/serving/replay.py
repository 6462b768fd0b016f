"""Replay of a request log: answers it again, and says whether they are the same, or how another release answers."""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from recsys_assets.manifest import GateNotPassed, PartitionDamaged, PartitionMissing, PartitionOutdated
from recsys_assets.serving.engine import Engine, Row
from recsys_assets.serving.people import History
from recsys_assets.serving.request_rows import digest
from recsys_assets.serving.requests import RecommendBody
from recsys_assets.serving.respond import Answer, asked_of, respond
from recsys_assets.serving.scenes.book import Book

SHOWN = 5  # differences that are described
CUTOFFS = (10, 50)
MADE_BY = ("release", "bizdate", "fingerprint", "rules")  # besides the request, the answer depends on these alone
READ = (*MADE_BY, "request_id", "scene", "request", "context", "left_out", "told", "items", "answer")
GONE = (PartitionMissing, PartitionDamaged, PartitionOutdated, GateNotPassed)  # why a release can no longer be opened
Open = Callable[[str], Engine]


class NoLog(ValueError):
    """There is no request log in the place."""


@dataclass
class Outcome:
    """The outcome of a replay.

    Attributes:
        same, different: how many answers.
        differences: what differs in the first of them.
        gone: how many requests of which release cannot be answered again, by the reason.
    """

    same: int = 0
    different: int = 0
    differences: list[str] = field(default_factory=list)
    gone: dict[str, int] = field(default_factory=dict)


@dataclass
class Changes:
    """How lists change under another release: the sums of the shares of items that stay, by cutoff."""

    requests: int = 0
    stay: dict[int, float] = field(default_factory=lambda: dict.fromkeys(CUTOFFS, 0.0))

    def add(self, before: list[Row], after: list[Row]) -> None:
        """Count the lists of one request."""
        self.requests += 1
        for k in CUTOFFS:
            old, new = ({row["item_id"] for row in rows[:k]} for rows in (before, after))
            self.stay[k] += len(old & new) / max(len(old), len(new), 1)


def read_log(place: Path) -> Iterator[Row]:
    """The rows of a file, or of all files below a folder, those of the same release together.

    Raises:
        NoLog: there is none.
    """
    files = [place] if place.is_file() else sorted(place.glob("**/*.parquet"))
    if not files:
        raise NoLog(f"{place} holds no request log: name a file, or a folder with Parquet files of `recsys serve`")
    for file in files:
        with pq.ParquetFile(file) as opened:
            if missing := sorted(set(READ) - set(opened.schema_arrow.names)):
                raise NoLog(f"{file} is not a request log: it has no column {missing[0]}")
            for batch in opened.iter_batches(256, columns=list(READ)):
                yield from batch.to_pylist()


def replay(rows: Iterator[Row], open_release: Open, book: Book) -> Outcome:
    """Answer every request again by its own release, which `open_release` opens by its bizdate, and the present rules.

    One that the rules of scenes arranged cannot be answered again after these have changed.
    """
    outcome = Outcome()
    for made_by, group in itertools.groupby(rows, itemgetter(*MADE_BY)):
        number, bizdate, fingerprint, rules = made_by
        engine = _open(open_release, bizdate, fingerprint)
        why = f"release {number} of {bizdate} is no longer kept: {engine}" if isinstance(engine, str) else ""
        if rules not in ("", book.experiments.fingerprint):
            why = "the rules of scenes have changed since"
        if why or isinstance(engine, str):
            outcome.gone[why] = outcome.gone.get(why, 0) + sum(1 for _ in group)
            continue
        for row in group:
            content = answer_again(engine, number, book, row).content
            if digest(content) == row["answer"]:
                outcome.same += 1
            else:
                outcome.different += 1
                outcome.differences += _difference(row, content) if len(outcome.differences) < SHOWN else []
    return outcome


def compare(rows: Iterator[Row], engine: Engine, number: int, book: Book) -> dict[str, Changes]:
    """How the lists of a log change under another release and the present rules, by scene."""
    found: dict[str, Changes] = {}
    for row in rows:
        after = answer_again(engine, number, book, row).content["items"]
        found.setdefault(row["scene"] or "", Changes()).add(row["items"], after)
    return found


def answer_again(engine: Engine, number: int, book: Book, row: Row) -> Answer:
    """The answer of a release to a logged request, with its told events and at its moment."""
    body = RecommendBody.model_validate_json(row["request"])
    body = body.model_copy(update={"context": json.loads(row["context"]), "left_out": row["left_out"]})
    return respond(number, engine, asked_of(engine, book, body, _told(engine, row["told"])))


def _told(engine: Engine, events: list[Row]) -> History:
    """The logged events whose items the release knows."""
    return engine.history(*([event[name] for event in events] for name in ("item_id", "label", "weight")))


def _open(open_release: Open, bizdate: str, fingerprint: str) -> Engine | str:
    """The engine of a bizdate, or why it is not the one that answered."""
    try:
        engine = open_release(bizdate)
    except GONE as error:
        return str(error)
    return engine if engine.fingerprint == fingerprint else "something of it has been materialized again since"


def _difference(row: Row, content: Mapping[str, Any]) -> list[str]:
    """A sentence on the first difference between a logged list and the one of now."""
    names = ("item_id", "score", "probability")
    before, after = (
        [tuple(each.get(name) for name in names) for each in part] for part in (row["items"], _single(content))
    )
    for place, (old, new) in enumerate(itertools.zip_longest(before, after), 1):
        if old != new:
            said = (dict(zip(names, each, strict=True)) if each else "nothing" for each in (old, new))
            return ["request {}, position {}: it was {}, and is {}".format(row["request_id"], place, *said)]
    return [f"request {row['request_id']}: the same list, but other fields or another head"]


def _single(content: Mapping[str, Any]) -> list[Row]:
    """The items with numbers as the log keeps them: float32."""
    return [
        {name: float(np.float32(value)) if isinstance(value, float) else value for name, value in row.items()}
        for row in content["items"]
    ]
