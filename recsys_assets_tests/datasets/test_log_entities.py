"""Users and items that the log makes, columns of the log that belong to them, and events with unknown ids."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from recsys_assets.datasets.duck import connect
from recsys_assets.datasets.ingest import ROWS, ingest_entities, ingest_events, load_known_ids
from recsys_assets.datasets.profile import Profile, ProfileError, load_profile
from recsys_assets.datasets.profile_parts import TableName

DAYS = ["2026-01-05", "2026-01-06", "2026-01-07"]
LOG = {
    "user_id": "string",
    "item_id": "int64",
    "timestamp": "timestamp",
    "price": {"type": "float32", "of": "item"},
    "tags": {"type": "strings", "of": "item"},
    "device": {"type": "string", "of": "user"},
    "liked": "int64",
}
ANN, BOB = "ann", "bob"
EVENTS = {
    DAYS[0]: ["ann,7,2026-01-05 10:00:00,2.5,a|b,ios,1", "bob,7,2026-01-05 10:00:00,3.5,,,0"],
    DAYS[1]: ["ann,8,2026-01-06 09:00:00,,,,1", "ann,7,2026-01-06 08:00:00,,,web,0"],
    DAYS[2]: ["cat,7,2026-01-07 00:00:00,9.0,z,tv,1"],
}


def own(home: Path, **changes: Any) -> Profile:
    """A profile of a log alone, with its events landed."""
    content = {
        "name": "log",
        "first_bizdate": DAYS[0],
        "landing": str(home / "landing"),
        "tables": {"interactions": LOG},
        "label": "liked = 1",
        "split": {"strategy": "leave_last_n"},
        **changes,
    }
    (home / "own.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    profile = load_profile(str(home / "own.yaml"))
    for day, lines in EVENTS.items():
        put(profile, f"interactions/bizdate={day}/e.csv", ",".join(profile.tables["interactions"]), *lines)
    return profile


def put(profile: Profile, file: str, *lines: str) -> None:
    path = profile.landing / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def events_of(profile: Profile, home: Path, last: str = DAYS[-1]) -> tuple[list[Path], list[dict[str, int]]]:
    """The ingested events of all days up to the last, and what became of their rows."""
    files, counts = [], []
    for day in [day for day in DAYS if day <= last]:
        folder = home / "events" / day
        folder.mkdir(parents=True, exist_ok=True)
        with connect(folder) as connection:
            load_known_ids(connection, profile, DAYS[-1])
            counts.append(ingest_events(connection, profile, day, folder))
        files.append(folder / ROWS)
    return files, counts


def entities(profile: Profile, home: Path, table: TableName, day: str = DAYS[-1]) -> pd.DataFrame:
    files, _ = events_of(profile, home, day)
    folder = home / table
    folder.mkdir(exist_ok=True)
    with connect(home) as connection:
        ingest_entities(connection, profile, table, day, folder, files)
    return pd.read_parquet(folder / ROWS)


def test_a_log_alone_has_the_users_and_items_that_it_names(tmp_path: Path) -> None:
    users = entities(own(tmp_path), tmp_path, "users", DAYS[1])
    assert list(users) == ["user_id", "first_seen", "last_seen", "events", "device"]
    assert users.astype(str).to_numpy().tolist() == [
        ["ann", "2026-01-05 10:00:00", "2026-01-06 09:00:00", "3", "web"],
        ["bob", "2026-01-05 10:00:00", "2026-01-05 10:00:00", "1", "None"],
    ]


def test_the_newest_known_value_is_the_last_by_time_and_place_and_nothing_overwrites_it(tmp_path: Path) -> None:
    items = entities(own(tmp_path), tmp_path, "items", DAYS[1])
    assert items.item_id.tolist() == [7, 8]
    assert items.price.tolist()[0] == 3.5  # of two events at one time, the one that landed later
    assert list(items.tags[0]) == ["a", "b"]  # an empty list is no news
    assert items.price.isna().tolist() == [False, True]
    assert items.tags.isna().tolist() == [False, True]


def test_later_events_change_no_byte_of_an_earlier_day(tmp_path: Path) -> None:
    profile = own(tmp_path)
    entities(profile, tmp_path, "items", DAYS[1])
    before = (tmp_path / "items" / ROWS).read_bytes()
    put(profile, f"interactions/bizdate={DAYS[2]}/more.csv", ",".join(LOG), "ann,7,2026-01-07 11:00:00,99,y,tv,1")
    entities(profile, tmp_path, "items", DAYS[1])
    assert (tmp_path / "items" / ROWS).read_bytes() == before
    assert entities(profile, tmp_path, "items").price[0] == 99


TABLES = {"interactions": LOG, "items": {"item_id": "int64", "title": "string"}}


def test_a_table_that_lands_gets_the_columns_of_the_log_and_no_other(tmp_path: Path) -> None:
    profile = own(tmp_path, tables=TABLES)
    put(profile, "items/i.csv", "item_id,title", "9,Nine", "7,Seven", "8,Eight")
    items = entities(profile, tmp_path, "items")
    assert list(items) == ["item_id", "title", "price", "tags"]
    assert items.item_id.tolist() == [7, 8, 9]
    assert items.title.tolist() == ["Seven", "Eight", "Nine"]
    assert items.price.fillna(-1).tolist() == [9.0, -1, -1]
    assert entities(profile, tmp_path, "users").user_id.tolist() == ["ann", "bob", "cat"]


@pytest.mark.parametrize(("kept", "rows"), [("reject", [1, 1, 0]), ("keep", [2, 2, 1])])
def test_events_of_unknown_items_are_kept_if_the_profile_says_so(tmp_path: Path, kept: str, rows: list[int]) -> None:
    profile = own(tmp_path, tables=TABLES, unknown_ids=kept)
    put(profile, f"items/bizdate={DAYS[1]}/i.csv", "item_id,title", "8,Eight")
    put(
        profile,
        f"interactions/bizdate={DAYS[0]}/e.csv",
        ",".join(LOG),
        "ann,8,2026-01-05 10:00:00,,,,1",
        *EVENTS[DAYS[0]][1:],
    )
    _, counts = events_of(profile, tmp_path)
    assert [each["rows"] for each in counts] == ([0, 1, 0] if kept == "reject" else rows)
    items = entities(profile, tmp_path, "items")
    assert items.item_id.tolist() == ([8] if kept == "reject" else [7, 8])
    assert items.title.fillna("").tolist() == (["Eight"] if kept == "reject" else ["", "Eight"])


def test_a_kept_id_has_empty_columns_until_its_row_lands(tmp_path: Path) -> None:
    profile = own(tmp_path, tables=TABLES, unknown_ids="keep")
    put(profile, f"items/bizdate={DAYS[1]}/i.csv", "item_id,title", "7,Seven", "5,Five")
    put(profile, "items/i.csv", "item_id,title", "1,One")
    assert entities(profile, tmp_path, "items", DAYS[0]).title.fillna("").tolist() == ["One", ""]
    assert entities(profile, tmp_path, "items", DAYS[1]).title.fillna("").tolist() == ["One", "Five", "Seven", ""]


def test_no_row_is_lost_if_no_id_is_known(tmp_path: Path) -> None:
    """The log has numbers where the table has letters: the ids never meet."""
    log = {**LOG, "item_id": "string"}
    tables = {"interactions": log, "items": {"item_id": "string", "title": "string"}}
    profile = own(tmp_path, tables=tables, unknown_ids="keep")
    put(profile, "items/i.csv", "item_id,title", "seven,Seven")
    _, counts = events_of(profile, tmp_path)
    assert counts == [{"rows": 2}, {"rows": 2}, {"rows": 1}]
    assert entities(profile, tmp_path, "items").item_id.tolist() == ["7", "8", "seven"]
    rejecting = own(tmp_path, tables=tables)
    assert events_of(rejecting, tmp_path)[1][0] == {"rows": 0, "item_id is unknown": 2}


def test_the_ids_of_a_log_and_a_table_have_one_type(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="tables.items.item_id: must be int64, or string, in both"):
        own(tmp_path, tables={**TABLES, "items": {"item_id": "string"}})


REFUSED = [
    # what, the column of the log, its settings, message
    ("a key", "item_id", {"type": "int64", "of": "item"}, "'item_id' has a role of its own"),
    ("a name of items", "title", {"type": "string", "of": "item"}, "'title' is a column that items have"),
    ("a made name", "events", {"type": "int64", "of": "user"}, "'events' is a name of the platform's own"),
    ("a statistic", "item_count", {"type": "int64", "of": "item"}, "'item_count' is a name of the platform's own"),
    ("no owner", "price", {"type": "int64", "of": "shop"}, "price.of: Input should be 'user' or 'item'"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "spec", "says"), [pytest.param(*rest, id=what) for what, *rest in REFUSED])
def test_a_column_that_cannot_belong_to_anyone_is_refused(
    tmp_path: Path, name: str, spec: dict[str, str], says: str
) -> None:
    with pytest.raises(ProfileError, match=says):
        own(tmp_path, tables={**TABLES, "interactions": {**LOG, name: spec}})


def test_a_table_column_has_no_owner(tmp_path: Path) -> None:
    items = {"item_id": "int64", "title": {"type": "string", "of": "item"}}
    with pytest.raises(ProfileError, match="tables.items.title.of: 'title' is a column of items already"):
        own(tmp_path, tables={**TABLES, "items": items})


def test_a_feature_of_the_log_needs_an_owner(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"'liked' is not a column of users or items: say whose it is, as in `liked"):
        own(tmp_path, features={"numeric": ["liked"]})
