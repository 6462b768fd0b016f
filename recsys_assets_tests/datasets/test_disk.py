"""A full or read-only disk is named in the error, no partial file is left, and the next try works."""

import contextlib
import datetime as dt
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click import ClickException
from click.testing import CliRunner

from recsys_assets.cli import main
from recsys_assets.cli.errors import plain_errors
from recsys_assets.datasets.disk import PlaceUnwritable, own_folder, places
from recsys_assets.datasets.landing import land, landed_bizdates
from recsys_assets.datasets.profile import load_profile
from recsys_assets.lake import Lake
from recsys_assets.tracking import Tracking
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.environment import forget_tracking_uri
from recsys_assets_tests.helpers.small_disk import mounted

DAY, TODAY = "2026-01-05", dt.date(2026, 1, 11)
BALLAST = "ballast"
# Writes in one process like two commands: landing, and a run with Dagster's history.
COMMANDS = """
from recsys_assets.cli import main
main(["land", "sample", "--days", "1", "--events", "100", "--to", "2026-01-05"], standalone_mode=False)
import dagster as dg
from recsys_assets_tests.helpers.in_process import materialize
with dg.DagsterInstance.get() as instance:
    assert materialize(["interactions"], "2026-01-05", instance=instance).success
"""
NOISE = np.random.default_rng(20260105).random(2_000_000)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A disk of 4 MB."""
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path / "data"))
    with mounted(tmp_path / "small", "size=4m") as folder:
        yield folder


def fill(disk: Path, leave: int = 0) -> None:
    """Fill a disk except for `leave` bytes."""
    with (disk / BALLAST).open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    os.truncate(disk / BALLAST, max((disk / BALLAST).stat().st_size - leave, 0))


def files_of(disk: Path) -> list[str]:
    return sorted(str(path.relative_to(disk)) for path in disk.rglob("*") if path.is_file() and path.name != BALLAST)


def write_text(path: Path) -> None:
    path.write_text("x" * 16_000_000)


def write_by_arrow(path: Path) -> None:
    pq.write_table(pa.table({"a": NOISE}), path)


def write_by_duckdb(path: Path) -> None:
    duckdb.sql(f"COPY (SELECT random() FROM range(2000000)) TO '{path}' (FORMAT parquet)")


def write_by_numpy(path: Path) -> None:
    np.savez(path, a=NOISE)


def write_by_safetensors(path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"a": NOISE}, path)


def write_by_faiss(path: Path) -> None:
    import faiss

    index = faiss.IndexFlatIP(8)
    index.add(NOISE.astype(np.float32).reshape(-1, 8))
    faiss.write_index(index, str(path))


@pytest.mark.parametrize(
    "write",
    [write_text, write_by_arrow, write_by_duckdb, write_by_numpy, write_by_safetensors, write_by_faiss],
)
def test_a_full_lake_is_named_whoever_writes_and_keeps_the_old_partition(
    small: Path, write: Callable[[Path], None]
) -> None:
    lake = Lake(str(small), "shop")
    with lake.draft("users", DAY) as draft:
        draft.path("a").write_text("old")
    before = files_of(small)
    with (
        pytest.raises(
            PlaceUnwritable,
            match=rf"^the lake is full: {small}/shop/users \(\d\.\d MB of 4.2 MB are free\): make room, or",
        ) as full,
        lake.draft("users", DAY) as draft,
    ):
        write(draft.path("a"))
    assert "set RECSYS_LAKE to another place, then run the command again" in str(full.value)
    assert "\n" not in str(full.value)
    assert files_of(small) == before
    assert lake.read("users", DAY).path("a").read_text() == "old"
    with lake.draft("users", DAY) as draft:
        draft.path("a").write_text("new")
    assert lake.read("users", DAY).path("a").read_text() == "new"


def test_a_manifest_that_does_not_fit_leaves_the_old_partition(small: Path) -> None:
    lake = Lake(str(small), "shop")
    with lake.draft("users", DAY) as draft:
        draft.path("a").write_text("old")
    with pytest.raises(PlaceUnwritable, match="the lake is full"), lake.draft("users", DAY) as draft:
        draft.path("a").write_text("new")
        fill(small)
    (small / BALLAST).unlink()
    assert lake.read("users", DAY).path("a").read_text() == "old"
    assert [path.name for path in (small / "shop" / "users").iterdir()] == [f"bizdate={DAY}"]


def test_a_disk_without_room_for_another_file_says_so(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "few"), "shop")
    with (
        mounted(tmp_path / "few", "size=4m,nr_inodes=20"),
        pytest.raises(PlaceUnwritable, match=r"the lake is full: .* \(no further file fits\): make room"),
        lake.draft("users", DAY) as draft,
    ):
        for number in range(20):
            draft.path(str(number)).touch()


def test_the_full_place_is_named_and_not_the_one_that_was_written_to(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(small))
    with (
        pytest.raises(PlaceUnwritable, match=f"^the temporary folder is full: {small} .*set TMPDIR"),
        Lake(str(tmp_path / "lake"), "shop").draft("users", DAY),
    ):
        write_text(small / "spilled")


def test_a_log_that_does_not_fit_is_not_called_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = tmp_path / "plays.yaml"
    profile.write_text(
        "name: plays\nfirst_bizdate: 2026-01-01\nlanding: ${RECSYS_LANDING}/plays\nlabel: true\n"
        "tables: {interactions: {user_id: int64, item_id: int64, timestamp: timestamp}}\nsplit: {strategy: by_day}\n"
    )
    log = tmp_path / "plays.csv"
    rows = (f"{n * 7919 % 9973},{n * 104729 % 99991},{1_767_600_000 + n * 31 % 86400}" for n in range(40_000))
    log.write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n")
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path / "data"))
    with mounted(tmp_path / "little", "size=128k") as disk:
        monkeypatch.setenv("RECSYS_LANDING", str(disk))
        with pytest.raises(PlaceUnwritable, match=r"^the landing folder is full: .*little.*set RECSYS_LANDING"):
            land(load_profile(str(profile)), source=str(log))
        assert [name for name in files_of(disk) if not name.endswith(".lock")] == []


def test_a_read_only_disk_is_named(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "readable"), "shop")
    with (
        mounted(tmp_path / "readable", "ro"),
        pytest.raises(PlaceUnwritable, match=r"^the lake is on a read-only file system: .* make it writable, or set"),
        lake.draft("users", DAY),
    ):
        pass


def test_a_place_of_someone_else_is_named(tmp_path: Path) -> None:
    if os.getuid():
        pytest.skip("only root can become another user")
    (tmp_path / "theirs").mkdir(mode=0o755)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    os.seteuid(65534)
    try:
        with (
            pytest.raises(PlaceUnwritable, match="^the lake may not be written by this user: .* get the right to"),
            Lake(str(tmp_path / "theirs"), "shop").draft("users", DAY),
        ):
            pass
    finally:
        os.seteuid(0)


def test_a_full_landing_folder_is_named_and_the_next_landing_completes_it(small: Path) -> None:
    profile = load_profile("sample").model_copy(update={"landing": small / "landing"})
    land(profile, today=TODAY, days=2, events=2_000)
    before = files_of(small)
    fill(small, leave=40_000)
    with pytest.raises(PlaceUnwritable, match=r"^the landing folder is full: .* set RECSYS_LANDING"):
        land(profile, first=dt.date(2026, 1, 3), today=TODAY)
    assert files_of(small) == before
    (small / BALLAST).unlink()
    land(profile, first=dt.date(2026, 1, 3), today=TODAY)
    assert landed_bizdates(profile) == [f"2026-01-{day:02}" for day in range(3, 11)]
    assert not list((small / "landing" / "interactions").rglob(".*"))


def test_full_disks_of_mlflow_are_named_and_nothing_of_the_model_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path / "small"))
    forget_tracking_uri(monkeypatch)
    tracking = Tracking(profile="sample")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(bytes(3_000_000))

    @dg.asset(partitions_def=dg.DailyPartitionsDefinition("2026-01-01"))
    def trained(context: dg.AssetExecutionContext) -> None:
        with tracking.run(context, {"seed": 1}):
            tracking.log({"auc": 0.5}, tmp_path / "model", {})

    def run() -> None:
        assert dg.materialize([trained], partition_key=DAY).success

    def artifacts() -> list[str]:
        return [file for file in files_of(tmp_path / "small") if file.startswith("mlflow/")]

    with mounted(tmp_path / "small", "size=8m"):
        run()
        assert len(artifacts()) == 1
        fill(tmp_path / "small", leave=2_000_000)
        with pytest.raises(PlaceUnwritable, match=r"^the folder of MLflow's artifacts is full: .* set RECSYS_DATA"):
            run()
        assert len(artifacts()) == 1
        fill(tmp_path / "small")
        with pytest.raises(PlaceUnwritable, match=r"^MLflow's database is full: .* set MLFLOW_TRACKING_URI"):
            run()
        (tmp_path / "small" / BALLAST).unlink()
        run()
        assert len(artifacts()) == 2


@pytest.fixture
def history(small: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """Dagster's instance on the small disk."""
    shutil.copy(PROJECT / "dagster.yaml", small)
    monkeypatch.setenv("DAGSTER_HOME", str(small))
    with dg.DagsterInstance.get() as instance:
        yield instance


def test_a_history_of_dagster_that_fills_up_in_a_run_is_named(small: Path, history: dg.DagsterInstance) -> None:
    @dg.asset
    def something(context: dg.AssetExecutionContext) -> None:
        if context.run.tags["fills"] == "yes":
            fill(small)

    said = r"^Dagster's history is full: .* set DAGSTER_HOME"
    with pytest.raises(ClickException, match=said), plain_errors(lambda: "a run"):
        dg.materialize([something], instance=history, tags={"fills": "yes"})
    (small / BALLAST).unlink()
    assert dg.materialize([something], instance=history, tags={"fills": "no"}).success


def test_a_full_history_of_dagster_is_named_by_the_command(
    small: Path, history: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not history.get_runs()
    monkeypatch.setenv("RECSYS_LANDING", str(tmp_path / "landing"))
    land(load_profile("sample"), today=TODAY, days=1, events=100)
    fill(small)
    ended = CliRunner().invoke(main, ["materialize", "interactions"])
    assert ended.exit_code == 1
    assert f"Error: Dagster's history is full: {small}/.dagster (0.0 MB of 4.2 MB are free)" in ended.output


def test_an_error_of_another_kind_passes(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Lake(str(tmp_path), "shop").draft("users", DAY):
        _ = 1 / 0
    with pytest.raises(PermissionError), Lake(str(tmp_path), "shop").draft("users", DAY):
        raise PermissionError(13, "Permission denied", "/somewhere/else")


def test_what_the_commands_write_is_for_this_user_alone(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    shutil.copy(PROJECT / "dagster.yaml", tmp_path / "home")
    places = {"RECSYS_DATA": "data", "RECSYS_LANDING": "landing", "DAGSTER_HOME": "home"}
    environment = {**os.environ, **{variable: str(tmp_path / folder) for variable, folder in places.items()}}
    subprocess.run([sys.executable, "-c", COMMANDS], env=environment, check=True, capture_output=True, umask=0o022)
    roots = [tmp_path / root for root in ("data", "landing", "home/.dagster")]
    written = [path for root in roots for path in (root, *root.rglob("*"))]
    assert len(written) > 20
    assert [path for path in written if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)] == []


def test_a_folder_at_a_guessable_name_must_be_this_users_alone(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "theirs").mkdir()
    if not os.getuid():
        os.chown(tmp_path / "theirs", 65534, 65534)
    for name in ("link", "open", *([] if os.getuid() else ["theirs"])):
        with pytest.raises(
            PlaceUnwritable, match=rf"{name} is not a folder that only this user can write to: remove it"
        ):
            own_folder(tmp_path / name)
    (tmp_path / "readable").mkdir(mode=0o755)
    for name in ("readable", "new"):
        assert own_folder(tmp_path / name).stat().st_mode & 0o777 == 0o700


def test_all_places_of_the_settings_are_known() -> None:
    assert {place.variable for place in places()} == {
        "RECSYS_LAKE",
        "RECSYS_LANDING",
        "RECSYS_DATA",
        "DAGSTER_HOME",
        "TMPDIR",
    }
