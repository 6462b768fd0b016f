"""Ingest of valid files: order, names, types, and what is known when. Bad ones are in `test_bad_input.py`."""

from pathlib import Path

import pandas as pd
import pytest

from recsys_assets.datasets.duck import connect
from recsys_assets.datasets.ingest import REJECTED, ROWS, ingest_entities, ingest_events, load_known_ids
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import TableName

DAY = "2026-01-05"


@pytest.fixture
def shop(tmp_path: Path) -> Profile:
    """A feed with string ids and its own column names."""
    return Profile.model_validate(
        {
            "name": "shop",
            "first_bizdate": "2026-01-01",
            "landing": tmp_path / "landing",
            "tables": {
                "interactions": {
                    "user_id": {"type": "string", "column": "who"},
                    "item_id": {"type": "string", "column": "what"},
                    "timestamp": {"type": "timestamp", "column": "at"},
                    "clicked": {"type": "int64"},
                },
                "users": {"user_id": {"type": "string", "column": "who"}, "age": {"type": "int64"}},
                "items": {
                    "item_id": {"type": "string", "column": "what"},
                    "tags": {"type": "strings", "separator": ";"},
                },
            },
            "label": "clicked = 1",
            "split": {"strategy": "by_day"},
        }
    )


def put(profile: Profile, file: str, *lines: str) -> None:
    path = profile.landing / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def events(profile: Profile, folder: Path, day: str = DAY) -> dict[str, int]:
    folder.mkdir(exist_ok=True)
    with connect(folder) as connection:
        load_known_ids(connection, profile, "2026-01-09")
        return ingest_events(connection, profile, day, folder)


def entities(profile: Profile, folder: Path, table: TableName, day: str = DAY) -> pd.DataFrame:
    folder.mkdir(exist_ok=True)
    with connect(folder) as connection:
        ingest_entities(connection, profile, table, day, folder)
    return pd.read_parquet(folder / ROWS)


def test_rows_keep_the_order_of_files_and_lines_under_the_platforms_names(shop: Profile, tmp_path: Path) -> None:
    put(shop, "users/u.csv", "who,age", "ann,30", "bob,40")
    put(shop, "items/i.csv", "what,tags", "x,a;b", "y,")
    put(shop, f"interactions/bizdate={DAY}/b.csv", "at,clicked,what,who", "2026-01-05 10:00:00,0,y,bob")
    same_second = ["2026-01-05T12:00:00Z,1,y,ann", "2026-01-05 12:00:00,0,x,ann"]
    put(shop, f"interactions/bizdate={DAY}/a.csv", "at,clicked,what,who", *same_second)
    assert events(shop, tmp_path / "out") == {"rows": 3}
    rows = pd.read_parquet(tmp_path / "out" / ROWS)
    assert rows.drop(columns="timestamp").to_numpy().tolist() == [
        ["ann", "y", 1, 0],
        ["ann", "x", 0, 1],
        ["bob", "y", 0, 2],
    ]
    assert list(rows) == ["user_id", "item_id", "timestamp", "clicked", "seq"]
    assert rows.timestamp.astype(str).tolist() == ["2026-01-05 12:00:00"] * 2 + ["2026-01-05 10:00:00"]
    assert not (tmp_path / "out" / REJECTED).exists()


def test_ids_are_known_from_the_day_they_land(shop: Profile, tmp_path: Path) -> None:
    put(shop, "users/u.csv", "who,age", "ann,30")
    put(shop, "items/bizdate=2026-01-05/i.csv", "what,tags", "x,a")
    for day in ("2026-01-04", "2026-01-05", "2026-01-06"):
        put(shop, f"interactions/bizdate={day}/e.csv", "who,what,at,clicked", f"ann,x,{day} 10:00:00,1")
    assert events(shop, tmp_path / "out", "2026-01-04") == {"rows": 0, "item_id is unknown": 1}
    for day in ("2026-01-05", "2026-01-06"):
        assert events(shop, tmp_path / "out", day) == {"rows": 1}


def test_users_are_as_of_the_end_of_the_day(shop: Profile, tmp_path: Path) -> None:
    put(shop, "users/u.csv", "who,age", "bob,40", "ann,30")
    put(shop, f"users/bizdate={DAY}/u.csv", "who,age", "ann,31", "cat,")
    before = entities(shop, tmp_path / "out", "users", "2026-01-04")
    assert before.to_numpy().tolist() == [["ann", 30], ["bob", 40]]
    after = entities(shop, tmp_path / "out", "users").fillna(-1)
    assert after.to_numpy().tolist() == [["ann", 31], ["bob", 40], ["cat", -1]]


def test_texts_are_split_at_the_separator_and_empty_parts_dropped(shop: Profile, tmp_path: Path) -> None:
    put(shop, "items/i.csv", "what,tags", "x,a;;b;", "y,")
    assert [list(tags) for tags in entities(shop, tmp_path / "out", "items").tags] == [["a", "b"], []]


def test_a_parquet_column_of_categories_is_read_as_its_values(shop: Profile, tmp_path: Path) -> None:
    put(shop, "users/u.csv", "who,age", "ann,30")
    frame = pd.DataFrame({"what": ["x", "y"], "tags": ["a;b", "a"]}).astype("category")
    frame.to_parquet(shop.landing / "items.parquet")
    (shop.landing / "items").mkdir()
    (shop.landing / "items.parquet").rename(shop.landing / "items" / "i.parquet")
    assert [list(tags) for tags in entities(shop, tmp_path / "out", "items").tags] == [["a", "b"], ["a"]]


def test_the_same_files_give_the_same_bytes(shop: Profile, tmp_path: Path) -> None:
    put(shop, "users/u.csv", "who,age", *(f"u{n},{n}" for n in range(50)))
    put(shop, "items/i.csv", "what,tags", "x,a")
    lines = [f"u{n % 60},x,2026-01-05 10:{n // 60:02}:{n % 60:02},{n % 2}" for n in range(3000)]
    put(shop, f"interactions/bizdate={DAY}/e.csv", "who,what,at,clicked", *lines)
    one, other = tmp_path / "one", tmp_path / "other"
    assert events(shop, one) == events(shop, other) == {"rows": 2500, "user_id is unknown": 500}
    for file in (ROWS, REJECTED):
        assert (one / file).read_bytes() == (other / file).read_bytes()
