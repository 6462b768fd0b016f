"""Outdated partitions, which were built from rows that have changed since, are named, refused and rebuilt."""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner

from recsys_assets.cli import main
from recsys_assets.datasets.profile import Profile
from recsys_assets.definitions import build_defs
from recsys_assets.io_managers import UP_TO_DATE
from recsys_assets.lake import Lake
from recsys_assets.lineage import Lineage
from recsys_assets.manifest import MANIFEST, PartitionDamaged, fingerprint_of
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.in_process import failures, materialize
from recsys_assets_tests.helpers.shop import DAY, GOOD, PARQUET, frame, put, put_days, shop

__all__ = ["shop"]  # a fixture
FIRST, SECOND, THIRD = "2026-01-05", "2026-01-06", "2026-01-07"


class Graph:
    """`interactions` for three days -> `splits` -> `features`, and `model` for the third day, all written by hand."""

    def __init__(self, folder: Path) -> None:
        self.lake = Lake(str(folder), "shop")
        for day in (FIRST, SECOND, THIRD):
            self.write("interactions", day)
        self.write("splits", THIRD, *(f"interactions/{day}" for day in (FIRST, SECOND, THIRD)))
        self.write("features", THIRD, f"splits/{THIRD}")
        self.write("model", SECOND)
        self.write("model", THIRD, f"features/{THIRD}", f"splits/{THIRD}", f"model/{SECOND}")

    def write(self, asset: str, day: str, *upstream: str, text: str = "") -> None:
        with self.lake.draft(asset, day) as draft:
            draft.path("rows").write_text(text)
            draft.manifest.upstream = {name: self.lake.manifest(*name.split("/")).fingerprint for name in upstream}

    def outdated(self, asset: str, day: str = THIRD) -> list[str]:
        return self.lake.outdated_inputs(self.lake.manifest(asset, day))


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return Graph(tmp_path)


def test_what_was_built_in_order_is_up_to_date(graph: Graph) -> None:
    assert [graph.outdated(asset) for asset in ("interactions", "splits", "features", "model")] == [[], [], [], []]


def test_the_same_content_again_makes_nothing_outdated(graph: Graph) -> None:
    graph.write("interactions", FIRST)
    assert graph.outdated("model") == []


def test_a_corrected_day_makes_everything_outdated_that_was_made_from_it(graph: Graph) -> None:
    graph.write("interactions", FIRST, text="corrected")
    changed = [f"interactions/{FIRST}"]
    assert [graph.outdated(asset) for asset in ("splits", "features", "model")] == [changed] * 3
    found = [made.name for made in Lineage(graph.lake).dependents(changed)]
    assert found == [f"features/{THIRD}", f"model/{THIRD}", f"splits/{THIRD}"]
    partition = graph.lake.read("model", THIRD)
    assert not graph.lake.is_current(partition)


def test_a_day_that_lands_late_makes_later_days_outdated(graph: Graph) -> None:
    graph.write("interactions", "2026-01-04")
    assert graph.outdated("model") == ["interactions/2026-01-04"]
    assert [made.asset for made in Lineage(graph.lake).dependents(["interactions/2026-01-04"])] == [
        "features",
        "model",
        "splits",
    ]
    graph.write("interactions", "2026-01-08")
    assert graph.outdated("model") == ["interactions/2026-01-04"]


def test_an_input_that_was_rebuilt_alone_makes_what_was_made_from_both_outdated(graph: Graph) -> None:
    graph.write("splits", THIRD, *(f"interactions/{day}" for day in (FIRST, SECOND, THIRD)), text="another rule")
    assert graph.outdated("model") == graph.outdated("features") == [f"splits/{THIRD}"]
    graph.write("features", THIRD, f"splits/{THIRD}", text="new")
    assert graph.outdated("features") == []
    assert graph.outdated("model") == [f"features/{THIRD}", f"splits/{THIRD}"]


def test_a_model_that_was_taken_over_from_another_day_makes_nothing_outdated(graph: Graph) -> None:
    graph.write("model", SECOND, text="trained again")
    assert graph.outdated("model") == []


def test_a_partition_that_was_extended_makes_outdated_when_it_changes_itself(graph: Graph) -> None:
    graph.write("splits", SECOND, f"interactions/{FIRST}", f"interactions/{SECOND}")
    graph.write("event_features", SECOND, f"splits/{SECOND}")
    graph.write("event_features", THIRD, f"splits/{THIRD}", f"event_features/{SECOND}")
    graph.write("model", THIRD, f"event_features/{THIRD}")
    assert [*graph.lake.manifest("event_features", THIRD).extended] == [f"event_features/{SECOND}"]
    graph.write("splits", SECOND, text="other parts of the same rows")
    assert graph.outdated("event_features", SECOND) == [f"splits/{SECOND}"]
    assert graph.outdated("event_features") == graph.outdated("model") == []
    graph.write("event_features", SECOND, text="other rows")
    assert graph.outdated("event_features") == graph.outdated("model") == [f"event_features/{SECOND}"]


def test_a_removed_or_damaged_input_makes_outdated(graph: Graph) -> None:
    manifest = Path(graph.lake.location("features", THIRD)) / MANIFEST
    manifest.write_text("{}")
    assert graph.outdated("model") == [f"features/{THIRD}"]
    manifest.unlink()
    assert graph.outdated("model") == [f"features/{THIRD}"]


@pytest.mark.parametrize("seed", range(10))
def test_after_any_rebuilds_exactly_what_has_an_older_ancestor_is_outdated(graph: Graph, seed: int) -> None:
    """Compared with a plain model, in which a partition remembers the versions of everything it was built from."""
    chance = random.Random(seed)
    needs = {
        f"splits/{THIRD}": [f"interactions/{day}" for day in (FIRST, SECOND, THIRD)],
        f"features/{THIRD}": [f"splits/{THIRD}"],
        f"model/{THIRD}": [f"features/{THIRD}", f"splits/{THIRD}"],
    }
    names = [*needs, *needs[f"splits/{THIRD}"]]
    version, made_from = dict.fromkeys(names, 0), {name: dict.fromkeys(needs[name], 0) for name in needs}
    for step in range(1, 15):
        name = chance.choice(names)
        graph.write(*name.split("/"), *needs.get(name, []), text=str(step))
        version[name] = step
        if name in needs:
            made_from[name] = {each: version[each] for each in needs[name]}

        def old(name: str) -> bool:
            inputs = made_from.get(name, {})
            return any(version[each] != was or old(each) for each, was in inputs.items())

        for each in needs:
            assert bool(graph.outdated(each.split("/")[0])) == old(each), (step, each)
        assert Lineage(graph.lake).outdated_assets(THIRD) == sorted(each.split("/")[0] for each in needs if old(each))


@pytest.mark.parametrize("field", ["metrics", "rows", "files", "upstream", "failed_checks", "fingerprint"])
def test_an_edited_manifest_counts_as_damaged(graph: Graph, field: str) -> None:
    place = Path(graph.lake.location("model", THIRD)) / MANIFEST
    content = json.loads(place.read_text())
    edited = {"metrics": {"validation_auc": 0.9999}, "rows": 7, "files": {}, "upstream": {}, "failed_checks": ["x"]}
    place.write_text(json.dumps(content | {field: edited.get(field, "0" * 64)}))
    with pytest.raises(
        PartitionDamaged, match="does not fit its own fingerprint.*run `recsys materialize model --bizdate"
    ):
        graph.lake.manifest("model", THIRD)


def test_a_manifest_of_an_older_version_of_the_code_is_still_read(graph: Graph) -> None:
    place = Path(graph.lake.location("model", THIRD)) / MANIFEST
    content = json.loads(place.read_text())
    assert graph.lake.manifest("model", THIRD).to_json() == place.read_text()
    older = {name: value for name, value in content.items() if name not in ("seed", "fingerprint")}
    place.write_text(json.dumps(older | {"fingerprint": fingerprint_of(older)}))
    assert graph.lake.manifest("model", THIRD).seed is None


def test_an_outdated_input_is_refused_with_the_command_that_rebuilds_it(shop: Profile) -> None:
    *_, last = put_days(shop, 0, 3)
    assert materialize(["interactions"], DAY, last).success
    assert materialize(["splits", "recall_samples"], last).success
    put(shop, PARQUET, frame(*GOOD[1:]))
    assert materialize(["interactions"], DAY).success
    said = failures(materialize(["recall_samples"], last))["recall_samples"]
    assert f"PartitionOutdated: splits {last} is outdated: interactions {DAY} changed after it was made" in said
    assert f"`recsys refresh --bizdate {last}`" in said


@pytest.mark.fails_check("*:up_to_date")
def test_a_corrected_day_fails_the_check_of_later_days_and_refresh_brings_them_up_to_date(
    shop: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, last = put_days(shop, 0, 3)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    instance = dg.DagsterInstance.ephemeral()
    assert materialize(["interactions"], DAY, last, instance=instance).success
    assert materialize(["splits", "recall_samples"], last, instance=instance).success

    def passes(asset: str) -> bool | None:
        key = dg.AssetCheckKey(dg.AssetKey(asset), UP_TO_DATE)
        (record,) = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
        assert record.event and record.event.dagster_event
        evaluation = record.event.dagster_event.asset_check_evaluation_data
        assert evaluation.partition == last
        return bool(evaluation.passed)

    assert passes("splits") and passes("recall_samples")
    put(shop, PARQUET, frame(*GOOD[1:]))
    assert materialize(["interactions"], DAY, instance=instance).success
    assert not passes("splits") and not passes("recall_samples")
    shown = CliRunner().invoke(main, ["show", "recall_samples"]).output
    assert f"recall_samples {last} is outdated: interactions {DAY} changed" in shown
    assert materialize(["splits", "recall_samples"], last, instance=instance).success
    assert passes("splits") and passes("recall_samples")
    assert "outdated" not in CliRunner().invoke(main, ["show", "recall_samples"]).output


def test_refresh_ingests_what_changed_and_builds_what_is_outdated(
    shop: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    shutil.copy(PROJECT / "dagster.yaml", tmp_path)
    *_, last = put_days(shop, 0, 3)
    assert materialize(["interactions"], DAY, last).success
    assert materialize(["splits", "recall_samples"], last).success
    put(shop, PARQUET, frame(*GOOD[1:]))
    lake = Lake(str(tmp_path / "lake"), "shop")
    before = lake.manifest("recall_samples", last).rows

    def refresh() -> str:
        command = [sys.executable, "-m", "recsys_assets.cli", "refresh"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    refresh()
    assert Lineage(lake).outdated_assets(last) == []
    assert lake.manifest("recall_samples", last).rows == (before or 0) - 1
    assert f"shop {last} is up to date" in refresh()


def test_every_asset_that_is_made_from_others_has_the_check() -> None:
    for asset in build_defs().assets or ():
        assert isinstance(asset, dg.AssetsDefinition)
        has = UP_TO_DATE in {spec.name for spec in asset.check_specs}
        assert has == (asset.key.to_user_string() not in ("interactions", "users", "items"))
