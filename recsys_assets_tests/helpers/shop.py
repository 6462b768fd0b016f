"""A user's own data set `shop`: its profile, valid landing files, and how tests land, ingest and read."""

import datetime as dt
import hashlib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from recsys_assets.datasets.duck import connect
from recsys_assets.datasets.ingest import ROWS, ingest_entities, ingest_events, load_known_ids
from recsys_assets.datasets.landing import empty_until
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.datasets.profile_parts import TableName
from recsys_assets.lake import Lake

DAY = "2026-01-05"
T = 1767571200  # midnight of that day, UTC
HEADER = "user_id,item_id,rating,timestamp"
GOOD = [(1 + n % 3, 10 + n % 4, 1.0 + n % 5, T + 60 * n) for n in range(12)]
LINES = [f"{user},{item},{rating},{time}" for user, item, rating, time in GOOD]
EVENTS = f"interactions/bizdate={DAY}/events"
CSV, PARQUET = f"{EVENTS}.csv", f"{EVENTS}.parquet"
OWN = """
name: shop
first_bizdate: 2026-01-01
landing: ${RECSYS_LANDING}/shop
tables:
  interactions:
    user_id: int64
    item_id: int64
    rating: {type: float32, min: 1, max: 5}
    timestamp: timestamp
  users: {user_id: int64, gender: string, age: int64}
  items: {item_id: int64, title: string, genres: strings}
label: rating > 3
rating: rating
features: {categorical: [gender, age], multi_valued: [genres], terms: {column: genres}, crosses: [[gender, genres]]}
split: {strategy: by_day}
bounds: {max_rejected_rate: 0.2}
"""


def put(profile: Profile, file: str, content: str | bytes | pd.DataFrame) -> Path:
    """Write a landing file: text and bytes unchanged, a frame as Parquet."""
    path = profile.landing / file
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, pd.DataFrame):
        content.to_parquet(path, index=False)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def csv(*lines: str) -> str:
    return "\n".join([HEADER, *lines]) + "\n"


def frame(*rows: tuple[Any, ...], **changed: Any) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=HEADER.split(",")).assign(**changed)


def put_days(profile: Profile, first: int, last: int) -> list[str]:
    """Land valid events for some days, counted from `DAY`; returns the bizdates."""
    bizdates = [str(dt.date.fromisoformat(DAY) + dt.timedelta(days=number)) for number in range(first, last)]
    for number, bizdate in zip(range(first, last), bizdates, strict=True):
        events = [(*row[:3], row[3] + 86_400 * number) for row in GOOD]
        put(profile, f"interactions/bizdate={bizdate}/events.parquet", frame(*events))
    return bizdates


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    """A user's own profile with landed users 1 to 3 and items 10 to 13; item 99 lands only on the day after."""
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path))
    monkeypatch.setenv("RECSYS_LANDING", str(tmp_path / "landing"))
    monkeypatch.setenv("RECSYS_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("RECSYS_PROFILE", str(tmp_path / "shop.yaml"))
    (tmp_path / "shop.yaml").write_text(OWN)
    profile = load_profile()
    put(profile, "users/users.csv", "user_id,gender,age\n1,F,25\n2,M,35\n3,F,\n")
    items = [f"{item},Title {item},drama|comedy\n" for item in range(10, 14)]
    put(profile, "items/items.csv", "item_id,title,genres\n" + "".join(items))
    put(profile, "items/bizdate=2026-01-06/items.csv", "item_id,title,genres\n99,Late,drama\n")
    return profile


@pytest.fixture
def lake(shop: Profile, tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"), shop.name)


def ingest(lake: Lake, profile: Profile, table: TableName = "interactions", day: str = DAY) -> dict[str, int]:
    """Ingest as the asset does: into a partition of the lake, or nothing."""
    with lake.draft(table, day) as draft, connect() as connection:
        if table != "interactions":
            return ingest_entities(connection, profile, table, day, draft.folder)
        load_known_ids(connection, profile, day)
        return ingest_events(connection, profile, day, draft.folder, empty_until=empty_until(profile))


def rows(lake: Lake, table: TableName = "interactions", file: str = ROWS) -> pd.DataFrame:
    return pd.read_parquet(lake.read(table, DAY).path(file))


def bytes_in(folder: Path) -> dict[str, str]:
    """Every file under a folder, including hidden ones, with its hash."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


WHOLE = csv(*LINES)
