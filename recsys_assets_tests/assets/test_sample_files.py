"""Where parts are whole days, samples take over the files of earlier days, and write those of their own days."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from recsys_assets.datasets.names import DRAW_LOG_RATE, DRAWN
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.row_files import column_names, read_columns
from recsys_assets.features.pair_features import MODEL_INPUTS
from recsys_assets.lake import Lake
from recsys_assets.ranking.sample_parts import RANKED_PARTS, files_by_part, part_files
from recsys_assets_tests.helpers.in_process import failed_checks, failures, materialize
from recsys_assets_tests.helpers.shop import DAY, GOOD, OWN, PARQUET, frame, lake, put, put_days, shop

__all__ = ["lake", "shop"]  # fixtures
DAYS = [f"2026-01-{day:02}" for day in range(5, 12)]  # an eighth would change the unit of ratings
SAMPLES = ["rank_samples", "touch_samples"]
MADE = ["users", "items", "splits", "event_features", "factors", *SAMPLES, "feature_schema"]
FITTED = [feature.name for feature in MODEL_INPUTS]
KEYS = [("user_id", "ascending"), ("timestamp", "ascending"), ("item_id", "ascending")]


def make(*days: str) -> None:
    """Build some days in turn, after `interactions` of all days."""
    assert failures(materialize(["interactions"], DAYS[0], DAYS[-1])) == {}
    for day in days:
        result = materialize(MADE, day)
        assert (failures(result), failed_checks(result)) == ({}, set())


def names(lake: Lake, day: str, asset: str = "rank_samples") -> dict[str, list[str]]:
    """The days of each part's files."""
    return {
        part: [file.removesuffix(".parquet") for file in files]
        for part, files in files_by_part(lake.manifest(asset, day)).items()
    }


def span(first: int, last: int) -> str:
    return f"{DAYS[first]}_{DAYS[last]}"


def rows(lake: Lake, day: str, part: str, asset: str = "rank_samples") -> pa.Table:
    """A part's events in one order, without what depends on the days that a day was fitted, or drawn, together with."""
    files = part_files(lake.read(asset, day), part)
    found = read_columns(files, column_names(files))
    events = found.filter(~pc.field(DRAWN)) if DRAWN in found.column_names else found
    known = events.drop_columns([*FITTED, *({DRAW_LOG_RATE} & {*found.column_names})]).sort_by(KEYS)
    return known.cast(pa.schema([field.with_nullable(True) for field in known.schema]))


def is_shared(lake: Lake, one: str, other: str, file: str, asset: str = "rank_samples") -> bool:
    """Whether two partitions have a file in common, not two copies."""
    return lake.read(asset, one).path(file).samefile(lake.read(asset, other).path(file))


def test_a_later_day_takes_over_files_and_moves_them_between_parts(shop: Profile, lake: Lake) -> None:
    put_days(shop, 0, 7)
    make(DAYS[3], DAYS[4], DAYS[6])
    assert names(lake, DAYS[3]) == {"train": [span(0, 1)], "validation": [span(2, 2)], "test": [span(3, 3)]}
    train = [span(0, 1), span(2, 2)]
    assert names(lake, DAYS[4]) == {"train": train, "validation": [span(3, 3)], "test": [span(4, 4)]}
    train = [*train, span(3, 3), span(4, 4)]
    assert names(lake, DAYS[6]) == {"train": train, "validation": [span(5, 5)], "test": [span(6, 6)]}
    for asset in SAMPLES:
        for before, after, file in ((3, 6, span(0, 1)), (3, 4, span(2, 2)), (4, 6, span(3, 3))):
            assert is_shared(lake, DAYS[before], DAYS[after], f"{file}.parquet", asset)
        assert not is_shared(lake, DAYS[3], DAYS[4], f"{span(3, 3)}.parquet", asset), (
            "validation has the newest factors"
        )
    assert f"rank_samples/{DAYS[4]}" in lake.manifest("rank_samples", DAYS[6]).upstream


def test_parts_have_the_rows_that_one_build_of_the_day_gives(
    shop: Profile, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_days(shop, 0, 7)
    make(*DAYS[3:])
    monkeypatch.setenv("RECSYS_LAKE", str(tmp_path / "other"))
    make(DAYS[6])
    other = Lake.of(str(tmp_path / "other"), shop)
    assert names(other, DAYS[6])["train"] == [span(0, 4)]
    for asset in SAMPLES:
        for part in RANKED_PARTS:
            assert rows(lake, DAYS[6], part, asset).equals(rows(other, DAYS[6], part, asset))


def test_a_corrected_day_is_written_again_with_all_later_ones(shop: Profile, lake: Lake) -> None:
    put_days(shop, 0, 7)
    make(*DAYS[3:6])
    corrected = [(user, item, 6 - rating, time + 4 * 86_400) for user, item, rating, time in GOOD]
    put(shop, PARQUET.replace(DAY, DAYS[4]), frame(*corrected))
    make(DAYS[6])
    assert names(lake, DAYS[6])["train"] == [span(0, 1), span(2, 2), span(3, 3), span(4, 4)]
    assert is_shared(lake, DAYS[3], DAYS[6], f"{span(3, 3)}.parquet")
    assert not is_shared(lake, DAYS[5], DAYS[6], f"{span(4, 4)}.parquet")


def test_the_files_stay_when_the_partition_that_wrote_them_is_gone(shop: Profile, lake: Lake) -> None:
    put_days(shop, 0, 7)
    make(DAYS[3], DAYS[4])
    before = rows(lake, DAYS[4], "train")
    lake.remove("rank_samples", DAYS[3])
    assert rows(lake, DAYS[4], "train").equals(before)
    make(DAYS[5])
    assert is_shared(lake, DAYS[4], DAYS[5], f"{span(0, 1)}.parquet")


def test_a_damaged_earlier_partition_is_not_taken_over(shop: Profile, lake: Lake) -> None:
    put_days(shop, 0, 7)
    make(DAYS[3])
    file = lake.read("rank_samples", DAYS[3]).path(f"{span(0, 1)}.parquet")
    file.write_bytes(file.read_bytes()[:-1])
    make(DAYS[4])
    assert names(lake, DAYS[4])["train"] == [span(0, 2)]


def test_where_parts_are_not_whole_days_each_is_one_file(
    shop: Profile, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tail = "split: {strategy: per_user_tail, validation_ratio: 0.3}"
    (tmp_path / "tail.yaml").write_text(OWN.replace("split: {strategy: by_day}", tail))
    monkeypatch.setenv("RECSYS_PROFILE", str(tmp_path / "tail.yaml"))
    put_days(shop, 0, 7)
    make(DAYS[5], DAYS[6])
    assert names(lake, DAYS[6]) == {part: [part] for part in RANKED_PARTS}
