"""Partitions and runs that `recsys clean` removes, and those that it never removes."""

import datetime as dt
import shutil
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import dagster as dg
import fsspec
import pytest
from click.testing import CliRunner

from recsys_assets.cli import main
from recsys_assets.cli.running import open_instance
from recsys_assets.definitions import build_defs
from recsys_assets.lake import Lake
from recsys_assets.retention.history import forget, old_runs, remove_runs
from recsys_assets.retention.plan import find_old
from recsys_assets.stores.live_sets import release_of
from recsys_assets.stores.mongo.embedded import run_server
from recsys_assets.stores.registry import open_store
from recsys_assets.stores.store import ReleaseStore
from recsys_assets.tracking import Tracking, _mlflow
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.environment import forget_tracking_uri
from recsys_assets_tests.helpers.worlds import write_profile

DAYS = [f"2026-01-{day:02}" for day in range(1, 11)]
OLD, WINDOW = DAYS[:7], DAYS[7:]
PARTS = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-01-11")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("secantus", reason="needs a MongoDB server, which the extra `mongo-server` installs")
    with run_server(tmp_path_factory.mktemp("mongo")) as uri:
        yield uri


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str) -> Lake:
    """The empty lake of a profile with stores of its own."""
    name = tmp_path.name[:40].replace("_", "-")
    monkeypatch.setenv("RECSYS_PROFILE", write_profile(tmp_path / "own.yaml", {"name": name}))
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path))
    monkeypatch.setenv("MONGO_URI", server)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    forget_tracking_uri(monkeypatch)
    shutil.copy(PROJECT / "dagster.yaml", tmp_path)
    return Lake(str(tmp_path / "lake"), name)


def build(lake: Lake, asset: str, day: str, upstream: Sequence[str] = (), failed: Sequence[str] = ()) -> None:
    with lake.draft(asset, day) as draft:
        draft.path("data.bin").write_bytes(bytes(1_000))
        draft.manifest.metrics = {"auc": 0.7}
        draft.manifest.failed_checks = list(failed)
        draft.manifest.upstream = {name: lake.manifest(*name.split("/")).fingerprint for name in upstream}


def build_days(lake: Lake, days: Sequence[str] = DAYS, more: Mapping[str, Sequence[str]] | None = None) -> None:
    """Events, a model on them and its ONNX file, of each day; `more` has further inputs of the file by day."""
    for day in days:
        build(lake, "interactions", day)
        build(lake, "rank_fm", day, [f"interactions/{each}" for each in lake.bizdates("interactions")])
        build(lake, "onnx_fm", day, [f"rank_fm/{day}", *(more or {}).get(day, ())])


def removable(lake: Lake, busy: frozenset[str] = frozenset()) -> list[str]:
    return [f"{asset}/{day}" for asset, day in find_old(lake, len(WINDOW), busy).partitions]


def of_days(days: Sequence[str], *without: str) -> list[str]:
    names = [f"{asset}/{day}" for asset in ("onnx_fm", "rank_fm") for day in days]
    return [name for name in names if name not in without]


def test_old_bizdates_go_and_days_of_events_stay(lake: Lake) -> None:
    assert removable(lake) == []
    build_days(lake)
    assert removable(lake) == of_days(OLD)
    assert removable(lake, frozenset({DAYS[0]})) == of_days(OLD[1:])


def test_whatever_a_kept_partition_names_stays_with_its_own_inputs(lake: Lake) -> None:
    pinned = f"onnx_fm/{DAYS[1]}"
    build_days(lake, more={DAYS[9]: [pinned]})
    assert removable(lake) == of_days(OLD, pinned, f"rank_fm/{DAYS[1]}")


def test_a_chain_of_days_is_kept_for_one_step_only(lake: Lake) -> None:
    for before, day in zip([None, *DAYS], DAYS, strict=False):
        build(lake, "interactions", day)
        build(lake, "rank_report", day, [f"rank_report/{before}"] if before else [])
    assert removable(lake) == [f"rank_report/{day}" for day in OLD[:-1]]


def test_the_partitions_that_the_newest_one_extends_stay_without_what_they_were_made_from(lake: Lake) -> None:
    chain: list[str] = []
    for day in DAYS:
        build(lake, "splits", day)
        build(lake, "event_features", day, [f"splits/{day}", *chain])
        chain.append(f"event_features/{day}")
        build(lake, "rank_samples", day, [*chain, f"splits/{day}"])
    assert removable(lake) == [f"{asset}/{day}" for asset in ("rank_samples", "splits") for day in OLD]
    for day in OLD:
        shutil.rmtree(lake.location("splits", day))
    assert lake.outdated_inputs(lake.manifest("rank_samples", DAYS[9])) == []


def test_the_newest_sound_partition_of_an_asset_stays_however_old(lake: Lake) -> None:
    build_days(lake)
    build(lake, "tune_fm", DAYS[0])
    build(lake, "tune_fm", DAYS[1])
    build(lake, "tune_fm", DAYS[2], failed=["better_than_default"])
    assert removable(lake) == [*of_days(OLD), f"tune_fm/{DAYS[0]}", f"tune_fm/{DAYS[2]}"]


def test_what_a_release_of_kept_versions_names_stays(lake: Lake) -> None:
    build_days(lake)
    for day in (DAYS[2], DAYS[4]):
        build(lake, "rank_champion", day)
        build(lake, "mongo_release", day)
    build(lake, "rank_champion", DAYS[9])
    build(lake, "mongo_release", DAYS[9])
    champion = {"model": "fm", "bizdate": DAYS[2]}
    with open_store("mongo", lake.profile) as store:
        assert isinstance(store, ReleaseStore)
        gone = release_of({"user": {"version": f"{DAYS[4]}.abc", "rows": 1}}, {"model": "fm", "bizdate": DAYS[4]})
        store.add_release(gone)  # its version is no longer in the store
        store.put_release(release_of({}, champion) | {"bizdate": DAYS[2]}, store.release())
    kept = [f"{asset}/{DAYS[2]}" for asset in ("onnx_fm", "rank_fm", "rank_champion", "mongo_release")]
    others = [f"{asset}/{DAYS[4]}" for asset in ("mongo_release", "rank_champion")]
    assert removable(lake) == sorted([*of_days(OLD, *kept), *others])


def test_if_a_store_cannot_be_asked_nothing_goes(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    build_days(lake)
    monkeypatch.setenv("MONGO_URI", "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=300")
    done = CliRunner().invoke(main, ["clean", "--keep-days", "3", "--yes"])
    assert done.exit_code == 1 and "127.0.0.1:1" in done.stderr
    assert lake.bizdates("rank_fm") == DAYS


def test_the_command_removes_only_when_told_to_and_keeps_the_figures(lake: Lake) -> None:
    build_days(lake)
    said = CliRunner().invoke(main, ["clean", "--keep-days", "3"])
    assert said.exit_code == 0, said.output
    assert "nothing was removed" in said.stdout and "14" in said.stdout and "before 2026-01-08" in said.stdout
    assert lake.bizdates("rank_fm") == DAYS
    done = CliRunner().invoke(main, ["clean", "--keep-days", "3", "--yes"])
    assert done.exit_code == 0, done.output
    assert lake.bizdates("rank_fm") == lake.bizdates("onnx_fm") == WINDOW
    assert lake.bizdates("interactions") == DAYS
    assert set(lake.partitions()) == {*((a, d) for a in ("onnx_fm", "rank_fm") for d in WINDOW), *(("interactions", d) for d in DAYS)}  # fmt: skip # noqa: E501
    kept = Path(lake.folder, ".removed", "rank_fm", f"{DAYS[0]}.json").read_text(encoding="utf-8")
    assert '"auc": 0.7' in kept
    assert lake.assets() == ["interactions", "onnx_fm", "rank_fm"]
    assert all(lake.read_sound("onnx_fm", day) for day in WINDOW)


def test_the_command_removes_files_of_killed_uploads_from_an_object_store(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = f"memory://{uuid.uuid4()}"
    monkeypatch.setenv("RECSYS_LAKE", root)
    stored = Lake(root, lake.profile)
    build_days(stored, DAYS[:2])
    left = f"{stored.location('rank_fm', DAYS[0])}/20260101T000000Z-{'0' * 16}/data.bin"
    fsspec.filesystem("memory").pipe_file(left, b"half")
    for more, line, is_there in ([], "nothing was removed", True), (["--yes"], "removed", False):
        said = CliRunner().invoke(main, ["clean", "--keep-days", "3", *more])
        assert said.exit_code == 0, said.output
        assert said.stdout.splitlines()[-2] == "files of replaced partitions and of killed uploads: 1"
        assert said.stdout.splitlines()[-1].startswith(line)
        assert fsspec.filesystem("memory").exists(left) == is_there
    assert all(stored.read_sound(asset, day) for asset in stored.assets() for day in DAYS[:2])
    fsspec.filesystem("memory").rm(root, recursive=True)


@dg.asset(partitions_def=PARTS)
def interactions() -> None:
    pass


with warnings.catch_warnings():
    warnings.simplefilter("ignore", dg.PreviewWarning)
    FLOOR = dg.AssetCheckSpec("auc_floor", asset="rank_fm", partitions_def=PARTS)


@dg.asset(partitions_def=PARTS, deps=[interactions], check_specs=[FLOOR])
def rank_fm() -> dg.MaterializeResult:  # type: ignore[type-arg]
    return dg.MaterializeResult(check_results=[dg.AssetCheckResult(check_name="auc_floor", passed=True)])


def test_the_ui_shows_what_is_there_and_old_runs_are_gone(lake: Lake) -> None:
    keys = {"interactions": dg.AssetKey("interactions"), "rank_fm": dg.AssetKey("rank_fm")}
    with open_instance() as instance:
        runs = [dg.materialize([interactions, rank_fm], partition_key=day, instance=instance) for day in DAYS[:2]]
        build(lake, "interactions", DAYS[0])
        build(lake, "interactions", DAYS[1])
        build(lake, "rank_fm", DAYS[1])
        storage = instance.event_log_storage
        forget(instance, "rank_fm", [DAYS[0]])
        assert storage.get_materialized_partitions(keys["rank_fm"]) == {DAYS[1]}
        assert storage.get_materialized_partitions(keys["interactions"]) == set(DAYS[:2])
        history = storage.get_asset_check_execution_history(dg.AssetCheckKey(keys["rank_fm"], "auc_floor"), limit=9)
        assert [record.partition for record in history] == [DAYS[1]]

        now = dt.datetime.now(dt.UTC)
        assert old_runs(instance, now - dt.timedelta(days=1)) == []
        old = old_runs(instance, now + dt.timedelta(days=1))
        assert [run.run_id for run in old] == [run.run_id for run in runs]
        shards = [Path(storage.path_for_shard(run.run_id)) for run in old]  # type: ignore[attr-defined]
        assert all(shard.exists() for shard in shards)
        remove_runs(instance, lake, old)
        assert not any(shard.exists() for shard in shards)
        assert instance.get_runs() == []
        assert storage.get_materialized_partitions(keys["rank_fm"]) == {DAYS[1]}
        assert storage.get_materialized_partitions(keys["interactions"]) == set(DAYS[:2])


@pytest.mark.usefixtures("lake")
def test_runs_of_mlflow_that_failed_or_were_deleted_go_and_those_that_succeeded_stay(tmp_path: Path) -> None:
    tracking = Tracking(profile=str(tmp_path / "own.yaml"))
    with _mlflow() as mlflow:
        tracking._prepare()
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(tracking.experiment).experiment_id
    runs = {}
    for name in ("FINISHED", "FAILED", "RUNNING", "DELETED", "new"):
        old = dt.datetime.now(dt.UTC) - dt.timedelta(days=0 if name == "new" else 40)
        runs[name] = client.create_run(experiment, int(old.timestamp() * 1000)).info.run_id
        client.log_text(runs[name], "weights", "model.txt")
        if name in ("FINISHED", "FAILED"):
            client.set_terminated(runs[name], name)
    client.delete_run(runs["DELETED"])
    found = tracking.left_over(dt.datetime.now(dt.UTC) - dt.timedelta(days=30))
    assert set(found) == {runs[name] for name in ("FAILED", "RUNNING", "DELETED")}
    tracking.remove(found)
    left = client.search_runs([experiment], "", mlflow.entities.ViewType.ALL)
    assert {run.info.run_id for run in left} == {runs["FINISHED"], runs["new"]}
    assert {path.name for path in (tmp_path / "mlflow").iterdir()} == {runs["FINISHED"], runs["new"]}


def test_the_job_removes_what_the_profile_says(lake: Lake, tmp_path: Path) -> None:
    write_profile(tmp_path / "own.yaml", {"name": lake.profile, "retention": {"days": 3}})
    build_days(lake)
    with dg.DagsterInstance.ephemeral() as instance:
        done = build_defs().resolve_job_def("clean").execute_in_process(instance=instance)
    (event,) = done.filter_events(lambda each: each.event_type_value == "STEP_OUTPUT")
    assert event.step_output_data.metadata["partitions"].value == 14
    assert lake.bizdates("rank_fm") == WINDOW


def test_the_schedule_is_there_if_the_profile_says_for_how_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"retention": {"days": 30}, "daily": {"hour": 0}}
    monkeypatch.setenv("RECSYS_PROFILE", write_profile(tmp_path / "own.yaml", changes))
    schedule = build_defs().get_repository_def().get_schedule_def("clean_schedule")
    assert (schedule.cron_schedule, schedule.job_name) == ("0 23 * * *", "clean")
    monkeypatch.setenv("RECSYS_PROFILE", "sample")
    assert not build_defs().get_repository_def().has_schedule_def("clean_schedule")
