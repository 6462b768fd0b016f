"""The code location as a whole: required attributes of all assets and checks, and a snapshot of the graph.

After an intended change of the graph, run `RECSYS_UPDATE_SNAPSHOTS=1 pytest recsys_assets_tests/test_definitions.py`
and read the difference before you commit it.
"""

import os
import re
import subprocess
import sys
from itertools import chain
from pathlib import Path

import dagster as dg
import pytest

from recsys_assets.assets import groups
from recsys_assets.datasets.profile import load_profile
from recsys_assets.definitions import build_defs, defs
from recsys_assets.executor import LIBRARIES_OF_KINDS, shared_libraries
from recsys_assets.jobs import ON_DEMAND
from recsys_assets.partitions import daily_partitions
from recsys_assets_tests.conftest import PROJECT

SNAPSHOT = Path(__file__).parent / "snapshots" / "graph.txt"
GRAPH = defs.resolve_asset_graph()
ASSETS = sorted(GRAPH.get_all_asset_keys())
GROUPS = groups(load_profile())
BIZDATE = GRAPH.get(ASSETS[0]).partitions_def
CHECKS = sorted(GRAPH.asset_check_keys)
every_asset = pytest.mark.parametrize("key", ASSETS, ids=dg.AssetKey.to_user_string)
every_check = pytest.mark.parametrize("check", CHECKS, ids=dg.AssetCheckKey.to_user_string)


def test_the_definitions_can_be_loaded() -> None:
    dg.Definitions.validate_loadable(defs)


def test_each_automation_starts_the_job_of_all_that_does_not_run_on_demand_only() -> None:
    repository = defs.get_repository_def()
    daily = repository.get_job("everything").asset_layer.executable_asset_keys
    assert daily == {key for key in ASSETS if GRAPH.get(key).group_name != ON_DEMAND} < set(ASSETS)
    assert repository.get_schedule_def("daily_schedule").job_name == "everything"
    jobs = repository.get_sensor_def("new_data_sensor").jobs
    assert [job.name for job in jobs] == ["everything", "ingest"]
    assert repository.get_sensor_def("champion_sensor").job_name == "champion"


def test_a_champion_that_is_chosen_anew_is_published() -> None:
    run = defs.get_repository_def().get_job("champion").asset_layer.executable_asset_keys
    published = {key for key in ASSETS if GRAPH.get(key).group_name == "publish"}
    assert {dg.AssetKey("rank_champion"), *published} <= set(run)


def test_definitions_that_are_built_later_have_the_profile_of_then(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("criteo", "movielens-1m", "sample"):
        monkeypatch.setenv("RECSYS_PROFILE", name)
        profile, graph = load_profile(name), build_defs().resolve_asset_graph()
        assert {node.partitions_def for node in graph.asset_nodes} == {daily_partitions(profile)}
        checked = {graph.get_check_spec(check).partitions_def for check in graph.asset_check_keys}
        assert checked == {daily_partitions(profile)}
        keys = {key.to_user_string() for key in graph.get_all_asset_keys()}
        assert ("mongo_release" in keys, "users" in keys) == (profile.has_entities, profile.has_entities)
        assert ("funnel_report" in keys) == profile.split.has_online


def test_no_module_reads_the_profile_when_it_is_imported() -> None:
    code = "import recsys_assets.assets, recsys_assets.sensors, recsys_assets.schedules, recsys_assets.cli.running"
    environment = {**os.environ, "RECSYS_PROFILE": "there_is_no_such_profile"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=PROJECT, env=environment, check=True)


@every_asset
def test_every_asset_has_the_one_partitions_definition(key: dg.AssetKey) -> None:
    assert GRAPH.get(key).partitions_def is BIZDATE


@every_asset
def test_every_asset_is_documented_owned_and_marked_with_kinds_and_code_version(key: dg.AssetKey) -> None:
    node = GRAPH.get(key)
    assert str(node.description).endswith(".")
    assert node.owners == ["team:recsys"]
    assert node.kinds
    assert re.fullmatch(r"\d+(\.\d+)?", str(node.code_version))


@every_asset
def test_every_asset_has_a_key_of_one_part_in_the_group_of_its_module(key: dg.AssetKey) -> None:
    node = GRAPH.get(key)
    assert len(key.path) == 1
    assert sorted(GROUPS) == sorted({GRAPH.get(other).group_name for other in ASSETS})
    assert key.to_user_string() in {asset.key for asset in GROUPS[node.group_name]}


@every_asset
def test_every_asset_reads_assets_of_this_graph_only(key: dg.AssetKey) -> None:
    assert GRAPH.get(key).parent_keys <= set(ASSETS)


@every_check
def test_every_check_is_of_a_bizdate_and_says_what_must_hold(check: dg.AssetCheckKey) -> None:
    spec = GRAPH.get_check_spec(check)
    assert spec.partitions_def is BIZDATE
    assert spec.description


def test_the_graph_is_the_one_in_the_snapshot() -> None:
    if os.environ.get("RECSYS_UPDATE_SNAPSHOTS"):
        SNAPSHOT.write_text(graph_text(), encoding="utf-8")
    assert graph_text() == SNAPSHOT.read_text(encoding="utf-8"), (
        "the graph changed: if that was the intention, renew the snapshot as this file's first lines say"
    )


def test_a_run_loads_once_what_several_of_its_assets_import_and_nothing_else() -> None:
    repository = defs.get_repository_def()
    assert shared_libraries(repository.get_job("everything")) == sorted({*chain(*LIBRARIES_OF_KINDS.values())})
    assert shared_libraries(repository.get_job("ingest")) == []
    embeddings = [dg.AssetKey(f"emb_dssm_{side}") for side in ("user", "item")]
    job = repository.get_job("everything")
    assert shared_libraries(job.get_subset(asset_selection=set(embeddings))) == ["torch"]
    assert shared_libraries(job.get_subset(asset_selection=set(embeddings[:1]))) == []


def test_loading_everything_warns_of_nothing() -> None:
    code = "from recsys_assets.definitions import defs; defs.get_repository_def().get_all_jobs()"
    loaded = subprocess.run(
        [sys.executable, "-W", "default", "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert (loaded.returncode, loaded.stderr) == (0, "")


def test_the_workspace_file_loads_the_definitions(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "-w", "workspace.yaml"]
    environment = {**os.environ, "DAGSTER_HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Validation successful for code location recsys_assets." in done.stderr + done.stdout


def graph_text() -> str:
    """All assets with their groups; below each asset, its inputs and its checks."""
    return "\n".join(line for key in ASSETS for line in asset_lines(key)) + "\n"


def asset_lines(key: dg.AssetKey) -> list[str]:
    node = GRAPH.get(key)
    reads = sorted(parent.to_user_string() for parent in node.parent_keys)
    specs = [GRAPH.get_check_spec(check) for check in sorted(node.check_keys)]
    checks = [f"  check  {spec.name}{'' if spec.blocking else ' (does not block)'}" for spec in specs]
    return [f"{node.group_name}/{key.to_user_string()}", *(f"  reads  {parent}" for parent in reads), *checks]
