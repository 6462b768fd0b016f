"""Generates nearly valid profiles: mutations of valid ones, which get past the first checks.

`python -m recsys_assets_tests.profile_fuzz 2000` tries that many and prints the failures; a test tries a few.
"""

import contextlib
import copy
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from recsys_assets.arrays import Ints
from recsys_assets.cli.errors import plain_errors
from recsys_assets.datasets.duck import connect, scan, write_parquet
from recsys_assets.datasets.ingest import ROWS, ingest_entities, ingest_events, load_known_ids
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.datasets.splits import sample_rows, split, split_rows
from recsys_assets.features.history import sample_query
from recsys_assets.features.history_table import build_history
from recsys_assets.features.leakage import count_leaking_rows

DAYS, SLOW = ["2026-01-01", "2026-01-02", "2026-01-03"], 5.0
START = 1767225600
VALID: dict[str, Any] = {
    "name": "fuzz",
    "first_bizdate": DAYS[0],
    "landing": "landing",
    "tables": {
        "interactions": {
            "user_id": "int64",
            "item_id": "int64",
            "rating": {"type": "float32", "min": 1, "max": 5},
            "action": "string",
            "timestamp": "timestamp",
        },
        "users": {"user_id": "int64", "gender": "string", "age": "int64"},
        "items": {"item_id": "int64", "title": "string", "year": "int64", "genres": "strings"},
    },
    "label": "rating > 3",
    "rating": "rating",
    "features": {
        "categorical": ["user_id", "item_id", "gender"],
        "multi_valued": ["genres"],
        "numeric": ["year", "age"],
        "log": ["year"],
        "crosses": [["gender", "genres"]],
        "terms": {"column": "genres", "window": 5},
        "affinity": {"width": 2, "folds": 2},
    },
    "split": {"strategy": "per_user_tail", "online_last_n": 1, "test_ratio": 0.2, "validation_ratio": 0.3},
    "bounds": {"max_rejected_rate": 1.0},
}
ROWS_ALONE = {
    **{key: VALID[key] for key in ("name", "first_bizdate", "landing", "label", "bounds")},
    "tables": {"interactions": {**VALID["tables"]["interactions"], "age": "int64"}},
    "features": {"categorical": ["action"], "numeric": ["age"]},
    "split": {"strategy": "by_day", "test_days": 1, "validation_days": 1},
}
TYPES = ["int64", "float32", "string", "strings", "timestamp"]
WORDS = """
    label part position n day row seq file reason oracle value id since why place found landed coming malformed ranked
    user item users items history events factors affinities term terms item_terms t0 t1 all none true false select from
    where order group table case end rate user_n item_n user_rate item_rate base_rate above_item counted rated offline
    expected asked chosen running everyone splits placed known_user age first width before edges score vector queryid
    _id bizdate price.usd $cost Title TITLE Day raw_age raw_rating rowid filename index columns indices numeric view
    div linear ünï 0x 1 user_count item_count recent_liked timestamp user_id item_id a-b ' a"b it's null no 日本
    """.split()  # noqa: SIM905 (with one word per line it would be a hundred lines)
RULES = [
    "rating >= 4",
    "rating > 3 AND action = 'like'",
    "action IN ('like', 'view')",
    "timestamp > '2026-01-01'",
    "rating",
    "action > 3",
    "rating > 3;",
    "length(action) > 2",
    "CASE WHEN rating > 3 THEN true END",
    "user_id * user_id > 9",
    "rating / (rating - 3) > 1",
    "NOT rating IS NULL",
    "random() > 0.5",
    "count(*) > 1",
    "(SELECT 1) > 0",
    "rating > 1e400",
    "label > 3",
    "age > 3",
    "1 = 1",
    "try_cast(action AS INT) > 3",
    "action::INT > 3",
    "regexp_matches(action, '[')",
    "rating BETWEEN 1 AND 3",
    "((rating)) > 3",
    "sqrt(rating - 4) > 1",
    "ln(rating - 3) > 0",
    "rating % 0 = 1",
    "user_id // 0 = 1",
    "left(action, -1) = 'x'",
]
NUMBERS = [
    0,
    -1,
    1,
    3,
    5,
    1.5,
    -0.0,
    1e-7,
    1e37,
    1e39,
    2**53 + 1,
    2**63,
    10**30,
    float("nan"),
    float("inf"),
    True,
    None,
    "3",
]
ODD = [
    *NUMBERS,
    True,
    None,
    "3",
    "",
    [],
    {},
    ["a"],
    {"a": 1},
    "${HOME}",
    "${GONE}",
    "${GONE:-x}",
    "2026-01-01",
    "x" * 300,
]


def mutated(draw: random.Random) -> tuple[dict[str, Any], list[str]]:
    """A valid profile with one to three changes, and a list of these changes."""
    profile = copy.deepcopy(draw.choice([VALID, VALID, VALID, ROWS_ALONE]))
    done = []
    for _ in range(draw.choice([1, 1, 1, 2, 2, 3])):
        change = draw.choice(CHANGES)
        done.append(change.__name__)
        # An earlier change may have removed the target of this one.
        with contextlib.suppress(AttributeError, LookupError, TypeError, ValueError):
            change(draw, profile)
    return profile, done


def _table(draw: random.Random, profile: dict[str, Any]) -> dict[str, Any]:
    return dict(profile["tables"])[draw.choice(list(profile["tables"]))]  # type: ignore[no-any-return]


def add_column(draw: random.Random, profile: dict[str, Any]) -> None:
    _table(draw, profile)[draw.choice(WORDS)] = draw.choice(TYPES)


def rename_column(draw: random.Random, profile: dict[str, Any]) -> None:
    """Rename a column in all places, as a person would."""
    old, new = draw.choice(["rating", "action", "gender", "age", "year", "genres", "title"]), draw.choice(WORDS)
    text = yaml.safe_dump(profile).replace(old, new if new.isidentifier() else f"c{len(new)}")
    profile.update(yaml.safe_load(text))


def give_landed_name(draw: random.Random, profile: dict[str, Any]) -> None:
    columns = _table(draw, profile)
    name = draw.choice(list(columns))
    kind = columns[name]["type"] if isinstance(columns[name], dict) else columns[name]
    columns[name] = {"type": kind, "column": draw.choice(WORDS)}


def change_type(draw: random.Random, profile: dict[str, Any]) -> None:
    columns = _table(draw, profile)
    columns[draw.choice(list(columns))] = draw.choice(TYPES)


def bound_column(draw: random.Random, profile: dict[str, Any]) -> None:
    bounds = {draw.choice(["min", "max"]): draw.choice(NUMBERS) for _ in range(2)}
    columns = _table(draw, profile)
    columns[draw.choice(list(columns))] = {"type": draw.choice(["int64", "float32"]), **bounds}


def separate(draw: random.Random, profile: dict[str, Any]) -> None:
    columns = _table(draw, profile)
    columns["tags"] = {"type": "strings", "separator": draw.choice(["|", ",", "", "'", "''", "\\", "%", "日", " "])}


def relabel(draw: random.Random, profile: dict[str, Any]) -> None:
    profile["label"] = draw.choice(RULES)


def point(draw: random.Random, profile: dict[str, Any]) -> None:
    columns = list(profile["tables"]["interactions"])
    profile[draw.choice(["rating", "oracle"])] = draw.choice([*columns, draw.choice(WORDS)])


def list_feature(draw: random.Random, profile: dict[str, Any]) -> None:
    columns = [name for table in profile["tables"].values() for name in table]
    chosen = draw.choice(["categorical", "multi_valued", "numeric", "log"])
    profile["features"].setdefault(chosen, []).append(draw.choice([*columns, draw.choice(WORDS)]))


def cross(draw: random.Random, profile: dict[str, Any]) -> None:
    names = [*profile["features"]["categorical"], *profile["features"].get("multi_valued", []), "year", "gone"]
    profile["features"]["crosses"] = [draw.choices(names, k=draw.choice([1, 2, 2, 2, 3])) for _ in range(2)]


def odd_value(draw: random.Random, profile: dict[str, Any]) -> None:
    """Put an arbitrary value at an arbitrary key."""
    place: Any = profile
    while True:
        key = draw.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if not isinstance(place[key], dict | list) or not place[key] or draw.random() < 0.3:
            place[key] = draw.choice(ODD)
            return
        place = place[key]


def drop(draw: random.Random, profile: dict[str, Any]) -> None:
    part = draw.choice([profile, profile["features"], profile["tables"], _table(draw, profile)])
    if part:
        del part[draw.choice(list(part))]


def resplit(draw: random.Random, profile: dict[str, Any]) -> None:
    strategy = draw.choice(["per_user_tail", "leave_last_n", "by_day"])
    numbers = {key: draw.choice([0, 1, 2, 10**6, 10**7]) for key in ("online_last_n", "test_last_n", "test_days")}
    profile["split"] = {"strategy": strategy, **dict(draw.sample(list(numbers.items()), 2))}


CHANGES: list[Callable[[random.Random, dict[str, Any]], None]] = [
    add_column,
    add_column,
    rename_column,
    rename_column,
    give_landed_name,
    change_type,
    bound_column,
    separate,
    relabel,
    relabel,
    point,
    list_feature,
    cross,
    odd_value,
    odd_value,
    drop,
    resplit,
]


def land(profile: Profile) -> None:
    """Land a few tiny days of every table, in the types that the profile declares."""
    for table, columns in profile.tables.items():
        for number, day in enumerate(DAYS if table == "interactions" else [""]):
            numbers = np.arange(10) if not day else np.arange(20) + 20 * number
            rows = {spec.column or name: _values(name, spec.type, numbers, day) for name, spec in columns.items()}
            folder = profile.landing / table / (f"bizdate={day}" if day else "")
            folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table(rows), folder / "part.parquet")


def _values(name: str, kind: str, numbers: Ints, day: str) -> pa.Array:
    """Values derived from the row numbers; ids are those of the users and items."""
    if name in ("user_id", "item_id"):
        numbers = numbers * (1 if name == "user_id" else 7) % 10
    match kind:
        case "timestamp":
            return pa.array(START + 86_400 * (DAYS.index(day) if day else 0) + numbers)
        case "string":
            return pa.array([str(n) if name.endswith("_id") else ("like", "view", "7")[n % 3] for n in numbers])
        case "strings":
            return pa.array([[f"t{n % 4}"] * (n % 3) for n in numbers])
        case "float32":
            return pa.array((numbers % 5 + 1).astype(np.float32))
    return pa.array(numbers if name.endswith("_id") else numbers % 5 + 1)


def use(profile: Profile, folder: Path) -> str:
    """Ingest the days, split them and, with users, build the features; returns how far it came."""
    land(profile)
    with connect(folder) as connection:
        for table in [name for name in profile.tables if name != "interactions"]:
            (folder / table).mkdir()
            ingest_entities(connection, profile, table, DAYS[-1], folder / table)
        load_known_ids(connection, profile, DAYS[-1])
        for day in DAYS:
            (folder / day).mkdir()
            ingest_events(connection, profile, day, folder / day)
        events = [folder / day / ROWS for day in DAYS]
        if not profile.has_entities:
            split_rows(connection, profile, events, DAYS[-1])
            write_parquet(connection, sample_rows(profile, events, DAYS[-1], "test"), folder / "test.parquet")
            return "rows"
        split(connection, profile, events, DAYS[-1])
        splits, users, items = folder / "splits.parquet", folder / "users" / ROWS, folder / "items" / ROWS
        write_parquet(connection, "SELECT * FROM splits ORDER BY user_id, position", splits)
        write_samples(connection, profile, splits, users, items, folder)
    return "samples"


def write_samples(connection: Any, profile: Profile, splits: Path, users: Path, items: Path, folder: Path) -> None:
    """Write the samples, and check that they use only the past."""
    from recsys_assets.features.pair_feature_files import Sources, write_pair_features

    (folder / "factors").mkdir()
    write_pair_features(connection, profile, Sources(splits, users, items), folder / "factors")
    build_history(connection, profile, splits, users, items)
    files = {part: folder / f"{part}.parquet" for part in ("train", "validation", "test")}
    for part, file in files.items():
        query = sample_query(profile, users, items, folder / "factors" / ROWS, part)
        write_parquet(connection, query, file)
    assert count_leaking_rows(connection, splits, scan(list(files.values()))) == 0


def attempt(seed: int) -> tuple[str, str]:
    """Load and use the profile of a seed; returns how it ended, and what was wrong with that, if anything."""
    draw = random.Random(seed)
    content, changes = mutated(draw)
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "fuzz.yaml"
        text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
        path.write_text(text.replace("landing: landing", f"landing: {home}/landing"), encoding="utf-8")
        start, ended, wrong = time.process_time(), "", ""
        try:
            profile = load_profile(str(path))
            ended = use(profile.model_copy(update={"landing": Path(home) / "landing"}), Path(home))
        except Exception as error:
            ended, wrong = type(error).__name__, _unnamed(error, path)
        if time.process_time() - start > SLOW:
            wrong = f"took {time.process_time() - start:.1f} s"
    return ended, f"seed {seed}, {', '.join(changes)}: {wrong}" if wrong else ""


def _unnamed(error: Exception, path: Path) -> str:
    """The problem with an error: it is not one of the package's, or it is a profile error that names no place."""
    import click

    try:
        with plain_errors(lambda: "a try"):
            raise error
    except click.ClickException as named:
        said = str(named)
        fault = "\n" in said or (type(error).__name__ == "ProfileError" and f"{path}, line " not in said)
        return f"says {said!r}" if fault else ""
    except Exception:
        return f"{type(error).__name__}: {str(error)[:300]}"


def main() -> None:
    """Try as many profiles as the command line says."""
    count, ends = int(sys.argv[1]), Counter[str]()
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    for seed in range(first, first + count):
        ended, wrong = attempt(seed)
        ends[ended] += 1
        if wrong:
            print(wrong, flush=True)  # noqa: T201
    print(dict(ends))  # noqa: T201


if __name__ == "__main__":
    main()
