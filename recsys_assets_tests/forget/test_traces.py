"""Everything that holds a user of a log with odd ids and files of every form is found, and nothing else is touched."""

import contextlib
import datetime as dt
import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from recsys_assets.cli import main
from recsys_assets.datasets.duck import connect_without_lake
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.forget import lake as in_lake
from recsys_assets.forget import landing, services
from recsys_assets.fresh.database import Database as FreshDatabase
from recsys_assets.fresh.files import new_files, take_files
from recsys_assets.fresh.step import FreshRow, Step
from recsys_assets.lake import Lake
from recsys_assets.serving.request_log import log_folder
from recsys_assets.serving.told_database import Database as ToldDatabase
from recsys_assets.serving.told_database import told_folder
from recsys_assets_tests.helpers.shop import bytes_in, put
from recsys_assets_tests.helpers.told_events import Teller, telling
from recsys_assets_tests.helpers.worlds import own_environment

USER, OTHER = "007 \"Zoë'; --", "7"
PROFILE = """
name: shop
first_bizdate: 2026-01-01
landing: ${RECSYS_LANDING}/shop
files: {day_folder: "%Y/%m/%d", separator: ";", interactions: {time_unit: ms}}
tables:
  interactions: {user_id: {type: string, column: who}, item_id: int64, timestamp: timestamp}
  users: {user_id: {type: string, column: who}, gender: string}
  items: {item_id: int64, title: string}
features: {categorical: [user_id, item_id, gender]}
split: {strategy: by_day}
"""
NOW = dt.datetime(2026, 4, 1, 12, tzinfo=dt.UTC)
QUOTED = '"' + USER.replace('"', '""') + '"'


@pytest.fixture
def profile(tmp_path: Path) -> Iterator[Profile]:
    with own_environment(tmp_path):
        (tmp_path / "profile.yaml").write_text(PROFILE, encoding="utf-8")
        yield load_profile()


def json_line(user: str, **more: object) -> str:
    return json.dumps({"who": user, **more}) + "\n"


def put_files(profile: Profile) -> None:
    """Files of several forms, of which the user has two rows each, or none."""
    put(profile, "users/users.csv", f"who;gender\n{QUOTED};f\n{OTHER};m\n{QUOTED};x\n")
    put(profile, "items/items.csv", "item_id;title\n1;a\n")
    lines = [json_line(user, item_id=1, timestamp=1767571200000 + n) for n, user in enumerate([USER, OTHER] * 2)]
    put(profile, "interactions/2026/01/05/a/events.jsonl.gz", gzip.compress("".join(lines).encode()))
    put(profile, "interactions/2026/01/05/b.csv", f"who;item_id;timestamp\n{OTHER};1;1767571200000\n")
    rows = pd.DataFrame({"who": [USER, OTHER, USER], "item_id": 1, "timestamp": pd.Timestamp("2026-01-06")})
    put(profile, "interactions/2026/01/06/events.parquet", rows)
    put(profile, "interactions/2025/12/31/early.csv", f"who;item_id;timestamp\n{QUOTED};1;1\n{QUOTED};2;2\n")
    (profile.landing / "interactions/2026/01/07").mkdir(parents=True)
    (profile.landing / "interactions/2026/01/07/again.parquet").symlink_to("../06/events.parquet")
    put(profile, "interactions/2026/01/06/notes.docx", "of nobody")
    fresh = [json_line(user, gender="f") for user in (USER, OTHER, USER)]
    put(profile, "fresh/users/now.jsonl", "".join(fresh))
    reasons = ["timestamp is missing", "timestamp is missing", "the line has 1 fields, not 3", "item_id is missing"]
    ids = [USER, OTHER, f"{USER},1", f"{USER},2"]
    rejected = {"row": [1, 2, 3, 4], "reason": reasons, "user_id": ids, "item_id": "1"}
    put(profile, "rejected/from-log.parquet", pd.DataFrame({**rejected, "timestamp": "1"}))


def test_every_landing_file_loses_the_user_and_no_other_row(profile: Profile) -> None:
    put_files(profile)
    before = bytes_in(profile.landing)
    found = landing.find(profile, USER)
    names = {path.relative_to(profile.landing).as_posix(): rows for path, rows in found.rows.items()}
    events = ["interactions/2025/12/31/early.csv", "interactions/2026/01/05/a/events.jsonl.gz"]
    events += ["interactions/2026/01/06/events.parquet"]
    assert names == dict.fromkeys([*events, "users/users.csv", "fresh/users/now.jsonl", "rejected/from-log.parquet"], 2)
    assert found.lines == 1
    assert [path.name for path in found.unread] == ["notes.docx"]
    assert bytes_in(profile.landing) == before
    times = {path: path.stat().st_mtime_ns for path in found.rows}
    landing.remove(profile, USER, found)
    after = bytes_in(profile.landing)
    assert {name for name in before if before[name] != after[name]} == {*names, "interactions/2026/01/07/again.parquet"}
    assert {path: path.stat().st_mtime_ns for path in found.rows} == times
    assert (profile.landing / "users/users.csv").read_text() == f"who;gender\n{OTHER};m\n"
    assert (profile.landing / "interactions/2026/01/07/again.parquet").is_symlink()
    assert pq.read_table(profile.landing / "interactions/2026/01/06/events.parquet")["who"].to_pylist() == [OTHER]
    rejected = pq.read_table(profile.landing / "rejected/from-log.parquet")["user_id"].to_pylist()
    assert rejected == [OTHER, f"{USER},2"]  # the last one is a row of somebody else
    assert landing.find(profile, USER).rows == {}


def tell(teller: Teller, profile: Profile) -> None:
    """Events, fresh rows and answers of the user and of another one; some fresh rows of both are rejected."""
    teller(*({"who": user, "item_id": item} for user in (USER, OTHER) for item in (1, 2)))
    with connect_without_lake() as duck:
        step = Step(profile, FreshDatabase(profile.name), duck, {})
        step.take([FreshRow("users", json_line(user, gender="f")) for user in (USER, OTHER)], NOW)
        rows = [json_line(user, colour="red") for user in (USER, OTHER)]
        put(profile, "fresh/users/bad.jsonl", "".join(rows))
        with contextlib.closing(step.database.connect()) as connection:
            assert take_files(step, duck, connection, NOW).rejected == 2
    folder = log_folder(profile.name) / "date=2026-04-01" / "hour=12"
    folder.mkdir(parents=True)
    answers = pa.table({"user_id": [USER, OTHER, None], "items": [[{"item_id": 1}], [], [{"item_id": 2}]]})
    pq.write_table(answers, folder / "requests-1.parquet")
    pq.write_table(answers.slice(1), folder / "requests-2.parquet")


def test_services_forget_the_user_and_what_waits_to_land_still_lands(profile: Profile) -> None:
    put_files(profile)
    assert services.find(profile, USER) == services.InServices()
    assert not told_folder(profile.name).exists()  # a search creates nothing
    with telling(profile) as teller:
        tell(teller, profile)
        found = services.find(profile, USER)
        assert (found.told, found.fresh, list(found.answers.values())) == (2, 2, [1])
        database = ToldDatabase(told_folder(profile.name))
        with contextlib.closing(database.connect()) as connection, database.writing(connection):
            connection.execute("INSERT INTO files VALUES (1, 'interactions', '2026-04-01', 0)")
            connection.execute("UPDATE events SET file = 1 WHERE user_id = ?", (USER,))  # recorded, not written
        services.remove(profile, USER, found)
        assert services.find(profile, USER) == services.InServices()
        others = services.find(profile, OTHER)
        assert (others.told, others.fresh, list(others.answers.values())) == (2, 2, [1, 1])
        (landed,) = teller.land()
    assert pq.read_table(landed)["who"].to_pylist() == [OTHER, OTHER]
    kept = {path.name: path.read_bytes() for path in told_folder(profile.name).glob("*.db*")}
    assert kept.keys() >= {"told.db", "fresh.db"}
    assert not [name for name, content in kept.items() if "Zoë".encode() in content or b"Zo\\u00eb" in content]


def test_a_fresh_file_that_is_taken_again_keeps_its_time(profile: Profile) -> None:
    put_files(profile)
    with connect_without_lake() as duck:
        step = Step(profile, FreshDatabase(profile.name), duck, {})
        with contextlib.closing(step.database.connect()) as connection:
            (before,) = new_files(profile, connection)
            landing.remove(profile, USER, landing.find(profile, USER))
            (after,) = new_files(profile, connection)
    assert after.written == before.written


def refusal(*words: str) -> str:
    done = CliRunner().invoke(main, ["forget", *words, "--yes"])
    assert done.exit_code == 1, done.output
    return done.output


def test_whoever_is_nowhere_and_whatever_cannot_be_removed_is_refused_before_a_change(profile: Profile) -> None:
    put_files(profile)
    before = bytes_in(profile.landing)
    assert "an empty text is not the id of a user" in refusal("")
    for nobody in ("07", "007", "%"):
        assert f"no user {nobody!r} in landing files, told events, fresh rows" in refusal(nobody)
    lake = Lake.of(str(profile.landing.parents[1] / "lake"), profile)
    with lake.draft("interactions", "2026-01-03") as draft:
        pq.write_table(pa.table({"user_id": [USER, OTHER]}), draft.path("data.parquet"))
        draft.manifest.schema = {"data.parquet": {"user_id": "string"}}
    assert "2026-01-03, whose landing files are gone" in refusal(USER)
    put(profile, "interactions/2026/01/03/odd.csv", "user;item_id;timestamp\n1;1;1\n")
    assert "lacks the column 'who'" in refusal(USER)
    (profile.landing / "interactions/2026/01/03/odd.csv").unlink()
    assert bytes_in(profile.landing) == before


def test_where_ids_are_numbers_only_numbers_are_ids(profile: Profile, tmp_path: Path) -> None:
    put(profile, "interactions/2026/01/05/a.csv", "who;item_id;timestamp\n+7;1;1767571200000\n70;1;1767571200000\n")
    numbers = PROFILE.replace("user_id: {type: string, column: who}", "user_id: {type: int64, column: who}")
    (tmp_path / "profile.yaml").write_text(numbers, encoding="utf-8")
    for odd in ("7.0", "x", "٧", "9223372036854775808"):
        assert "is not the id of a user: those of 'shop' are whole numbers" in refusal(odd)
    dry = CliRunner().invoke(main, ["forget", "007"])
    assert dry.exit_code == 0, dry.output
    assert "1 rows in 1 files" in dry.output
    assert "nothing was changed" in dry.output


def test_every_table_of_the_lake_with_a_column_of_users_is_searched(profile: Profile) -> None:
    lake = Lake.of(str(profile.landing.parents[1] / "lake"), profile)
    for asset, file, column in (
        ("emb_fm_user", "data.parquet", "user_id"),
        ("feast_offline", "user.parquet", "userid"),
        ("hitrate_fm", "details.parquet", "id"),
        ("items", "data.parquet", "id"),
    ):
        with lake.draft(asset, "2026-01-05") as draft:
            pq.write_table(pa.table({column: [OTHER, USER, None, USER]}), draft.path(file))
            draft.manifest.schema = {file: {column: "string"}}
    assert in_lake.find(lake, USER) == {
        (asset, "2026-01-05"): 2 for asset in ("emb_fm_user", "feast_offline", "hitrate_fm")
    }
    assert in_lake.find(lake, "08") == {}
