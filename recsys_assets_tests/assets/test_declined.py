"""Declined partitions: what cannot be built on a data set says so, with all that needs it, and stops nothing else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from recsys_assets.assets.lake_asset import Check, lake_asset
from recsys_assets.checks import check_floor
from recsys_assets.declined import CannotBeBuilt
from recsys_assets.io_managers import CAN_BE_BUILT, LakeIOManager, Output
from recsys_assets.lake import Lake
from recsys_assets.manifest import Manifest, Partition, fingerprint_of
from recsys_assets.resources import resources
from recsys_assets_tests.assets.test_lake_asset import BIZDATE, NEXT, lake, write
from recsys_assets_tests.helpers.in_process import QUIET, failed_checks, failures

__all__ = ["lake"]  # a fixture
WHY = "every train row has the same label"
SOUND = Check("sound", "a blocking check")
FLOOR = Check("auc_floor", "a figure reaches its floor", blocking=False)


def decline(output: Output, a: Partition) -> None:
    output.path("half").write_text(a.path("text").read_text())
    output.manifest.metrics["half"] = 1.0
    output.check(SOUND.name, False)
    output.decline(WHY)


def refuse(a: Partition, output: Output) -> None:  # noqa: ARG001 (an input that is not read)
    raise CannotBeBuilt(WHY)


def use(output: Output, method: Partition) -> None:
    output.path("text").write_text(method.path("text").read_text())


def report(output: Output, a: Partition, **methods: Partition) -> None:  # noqa: ARG001 (it must be there)
    output.write_json("found.json", {"methods": sorted(methods), "without": output.without})


def run(**bodies: Callable[..., None]) -> dg.ExecuteInProcessResult:
    """Materialize `method` with these bodies, and others on top of it, for the second day."""
    provided = resources()
    settings: dict[str, dict[str, Any]] = {
        "method": {"checks": [SOUND, FLOOR]},
        "report": {"tolerates_declined": True, "ins": {name: dg.AssetIn() for name in ("method", "b")}},
    }
    made = [
        lake_asset(name=name, kinds={"python"}, **settings.get(name, {}))(body).define(BIZDATE, "test")
        for name, body in bodies.items()
    ]
    there = {"a", "b", "method"} - bodies.keys()
    return dg.materialize(
        [*made, *(dg.AssetSpec(asset, partitions_def=BIZDATE) for asset in there)],
        selection=list(bodies),
        resources={**provided, "io_manager": LakeIOManager(store=provided["lake"])},
        partition_key=NEXT,
        run_config=QUIET,
        raise_on_error=False,
    )


@pytest.mark.fails_check("*:can_be_built")
@pytest.mark.parametrize("body", [decline, refuse])
def test_a_declined_partition_has_the_reason_and_no_files(lake: Lake, body: Callable[..., None]) -> None:
    result = run(method=body)
    assert failures(result) == {}
    assert failed_checks(result) == {"method:can_be_built"}
    made = lake.read("method", NEXT)
    assert (made.manifest.declined, made.manifest.is_usable) == (WHY, False)
    assert (made.manifest.files, made.manifest.metrics, made.manifest.failed_checks) == ({}, {}, [])
    assert [path.name for path in made.folder.iterdir()] == ["manifest.json"]
    assert made.manifest.upstream.keys() == {f"a/{NEXT}"}
    (event,) = result.asset_materializations_for_node("method")
    assert event.metadata["cannot be built"].value == WHY


def test_what_needs_it_is_declined_for_the_same_reason_and_a_tolerant_asset_is_built_without_it(lake: Lake) -> None:
    result = run(method=refuse, use=use, report=report)
    assert failures(result) == {}
    assert failed_checks(result) == {"method:can_be_built", "use:can_be_built"}
    assert lake.manifest("use", NEXT).declined == WHY
    made = lake.read("report", NEXT)
    found = json.loads(made.path("found.json").read_text())
    assert found == {"methods": ["b"], "without": {"method": WHY}}
    assert made.manifest.upstream.keys() == {f"{asset}/{NEXT}" for asset in ("a", "b", "method")}


def test_a_tolerant_asset_needs_the_inputs_that_it_names(lake: Lake) -> None:
    def take(output: Output, b: Partition) -> None:
        output.path("text").write_text(b.path("text").read_text())
        output.check(SOUND.name, True)
        output.check(FLOOR.name, True)

    with lake.draft("a", NEXT) as draft:
        draft.manifest.declined = WHY
    assert failures(run(method=take, report=report)) == {}
    assert lake.manifest("report", NEXT).declined == WHY


def test_a_method_that_comes_back_replaces_it_and_makes_what_did_without_it_outdated(lake: Lake) -> None:
    def copy(output: Output, a: Partition) -> None:
        output.path("text").write_text(a.path("text").read_text())
        output.check(SOUND.name, True)
        output.check(FLOOR.name, True)

    run(method=refuse, use=use, report=report)
    first = lake.manifest("report", NEXT)
    assert failed_checks(run(method=copy)) == set()
    assert lake.outdated_inputs(first) == [f"method/{NEXT}"]
    assert failures(run(use=use, report=report)) == {}
    assert lake.read("use", NEXT).path("text").read_text() == "first"
    assert json.loads(lake.read("report", NEXT).path("found.json").read_text())["without"] == {}


@pytest.mark.fails_check("*:auc_floor")
def test_what_is_below_its_floor_keeps_its_files_and_what_needs_it_is_declined(lake: Lake) -> None:
    def learn(output: Output, a: Partition) -> None:
        output.path("text").write_text(a.path("text").read_text())
        output.check(SOUND.name, True)
        check_floor(output, FLOOR.name, 0.5, 0.55)

    result = run(method=learn, use=use, report=report)
    assert result.success
    assert failed_checks(result) == {"method:auc_floor", "use:can_be_built"}
    made, said = lake.read("method", NEXT), "method failed auc_floor: 0.5000 is below 0.55, the bound in the profile"
    assert (made.path("text").read_text(), made.manifest.below_floor, made.manifest.is_usable) == ("first", said, False)
    assert lake.manifest("use", NEXT).declined == said
    assert json.loads(lake.read("report", NEXT).path("found.json").read_text())["without"] == {"method": said}


def test_what_is_really_wrong_still_fails(lake: Lake) -> None:
    def break_down(output: Output, a: Partition) -> None:  # noqa: ARG001 (it fails at once)
        raise ValueError("the training diverged")

    assert "diverged" in failures(run(method=break_down, report=report))["method"]
    assert lake.bizdates("method") == []


def test_manifests_of_built_partitions_are_as_before_the_field(tmp_path: Path) -> None:
    """Otherwise every partition of every lake would change its fingerprint."""
    made = Manifest("a", "shop", "2026-01-01", rows=3).seal()
    content: dict[str, Any] = json.loads(made.to_json())
    assert not {"declined", "below_floor"} & content.keys()
    assert made.fingerprint == fingerprint_of({name: each for name, each in content.items() if name != "fingerprint"})
    declined = Manifest("a", "shop", "2026-01-01", declined=WHY).seal()
    (tmp_path / "manifest.json").write_text(declined.to_json())
    assert Manifest.from_json((tmp_path / "manifest.json").read_bytes()) == declined
    with pytest.raises(ValueError, match="fingerprint"):
        Manifest.from_json(declined.to_json().replace("label", "class").encode())
    assert write(Lake(str(tmp_path / "lake"), "shop"), "a", NEXT).is_usable
    assert CAN_BE_BUILT == "can_be_built"
