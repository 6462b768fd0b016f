"""`recsys verify` finds days that were built one after the other equal to a rebuild, and names what is not."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from recsys_assets.cli import main
from recsys_assets.datasets.folders import file_hash
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.features.history_state import USER_SUMS
from recsys_assets.manifest import MANIFEST
from recsys_assets.ranking.sample_parts import files_by_part
from recsys_assets_tests.helpers.counted_world import FEATURES, RECALL, STATE, build
from recsys_assets_tests.helpers.shop import bytes_in
from recsys_assets_tests.helpers.worlds import DAY, YESTERDAY, World, copy_of, world_in


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_in(copy_of("counted_world", build, tmp_path_factory)) as world:
        yield world


def verify(*options: str) -> Result:
    return CliRunner().invoke(main, ["verify", *options], env={"COLUMNS": "200"})


def keep_only(world: World, *assets: str) -> None:
    """Remove all other assets: the fewer there are, the less is built again."""
    for asset in world.lake.assets():
        if asset not in ("interactions", *assets):
            shutil.rmtree(Path(world.lake.folder) / asset)


def plant(world: World, asset: str, day: str, file: str, column: str, *, sealed: bool) -> None:
    """Add 1 to the first value of a column; `sealed`: the manifest has the hash of the new file."""
    folder = Path(world.lake.location(asset, day))
    table = pq.read_table(folder / file)
    values = table[column].combine_chunks()
    changed = pa.concat_arrays([pc.add(values[:1], pa.scalar(1, values.type)), values[1:]])
    pq.write_table(table.set_column(table.column_names.index(column), column, changed), folder / file)
    if sealed:
        manifest = world.lake.manifest(asset, day)
        manifest.files[file] = file_hash(folder / file)
        (folder / MANIFEST).write_text(manifest.seal().to_json())


def test_a_day_that_extended_the_day_before_is_equal_and_nothing_changes(world: World) -> None:
    assert list(world.lake.manifest("event_features", DAY).extended) == [f"event_features/{YESTERDAY}"]
    before = bytes_in(world.home)
    done = verify()
    assert done.exit_code == 0, done.output
    for asset in ("interactions", *STATE, *FEATURES[1:], *RECALL):
        (row,) = [line for line in done.output.splitlines() if asset in line.split()]
        assert "equal" in row
    assert f"taken from the lake as it is: factors {DAY}" in done.output
    assert bytes_in(world.home) == before


def test_a_changed_value_is_named_with_its_file_and_column(world: World) -> None:
    keep_only(world, *STATE, "factors", "rank_samples", "recall_samples", "negative_items", "item_features")
    plant(world, "event_features", YESTERDAY, ROWS, "user_count", sealed=False)
    plant(world, "event_features", DAY, f"{USER_SUMS}.parquet", "n", sealed=True)
    (test,) = files_by_part(world.lake.manifest("rank_samples", DAY))["test"]
    plant(world, "rank_samples", DAY, test, "label", sealed=True)
    (Path(world.lake.location("negative_items", DAY)) / "negative_items.tsv").write_text("nothing\n")
    (Path(world.lake.location("item_features", DAY)) / MANIFEST).write_text("{}")
    before = bytes_in(world.home)
    done = verify()
    assert done.exit_code == 1
    for name in (
        f"event_features/{YESTERDAY}/{ROWS}: user_count",
        f"event_features/{DAY}/{USER_SUMS}.parquet: n",
        f"rank_samples/{DAY}/test: label",
        f"negative_items/{DAY}/negative_items.tsv: has other bytes",
        f"item_features/{DAY}/{MANIFEST}: is missing or cannot be read",
    ):
        assert name in done.output
    assert "5 files are not what the landing files give" in done.output
    assert bytes_in(world.home) == before


def test_a_day_that_landed_again_is_named_and_one_whose_files_are_gone_is_taken(world: World) -> None:
    keep_only(world, *STATE, "factors", "rank_samples")
    first, second = world.lake.bizdates("interactions")[:2]
    (kept,) = (world.profile.landing / "interactions" / f"bizdate={first}").glob("*.parquet")
    (gone,) = (world.profile.landing / "interactions" / f"bizdate={second}").glob("*.parquet")
    rows = pq.read_table(kept)
    place, moved = rows.column_names.index("timestamp"), pc.add(rows["timestamp"][:1], 1)
    pq.write_table(pa.concat_tables([rows, rows[:1].set_column(place, "timestamp", moved)]), kept)
    gone.unlink()
    done = verify()
    assert done.exit_code == 1
    assert f"interactions/{first}/{ROWS}: {len(rows):,} rows instead of {len(rows) + 1:,}" in done.output
    assert f"taken from the lake as it is: interactions {second}, factors {DAY}" in done.output
    assert "not compared, as they cannot be built from rows that differ from the lake's: rank_samples: " in done.output
    assert f"run `recsys refresh --bizdate {DAY}`, then verify again" in done.output


@pytest.mark.usefixtures("world")
def test_a_bizdate_that_is_not_there_is_refused() -> None:
    done = verify("--bizdate", "2026-01-01")
    assert done.exit_code == 1
    assert "no events up to 2026-01-01" in done.output
