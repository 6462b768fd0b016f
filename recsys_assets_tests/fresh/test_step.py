"""Fresh rows: the newest value of each column wins, side tables are joined, and no good row is lost with a bad one."""

import datetime as dt
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_assets.datasets.duck import connect_without_lake
from recsys_assets.datasets.ingest import ROWS, ingest_entities
from recsys_assets.datasets.profile import ProfileError, load_profile
from recsys_assets.fresh.database import Database
from recsys_assets.fresh.files import FilesTaken, take_files
from recsys_assets.fresh.landing import land
from recsys_assets.fresh.step import FreshRow, Step
from recsys_assets_tests.helpers.worlds import own_environment

NOW = dt.datetime(2026, 4, 1, 12, tzinfo=dt.UTC)
PROFILE = """
name: shop
first_bizdate: 2026-01-01
landing: ${RECSYS_LANDING}/shop
tables:
  interactions: {user_id: int64, item_id: int64, timestamp: timestamp}
  users: {user_id: int64, gender: string}
  items:
    item_id: int64
    title: string
    genres: strings
    category: string
    author: {type: string, column: author_id}
    level: {type: int64, max: 9}
    days: int64
    rate: float32
    words: {type: vector, width: 2}
features: {categorical: [user_id, item_id, gender, author, level], multi_valued: [genres]}
split: {strategy: by_day}
fresh:
  sides:
    authors: {by: author, key: name}
    texts: {by: item_id}
  joined:
    level: {first: [authors.level, items.level], default: 1}
    days: {days_since: authors.since}
    rate: {entry: authors.rates, under: items.category, default: 0.5}
    words: {first: [texts.vector], default: [0, 0]}
"""
ITEM = {"item_id": 7, "title": "Ü", "genres": ["a", "b"], "category": "x", "author_id": "ann"}


@pytest.fixture
def step(tmp_path: Path) -> Iterator[Step]:
    with own_environment(tmp_path):
        (tmp_path / "profile.yaml").write_text(PROFILE, encoding="utf-8")
        with opened() as step:
            yield step


@contextmanager
def opened() -> Iterator[Step]:
    profile = load_profile()
    with connect_without_lake() as duck:
        yield Step(profile, Database(profile.name), duck, {})


def at(source: str, second: int, **columns: Any) -> FreshRow:
    return FreshRow(source, json.dumps({**columns, "update_time": NOW.timestamp() - 60 + second}))


def state(step: Step) -> dict[str, dict[str, Any]]:
    with closing(step.database.connect()) as connection:
        rows = connection.execute("SELECT key, line, withdrawn FROM entities ORDER BY side, key").fetchall()
    withdrawals = {key: {"withdrawn": True} if withdrawn else {} for key, _, withdrawn in rows}
    there = {
        key: {name: value for name, value in json.loads(line).items() if value is not None} for key, line, _ in rows
    }
    return {key: {**row, **withdrawals[key]} for key, row in there.items()}


def test_a_joined_row_has_the_newest_values_and_the_defaults_of_missing_ones(step: Step) -> None:
    assert step.take([at("items", 1, **ITEM)], NOW).changed == 1
    assert state(step)["7"] == {**ITEM, "level": 1, "rate": 0.5, "words": [0, 0]}
    since = NOW - dt.timedelta(days=3, hours=5)
    author = {"name": "ann", "level": 4, "since": since.isoformat(), "rates": {"x": 0.25, "y": 0.75}}
    assert step.take([at("authors", 2, **author)], NOW).changed == 1
    assert state(step)["7"] == {**ITEM, "level": 4, "days": 3, "rate": 0.25, "words": [0, 0]}
    step.take([at("texts", 3, item_id=7, vector=[1.5, 2])], NOW)
    step.take([at("items", 4, item_id=7, category="y")], NOW)
    assert state(step)["7"] == {**ITEM, "category": "y", "level": 4, "days": 3, "rate": 0.75, "words": [1.5, 2]}
    (typed,) = step.judge.typed("items", [json.dumps(state(step)["7"])]).to_pylist()
    assert (typed["author"], typed["genres"], typed["words"], typed["days"]) == ("ann", ["a", "b"], [1.5, 2.0], 3)


def test_an_item_that_goes_over_to_another_author_is_joined_with_that_one(step: Step) -> None:
    authors = [at("authors", 1, name=name, level=level) for name, level in (("ann", 2), ("bob", 5))]
    step.take([*authors, at("items", 1, **ITEM)], NOW)
    step.take([at("items", 2, item_id=7, author_id="bob")], NOW)
    assert state(step)["7"]["level"] == 5
    assert step.take([at("authors", 3, name="ann", level=3)], NOW).changed == 0
    step.take([at("items", 4, item_id=7, author_id=None)], NOW)
    assert state(step)["7"]["level"] == 1


def test_every_order_of_late_and_repeated_rows_gives_the_same_state(tmp_path: Path) -> None:
    rows = [
        at("items", 1, **ITEM),
        at("items", 5, item_id=7, title="new"),
        at("items", 3, item_id=7, title="old", level=3),
        at("items", 5, item_id=7, title="newer by its letters"),
        at("authors", 4, name="ann", level=8),
        at("items", 6, item_id=7, withdrawn=True),
    ]
    drawn = random.Random(1)
    found = []
    for number in range(12):
        order = [*rows, *drawn.sample(rows, 3)]
        drawn.shuffle(order)
        home = tmp_path / str(number)
        home.mkdir()
        (home / "profile.yaml").write_text(PROFILE, encoding="utf-8")
        with own_environment(home), opened() as step:
            for size in iter(lambda left=order: len(left), 0):  # type: ignore[misc]
                some = [order.pop() for _ in range(min(size, drawn.randint(1, 4)))]
                step.take(some, NOW)
            found.append(state(step))
    assert found[0]["7"]["title"] == "newer by its letters"
    assert found[0]["7"]["level"] == 8
    assert found[0]["7"]["withdrawn"]
    assert all(each == found[0] for each in found)


def test_a_row_that_changes_nothing_changes_no_joined_row(step: Step) -> None:
    row = at("items", 1, **ITEM)
    assert [step.take([row], NOW).changed for _ in range(2)] == [1, 0]
    assert step.take([at("items", 0, item_id=7, title="late")], NOW).changed == 0


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('{"title": "x"}', "item_id is missing"),
        ('{"item_id": "seven"}', "item_id is not of type int64"),
        ('{"item_id": 7, "colour": "red"}', "there is no column colour"),
        ('{"item_id": 7, "level": 10}', "level is out of bounds"),
        ('{"item_id": 7, "update_time": "soon"}', "update_time is neither a time"),
        ('{"item_id": 7, "update_time": "2999-01-01T00:00:00Z"}', "update_time is in the future"),
        ('{"item_id": 7, "withdrawn": 1}', "withdrawn is neither true nor false"),
        ('{"item_id": 7, "genres": {"a": 1}}', "genres is not of type strings"),
        ('{"item_id": 7, "title": ["a"]}', "title is not of type string"),
        ('{"item_id": 7, "rate": NaN}', "it is not an object in JSON"),
        ('{"item_id": 7, "title": "\\ud800"}', "it is not an object in JSON"),
        ("[7]", "it is not an object in JSON"),
        ("{bad", "it is not an object in JSON"),
    ],
)
def test_a_row_that_cannot_be_kept_is_named_and_the_others_stay(step: Step, row: str, reason: str) -> None:
    taken = step.take([FreshRow("items", row), at("items", 1, item_id=8, title="good")], NOW)
    assert taken.reasons[0]
    assert taken.reasons[0].startswith(reason)
    assert taken.reasons[1] is None
    assert list(state(step)) == ["8"]
    assert step.take([FreshRow("items", row), at("items", 1, item_id=9)], NOW, all_or_none=True).changed == 0
    assert list(state(step)) == ["8"]


def test_a_side_row_must_fit_the_column_that_is_joined_from_it(step: Step) -> None:
    rows = [{"name": "ann", "level": "high"}, {"level": 3}, {"name": "ann", "level": 3}]
    taken = step.take([FreshRow("authors", json.dumps(row)) for row in rows], NOW)
    assert taken.reasons == ["level is not of type int64", "name is missing", None]
    assert step.take([FreshRow("shops", "{}")], NOW).reasons == [
        "this data set takes no rows of 'shops': there are items, users, authors, texts"
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("authors.level", "writers.level", "there is no side table 'writers'"),
        ("by: author,", "by: writer,", "'writer' is no column of items"),
        ("items.level", "items.colour", "'items.colour' is no column that an item brings"),
        ("{days_since: authors.since}", "{}", "give exactly one of first, days_since and entry"),
        (", under: items.category", "", "entry and under belong together"),
        ("fresh:", "fresh:\n  sql: {table: shop.items}", "needs `model` next to it"),
        ("fresh:", "fresh:\n  sql: {table: 'shop.\"items'}", "table"),
    ],
)
def test_a_wrong_rule_is_refused_with_its_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in PROFILE
    (tmp_path / "profile.yaml").write_text(PROFILE.replace(old, new), encoding="utf-8")
    with own_environment(tmp_path), pytest.raises(ProfileError, match=rf"line \d+.*fresh.*{said}"):
        load_profile()


def test_a_file_with_lines_that_are_no_text_and_no_json_keeps_its_good_rows(step: Step) -> None:
    folder = step.profile.landing / "fresh" / "items"
    folder.mkdir(parents=True)
    lines = [b'\xef\xbb\xbf{"item_id": 7}', b"{bad", b'{"item_id": 8, "title": "\xff"}', b'{"item_id": 9, "rate": NaN}']
    (folder / "10-05.jsonl").write_bytes(b"\n".join(lines))
    with connect_without_lake() as duck, closing(step.database.connect()) as connection:
        assert take_files(step, duck, connection, NOW) == FilesTaken(1, 4, 2, 2)
        assert connection.execute("SELECT row FROM rejected ORDER BY row").fetchall() == [(2,), (4,)]
    assert state(step)["8"]["title"] == "\N{REPLACEMENT CHARACTER}"


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_files_are_taken_once_with_their_good_rows_and_land_for_the_next_day(step: Step) -> None:
    folder = step.profile.landing / "fresh"
    write_lines(folder / "items" / "10-05.jsonl", [ITEM, {"item_id": "x"}, {"item_id": 8, "title": "a\u2028b"}])
    (folder / "authors").mkdir()
    pq.write_table(pa.table({"name": ["ann"], "level": [3]}), folder / "authors" / "10-06.parquet")
    write_lines(folder / "items" / "half.jsonl.tmp", [{"item_id": 9}])
    with connect_without_lake() as duck, closing(step.database.connect()) as connection:
        assert take_files(step, duck, connection, NOW) == FilesTaken(2, 4, 1, 2)
        assert take_files(step, duck, connection, NOW) == FilesTaken()
        rejected = connection.execute("SELECT file, row, reason FROM rejected").fetchall()
        assert rejected == [("fresh/items/10-05.jsonl", 2, "item_id is not of type int64")]
        assert land(step.profile, step.database, duck, connection, NOW) == 0
        assert land(step.profile, step.database, duck, connection, NOW + dt.timedelta(minutes=16)) == 1
        assert land(step.profile, step.database, duck, connection, NOW, everything=True) == 0
    out = step.profile.landing.parent
    with connect_without_lake(out) as duck:
        assert ingest_entities(duck, step.profile, "items", NOW.date().isoformat(), out) == {"rows": 2}
    first, second = pq.read_table(out / ROWS).to_pylist()
    assert (first["item_id"], first["level"], first["words"], second["title"]) == (7, 3, [0.0, 0.0], "a\u2028b")


_TELL = """
import datetime as dt, itertools, json, sys
from recsys_assets_tests.fresh.test_step import opened
from recsys_assets.fresh.step import FreshRow
with opened() as step:
    for number in itertools.count(int(sys.argv[1])):
        line = json.dumps({"item_id": number, "title": str(number), "author_id": "ann"})
        step.take([FreshRow("items", line)], dt.datetime.now(dt.UTC))
        print(number, flush=True)
"""


def test_what_was_answered_survives_sigkill_and_nothing_is_there_in_part(step: Step) -> None:
    next_item, told = 1, set[int]()
    for _ in range(3):
        command = [sys.executable, "-c", textwrap.dedent(_TELL), str(next_item)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
            assert process.stdout
            told |= {int(line) for line in itertools.islice(process.stdout, 20)}
            process.send_signal(signal.SIGKILL)
            told |= {int(line) for line in process.stdout if line.endswith("\n")}
        next_item = max(told) + 2
    found = state(step)
    assert {str(number) for number in told} <= set(found)
    assert all(row["title"] == key and row["level"] == 1 for key, row in found.items())
