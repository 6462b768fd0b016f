"""Each day describes its own rows, on top of the days whose rows are still the oldest; readers take all of them."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from recsys_assets.datasets.duck import connect, scan
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import Profile
from recsys_assets.features.history_state import ITEM_SUMS, NEWEST, USER_SUMS
from recsys_assets.features.history_table import SNAPSHOTS, extend_history, known_rows, offer_rows, read_rule
from recsys_assets.features.leakage import count_wrong_sums
from recsys_assets.lake import Lake
from recsys_assets.manifest import Partition
from recsys_assets_tests.helpers.in_process import failed_checks, failures, materialize
from recsys_assets_tests.helpers.shop import DAY, GOOD, OWN, PARQUET, frame, lake, put, put_days, shop

__all__ = ["lake", "shop"]  # fixtures
DAYS = ["2026-01-05", "2026-01-06", "2026-01-07", "2026-01-08", "2026-01-09", "2026-01-10"]
MADE = ["users", "items", "splits", "event_features"]
A_DAY = len(GOOD)


def make(*days: str) -> None:
    """Build some days in turn, after `interactions` of all days."""
    assert failures(materialize(["interactions"], DAYS[0], DAYS[-1])) == {}
    for day in days:
        result = materialize(MADE, day)
        assert (failures(result), failed_checks(result)) == ({}, set())


def parts(lake: Lake, day: str) -> dict[str, int]:
    """The rows of a day's partition and of those that it extends, by bizdate."""
    made = lake.read("event_features", day)
    chain = [lake.read(*name.split("/")) for name in sorted(made.manifest.extended)]
    return {each.manifest.bizdate: each.manifest.rows or 0 for each in [*chain, made]}


def described_at_once(lake: Lake, profile: Profile, day: str, folder: Path) -> Path:
    folder.mkdir()
    splits, users, items = (lake.read(asset, day).path(ROWS) for asset in ("splits", "users", "items"))
    with connect(folder) as connection:
        rule = read_rule(connection, profile, splits, items)
        offer_rows(connection, profile, rule, items, known_rows(splits))
        extend_history(connection, profile, rule, users, items, None, folder)
    return folder


def table(files: Sequence[Path]) -> pa.Table:
    with connect(*(file.parent for file in files)) as connection:
        return connection.sql(f"FROM {scan(files)} ORDER BY ALL").to_arrow_table()


def check_exact(lake: Lake, profile: Profile, day: str, folder: Path) -> None:
    """The rows of all days, the state and the snapshots are those of all rows described at once."""
    once = described_at_once(lake, profile, day, folder)
    files = [lake.read("event_features", each).path(ROWS) for each in parts(lake, day)]
    assert table(files).equals(table([once / ROWS]))
    made = lake.read("event_features", day)
    for file in (SNAPSHOTS, *(f"{each}.parquet" for each in (USER_SUMS, ITEM_SUMS, NEWEST))):
        assert table([made.path(file)]).equals(table([once / file])), file


def test_a_day_describes_its_own_rows_alone(shop: Profile, lake: Lake, tmp_path: Path) -> None:
    put_days(shop, 0, 6)
    make(*DAYS[3:])
    assert parts(lake, DAYS[3]) == {DAYS[3]: 4 * A_DAY}
    assert parts(lake, DAYS[5]) == {DAYS[3]: 4 * A_DAY, DAYS[4]: A_DAY, DAYS[5]: A_DAY}
    check_exact(lake, shop, DAYS[5], tmp_path / "once")


def test_a_corrected_day_is_described_again_with_all_later_ones(shop: Profile, lake: Lake, tmp_path: Path) -> None:
    put_days(shop, 0, 6)
    make(*DAYS[3:])
    before = lake.manifest("event_features", DAYS[5])
    corrected = [(user, item, 6 - rating, time + 4 * 86_400) for user, item, rating, time in GOOD]
    put(shop, PARQUET.replace(DAY, DAYS[4]), frame(*corrected))
    assert failures(materialize(["interactions"], DAYS[4])) == {}
    assert lake.outdated_inputs(before) == [f"interactions/{DAYS[4]}"]
    make(DAYS[5])
    assert parts(lake, DAYS[5]) == {DAYS[3]: 4 * A_DAY, DAYS[5]: 2 * A_DAY}
    check_exact(lake, shop, DAYS[5], tmp_path / "once")


def test_without_earlier_days_all_rows_are_described_at_once(shop: Profile, lake: Lake) -> None:
    put_days(shop, 0, 6)
    make(DAYS[4], DAYS[5], DAYS[3])
    assert parts(lake, DAYS[3]) == {DAYS[3]: 4 * A_DAY}
    shutil.rmtree(lake.read("event_features", DAYS[4]).folder)
    assert lake.outdated_inputs(lake.manifest("event_features", DAYS[5])) == [f"event_features/{DAYS[4]}"]
    make(DAYS[5])
    assert parts(lake, DAYS[5]) == {DAYS[3]: 4 * A_DAY, DAYS[5]: 2 * A_DAY}


def test_other_terms_of_an_item_describe_all_its_rows_again(shop: Profile, lake: Lake) -> None:
    put_days(shop, 0, 6)
    put(shop, f"items/bizdate={DAYS[5]}/items.csv", "item_id,title,genres\n10,Title 10,drama\n")
    make(DAYS[3], DAYS[4], DAYS[5])
    assert parts(lake, DAYS[4]) == {DAYS[3]: 4 * A_DAY, DAYS[4]: A_DAY}
    assert parts(lake, DAYS[5]) == {DAYS[5]: 6 * A_DAY}


def test_where_each_user_has_online_rows_every_day_describes_all(
    shop: Profile, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tail = "split: {strategy: per_user_tail, online_last_n: 2, validation_ratio: 0.3}"
    (tmp_path / "tail.yaml").write_text(OWN.replace("split: {strategy: by_day}", tail))
    monkeypatch.setenv("RECSYS_PROFILE", str(tmp_path / "tail.yaml"))
    for number, day in enumerate(DAYS):  # user 1 comes last, when the others are online already
        later = [(*row[:3], row[3] + 86_400 * number + (43_200 if row[0] == 1 else 0)) for row in GOOD]
        put(shop, PARQUET.replace(DAY, day), frame(*later))
    make(DAYS[4], DAYS[5])
    assert parts(lake, DAYS[5]) == {DAYS[5]: 6 * A_DAY - 3 * 2}


def test_sums_of_other_rows_are_found(shop: Profile, lake: Lake, tmp_path: Path) -> None:
    put_days(shop, 0, 6)
    make(DAYS[4], DAYS[5])
    newest: Partition = lake.read("event_features", DAYS[5])
    chain = scan([lake.read("event_features", day).path(ROWS) for day in parts(lake, DAYS[5])])
    with connect(tmp_path) as connection:
        assert count_wrong_sums(connection, chain, newest.folder) == 0
        assert count_wrong_sums(connection, scan([newest.path(ROWS)]), newest.folder) == 3 + 4
