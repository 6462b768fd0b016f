# ruff: noqa: E501 (each table has one case per line)
"""The champion: the rule as a table, and the asset on a lake of small partitions with real MLflow runs."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import mlflow
import pytest
from dagster._core.test_utils import create_run_for_test, instance_for_test
from onnx import TensorProto, helper

from recsys_assets.assets.publish.collections import families
from recsys_assets.datasets.profile import load_profile
from recsys_assets.jobs import in_turn
from recsys_assets.lake import Lake
from recsys_assets.models.catalogue import RANKERS
from recsys_assets.ranking.champion import Candidate, Champion, NothingToServe, PinRefused, choose, read_champion
from recsys_assets.resources import Dataset, LakeStore
from recsys_assets.sensors import champion_sensor
from recsys_assets_tests.helpers.environment import forget_tracking_uri
from recsys_assets_tests.helpers.in_process import QUIET, failures, job_of_all_assets

DAYS = [f"2026-01-0{number}" for number in range(1, 8)]
# Whether the instance retries runs, the tags of a failed run, and whether the sensor ignores it.
RETRIES: list[tuple[bool, dict[str, str], bool]] = [
    (True, {"dagster/will_retry": "true"}, True),
    (True, {"dagster/will_retry": "false"}, False),
    (True, {"dagster/failure_reason": "STEP_FAILURE"}, False),  # right after the failure the run is not tagged yet
    (True, {}, True),
    (False, {}, False),
]
FIGURES = {"lgbm": 0.81, "widedeep": 0.79, "deepfm": 0.80}  # `final` is never built


def candidates(**values: float | str) -> list[Candidate]:
    """A day's models by name: the validation AUC, or the gate that the model does not pass."""
    return [
        Candidate(model, "today", math.nan, why_not=value)
        if isinstance(value, str)
        else Candidate(model, "today", value)
        for model, value in values.items()
    ]


RULE: list[tuple[str, list[Candidate], float | None, str, str]] = [
    # case, candidates, validation AUC of the previous champion, chosen model, reason
    ("the highest wins", candidates(a=0.7, b=0.8), None, "b/today", "no champion of an earlier day"),
    ("ties go by name", candidates(b=0.8, a=0.8), None, "a/today", "0.8000, of 2 that pass"),
    ("a gate not passed", candidates(a=0.7, b="failed"), None, "a/today", "of 1 that pass"),
    ("better than before", candidates(a=0.8), 0.7, "a/today", "not below the previous champion, old/before with 0.7000"),
    ("worse within the margin", candidates(a=0.796), 0.8, "a/today", "not below"),
    ("worse beyond the margin", candidates(a=0.794), 0.8, "old/before", "old/before stays: a/today has the highest"),
    ("nobody passes", candidates(a="failed"), 0.8, "old/before", "no model of the day passes every gate"),
]  # fmt: skip


@pytest.mark.parametrize(("those", "before", "name", "says"), [pytest.param(*rest, id=what) for what, *rest in RULE])
def test_the_rule(those: list[Candidate], before: float | None, name: str, says: str) -> None:
    incumbent = None if before is None else Candidate("old", "before", before)
    chosen, reason = choose(those, incumbent, margin=0.005)
    assert chosen.name == name
    assert says in reason


def test_a_pin_overrides_figures_and_margin_but_no_gate() -> None:
    those, incumbent = candidates(a=0.8, b=0.5, c="onnx_c failed parity"), Candidate("old", "before", 0.9)
    assert choose(those, incumbent, pinned=those[1]) == (those[1], "b/today is pinned.")
    with pytest.raises(PinRefused, match="c/today cannot be pinned: onnx_c failed parity"):
        choose(those, incumbent, pinned=those[2])


def test_with_nothing_to_serve_every_reason_is_named() -> None:
    with pytest.raises(NothingToServe, match="a: too bad; b: not there"):
        choose(candidates(a="too bad", b="not there"))


def small_onnx(said: str) -> bytes:
    """An ONNX file that gives its input back, and has a text among its metadata."""
    given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch"]) for name in ("activity", "score"))
    graph = helper.make_graph([helper.make_node("Identity", ["activity"], ["score"])], "small", [given], [made])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, {"said": said})
    content: bytes = model.SerializeToString(deterministic=True)
    return content


@dataclass
class World:
    """A new lake and MLflow, with a day's partitions written by hand."""

    lake: Lake
    client: mlflow.MlflowClient
    experiment: str

    def write(self, asset: str, day: str, *upstream: str, **manifest: Any) -> None:
        """Write a partition with one file, built from the present partitions of the upstream assets."""
        with self.lake.draft(asset, day) as draft:
            draft.path("model.onnx").write_bytes(small_onnx(f"{asset} {day} {manifest}"))
            made_of = {f"{each}/{day}": self.lake.manifest(each, day).fingerprint for each in upstream}
            draft.manifest = dataclasses.replace(draft.manifest, upstream=made_of, **manifest)

    def train(self, day: str, figures: dict[str, float], failed: dict[str, str] | None = None) -> None:
        """Write the partitions of some rankers; `failed` names a failed check by asset."""
        self.write("rank_samples", day)
        for model, value in figures.items():
            run = self.client.create_run(self.experiment).info.run_id
            checks = {asset: [check] for asset, check in (failed or {}).items()}
            ranker, onnx = f"rank_{model}", f"onnx_{model}"
            metrics = {"validation_auc": value}
            self.write(
                ranker, day, "rank_samples", metrics=metrics, mlflow_run_id=run, failed_checks=checks.get(ranker, [])
            )
            self.write(onnx, day, ranker, failed_checks=checks.get(onnx, []))

    def run(self, day: str, *more: str, **config: Any) -> dg.ExecuteInProcessResult:
        """Materialize the champion of a day, after some other assets in the same run."""
        return job_of_all_assets().execute_in_process(
            partition_key=day,
            run_config={"ops": {"rank_champion": {"config": config}}, **QUIET},
            asset_selection=[dg.AssetKey(asset) for asset in ("rank_champion", *more)],
            raise_on_error=False,
        )

    def ask(
        self, failed: dg.ExecuteInProcessResult, retries: bool = False, tags: Mapping[str, str] | None = None
    ) -> object:
        """The sensor's response to a failed run with tags, on an instance that retries runs whose process died."""
        settings = {"enabled": retries, "max_retries": 1, "retry_on_asset_or_op_failure": False}
        resources = {
            "dataset": Dataset(profile="sample"),
            "lake": LakeStore(profile="sample"),
        }
        with instance_for_test(overrides={"run_retries": settings}) as instance:
            given = {"dagster/partition": DAYS[4], **in_turn("later", DAYS[4]), **(tags or {})}
            run = create_run_for_test(instance, tags=given, status=dg.DagsterRunStatus.FAILURE)
            told = dg.build_run_status_sensor_context(
                "champion_sensor", failed.get_run_failure_event(), instance, run, resources=resources
            )
            return champion_sensor(told.for_run_failure())

    def champion(self, day: str) -> Champion:
        return read_champion(self.lake.read("rank_champion", day))

    @property
    def alias(self) -> Any:
        return self.client.get_model_version_by_alias("sample-rank", "champion")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("champion")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECSYS_DATA", str(home))
        patch.setenv("RECSYS_PROFILE", "sample")
        forget_tracking_uri(patch)
        client = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
        experiment = client.create_experiment("sample", artifact_location=Path(home / "mlflow").as_uri())
        yield World(Lake(str(home / "lake"), "sample"), client, experiment)


def test_before_anything_is_built_it_fails_and_names_what_is_missing(world: World) -> None:
    said = failures(world.run(DAYS[0]))["rank_champion"]
    assert "no model may be served, and there is no champion of an earlier day" in said
    assert all(f"{model}: there is no rank_samples of {DAYS[0]}" in said for model in RANKERS)
    assert world.lake.bizdates("rank_champion") == []


def test_the_best_model_is_pointed_at_named_in_mlflow_and_explained(world: World) -> None:
    world.train(DAYS[0], FIGURES)
    result = world.run(DAYS[0])
    assert result.success, failures(result)
    champion, onnx = world.champion(DAYS[0]), world.lake.manifest("onnx_lgbm", DAYS[0])
    assert champion.path == f"onnx_lgbm/bizdate={DAYS[0]}/model.onnx"
    assert (champion.sha256, champion.fingerprint) == (onnx.files["model.onnx"], onnx.fingerprint)
    reasons = {each["model"]: each["why_not"] for each in champion.considered}
    assert reasons == {model: "" if model in FIGURES else f"there is no rank_{model} of {DAYS[0]}" for model in RANKERS}
    assert world.alias.run_id == world.lake.manifest("rank_lgbm", DAYS[0]).mlflow_run_id
    said = {"bizdate": DAYS[0], "champion_of": DAYS[0], "reason": champion.reason}
    assert world.alias.tags == {**said, "sha256": champion.sha256}
    (event,) = result.asset_materializations_for_node("rank_champion")
    assert event.metadata["reason"].value == champion.reason
    assert f"| final/{DAYS[0]} |  | there is no rank_final" in str(event.metadata["considered"].value)
    assert str(event.metadata["mlflow version"].value).endswith("/#/models/sample-rank/versions/1")


def test_materialized_again_it_is_the_same_partition_and_the_same_version(world: World) -> None:
    before = world.lake.manifest("rank_champion", DAYS[0])
    assert world.run(DAYS[0]).success
    assert world.lake.manifest("rank_champion", DAYS[0]) == before
    assert len(world.client.search_model_versions("name = 'sample-rank'")) == 1


def test_a_model_that_failed_a_gate_is_not_chosen_and_the_table_says_why(world: World) -> None:
    world.train(DAYS[1], FIGURES, failed={"rank_lgbm": "auc_floor", "onnx_deepfm": "onnx_matches_model"})
    assert world.run(DAYS[1], margin=0.03).success
    champion = world.champion(DAYS[1])
    assert (champion.model, champion.bizdate) == ("widedeep", DAYS[1])
    reasons = {each["model"]: each["why_not"] for each in champion.considered if each["bizdate"] == DAYS[1]}
    assert reasons["lgbm"] == "rank_lgbm failed auc_floor"
    assert reasons["deepfm"] == "onnx_deepfm failed onnx_matches_model"
    assert world.alias.run_id == world.lake.manifest("rank_widedeep", DAYS[1]).mlflow_run_id


def test_a_model_exported_before_it_was_trained_again_is_not_chosen(world: World) -> None:
    world.train(DAYS[2], FIGURES)
    world.write("rank_lgbm", DAYS[2], "rank_samples", metrics={"validation_auc": 0.9})
    assert world.run(DAYS[2]).success
    champion = world.champion(DAYS[2])
    assert champion.model == "deepfm"
    assert {
        "model": "lgbm",
        "bizdate": DAYS[2],
        "validation_auc": 0.9,
        "why_not": "onnx_lgbm was not made from the current rank_lgbm",
    } in champion.considered


def test_when_all_are_worse_by_more_than_the_margin_the_model_of_the_day_before_stays(world: World) -> None:
    world.train(DAYS[3], {"lgbm": 0.78, "widedeep": 0.77})
    assert world.run(DAYS[3]).success
    champion = world.champion(DAYS[3])
    assert (champion.model, champion.bizdate, champion.validation_auc) == ("deepfm", DAYS[2], 0.80)
    assert champion.reason.startswith(f"deepfm/{DAYS[2]} stays: lgbm/{DAYS[3]} has the highest validation AUC, 0.7800")
    assert world.alias.run_id == world.lake.manifest("rank_deepfm", DAYS[2]).mlflow_run_id


def test_a_pin_rolls_back_to_a_model_of_another_day(world: World) -> None:
    assert world.run(DAYS[3], pin=f"widedeep/{DAYS[1]}").success
    champion = world.champion(DAYS[3])
    assert (champion.path, champion.reason) == (
        f"onnx_widedeep/bizdate={DAYS[1]}/model.onnx",
        f"widedeep/{DAYS[1]} is pinned.",
    )
    assert world.alias.run_id == world.lake.manifest("rank_widedeep", DAYS[1]).mlflow_run_id
    assert "PinRefused: final" in str(failures(world.run(DAYS[3], pin="final")))
    assert world.champion(DAYS[3]) == champion


def test_an_earlier_day_made_again_leaves_the_alias_to_the_newest(world: World) -> None:
    before = world.alias.run_id
    result = world.run(DAYS[0])
    assert result.success
    (event,) = result.asset_materializations_for_node("rank_champion")
    assert event.metadata["mlflow version"].value == f"not named in MLflow: {DAYS[3]} has a champion of its own"
    assert world.alias.run_id == before


def test_dagster_skips_it_in_the_run_in_which_a_model_fails_and_a_sensor_asks_for_it(world: World) -> None:
    world.train(DAYS[4], FIGURES, failed={"rank_lgbm": "auc_floor"})
    together = world.run(DAYS[4], "onnx_lgbm")
    assert set(failures(together)) == {"onnx_lgbm"}  # refuses a model that failed its check
    assert DAYS[4] not in world.lake.bizdates("rank_champion")
    asked = world.ask(together)
    assert isinstance(asked, dg.RunRequest)
    assert asked.partition_key == DAYS[4]
    assert world.run(DAYS[4]).success
    assert world.champion(DAYS[4]).model == "deepfm"


def test_with_something_missing_the_champion_alone_is_asked_for_and_it_is_said_what(world: World) -> None:
    failed = world.run(DAYS[4], "onnx_lgbm")
    reads = [asset for made in families(load_profile("sample"))["mongo"].values() for asset in made.reads]
    for asset in reads:
        world.write(asset, DAYS[4], failed_checks=["unique_keys"] if asset == "i2i_swing" else [])
    Path(world.lake.location("users", DAYS[4]), "manifest.json").unlink()
    alone = world.ask(failed)
    assert isinstance(alone, dg.RunRequest)
    assert alone.asset_selection == [dg.AssetKey("rank_champion")]
    assert alone.tags["recsys/not_published_for_lack_of"] == "i2i_swing, users"
    for asset in ("i2i_swing", "users"):
        world.write(asset, DAYS[4])
    whole = world.ask(failed)
    assert isinstance(whole, dg.RunRequest)
    assert (whole.asset_selection, whole.tags) == (None, {"recsys/turn": "later", "dagster/priority": "20260105"})


@pytest.mark.parametrize(("retries", "tags", "left_alone"), RETRIES)
def test_a_run_that_will_be_retried_is_left_alone(
    world: World, retries: bool, tags: dict[str, str], left_alone: bool
) -> None:
    failed = world.run(DAYS[4], "onnx_lgbm")
    assert isinstance(world.ask(failed, retries=retries, tags=tags), dg.SkipReason) is left_alone


@pytest.mark.fails_check("rank_champion:champion_is_sound")
def test_a_champion_whose_file_is_gone_is_unsound_and_not_named_in_mlflow(world: World) -> None:
    before = world.alias.run_id
    Path(world.lake.location("onnx_deepfm", DAYS[4]), "model.onnx").unlink()
    result = world.run(DAYS[5])
    (check,) = [each for each in result.get_asset_check_evaluations() if not each.passed]
    assert check.check_name == "champion_is_sound"
    assert "model.onnx is missing or not as its manifest says" in str(check.metadata["error"].value)
    assert world.lake.manifest("rank_champion", DAYS[5]).failed_checks == ["champion_is_sound"]
    assert world.alias.run_id == before
