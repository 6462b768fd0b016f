"""Column names: those that the platform creates are reserved; all others work, whatever names its SQL uses."""

import copy
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from recsys_assets.datasets import names
from recsys_assets.datasets.duck import connect, scan
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.features.history import item_query, user_query
from recsys_assets.features.history_table import build_history
from recsys_assets.features.pair_feature_files import ITEM_FILE, USER_FILE
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.profile_fuzz import VALID, use

KEYS = {"user_id", "item_id", "timestamp"}


def loaded(content: dict[str, Any], folder: Path) -> Profile:
    (folder / "own.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return load_profile(str(folder / "own.yaml")).model_copy(update={"landing": folder / "landing"})


def columns(file: Path) -> set[str]:
    return set(pq.read_schema(file).names)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Profile, Path]:
    """A small generated data set, with everything built from it up to the samples."""
    folder = tmp_path_factory.mktemp("built")
    profile = loaded({**VALID, "oracle": "rating"}, folder)
    assert use(profile, folder) == "samples"
    return profile, folder


def test_every_name_that_ingest_and_splits_make_is_reserved(built: tuple[Profile, Path]) -> None:
    profile, folder = built
    own = profile.tables["interactions"].keys()
    made = (columns(folder / "2026-01-01" / ROWS) | columns(folder / "splits.parquet")) - own
    assert made == {"seq", "label", "position", "part"} <= names.OF_EVENTS


def test_every_name_that_the_features_make_is_reserved(built: tuple[Profile, Path]) -> None:
    profile, folder = built
    own = {*profile.features.columns, *KEYS, profile.oracle}
    files = [folder / ROWS for ROWS in ("train.parquet", "factors/data.parquet", "factors/users.parquet")]
    made = set.union(*map(columns, files), columns(folder / "factors" / ITEM_FILE)) - own
    users, items = (folder / table / ROWS for table in ("users", "items"))
    with connect(folder) as connection:
        build_history(connection, profile, folder / "splits.parquet", users, items)
        for query in (
            user_query(profile, users, folder / "factors" / USER_FILE),
            item_query(profile, items, folder / "factors" / ITEM_FILE),
        ):
            made |= {column[0] for column in connection.execute(query).description or []} - own
    assert {"user_count", "item_rating_std", "user_term_bias", "recent_liked", "user_factors", "label"} <= made
    assert made <= names.OF_ENTITIES


def test_a_column_may_be_called_as_the_platforms_sql_calls_its_own(tmp_path: Path) -> None:
    """The names are used in all tables at once, and as features of users."""
    files = [path for suffix in ("py", "sql") for path in (PROJECT / "recsys_assets").rglob(f"*.{suffix}")]
    said = re.compile(r"\b(?:AS|FROM|JOIN|WITH|BY) \(?(\w+)")
    called = {word.lower() for path in files for word in said.findall(path.read_text(encoding="utf-8"))}
    own = {name for table in VALID["tables"].values() for name in table}
    free = sorted(called - names.OF_ENTITIES - own)
    assert {"id", "value", "since", "n", "place"} & set(free)
    content = copy.deepcopy(VALID)
    for table in content["tables"].values():
        table.update(dict.fromkeys(free, "int64"))
    content["tables"]["users"] |= {"timestamp": "timestamp"}
    content["tables"]["items"] |= {"timestamp": "timestamp"}
    profile = loaded(content, tmp_path)
    assert use(profile, tmp_path) == "samples"

    content["tables"]["items"] = VALID["tables"]["items"]
    content["features"]["numeric"] += free
    (tmp_path / "features").mkdir()
    profile = loaded(content, tmp_path / "features")
    assert use(profile, tmp_path / "features") == "samples"
    with connect(tmp_path) as connection:
        train = scan([tmp_path / "features" / "train.parquet"])
        found = connection.sql(f"SELECT * FROM {train}").columns
    assert set(free) <= {*found}
