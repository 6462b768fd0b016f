"""MetaSpore's tuner files: settings are used, unknown ones are reported, and results are where the file says."""

from pathlib import Path
from typing import Any

import pytest

from recsys_assets.i2i.swing import Swing
from recsys_assets.models.config import NoSettings, TrainingConfig
from recsys_assets.models.lgbm import LgbmConfig
from recsys_assets.models.widedeep import WideDeepConfig
from recsys_assets.settings import Settings, settings
from recsys_assets.tuning import form, metaspore
from recsys_assets.tuning.form import SpaceError
from recsys_assets.tuning.space import Space, space, unused_keys

RANK = {"model": WideDeepConfig, "training": TrainingConfig}
# The keys of its `widedeep_tuner.yaml`, including misspelt ones, as in its demo's file and its README.
WIDEDEEP = """
cd app_name: a tuner
num_experiment: 3
model_name: widedeep
local_result_path: './output'
result_path: ${MY_S3_BUCKET}/tuner/widedeep/
py_files: './python.zip'

dataset:
    train: ${MY_S3_BUCKET}/train.parquet
    test: ${MY_S3_BUCKET}/test.parquet

common_param:
    local: False
    worker_count: 2
    server_count: 2
    worker_memory: '10G'
    server_memory: '10G'
    coordinator_memory: '10G'
    column_name_path: ${MY_S3_BUCKET}/column_schema
    combine_schema_path: ${MY_S3_BUCKET}/combine_column_schema
    wide_combine_schema_path: ${MY_S3_BUCKET}/wide_combine_column_schema
    model_in_path: null
    model_out_path: ${MY_S3_BUCKET}/model_out/
    model_export_path: null
    model_version: null
    experiment_name: null
    input_label_column_index: 0
    metric_update_interval: 500
    ...

hyper_param:
    use_wide: [True, False]
    batch_size: [256]
    embedding_size: [10, 20]
    deep_hidden_units: [[1024, 512, 256, 128, 1], [1024, 512, 1]]
    adam_learning_rate: [0.00001, 0.0001, 0.001]
    ftrl_learning_rate: 0.02
    ftrl_smothing_rate: 1.0
    ftrl_l1_regularization: 1.0
    ftrl_l2_regularization: 1.0
    training_epoches: [1, 2]
    shuffle_training_dataset: True
    ...
"""
SWING = """
model_name: swing
common_param: {user_id_column_name: user_id, behavior_filter_value: '1', max_recommendation_count: 20}
hyper_param: {use_plain_weight: [False, True], smoothing_coefficient: [0.5, 1.0, 2.0]}
"""
LGBM = """
model_name: lgbm
common_param: {boostingType: gbdt, objective: binary, metric: auc, lambdaL1: 10, maxDepth: -1, numThreads: 16}
hyper_param:
  {numLeaves: [7, 32], minDataInLeaf: 20, lambdaL2: 10, maxBin: 100, featureFraction: {low: 0.7, high: 0.9},
   learningRate: 0.024, numIterations: 1273, earlyStoppingRound: 100, baggingFraction: 0.8, baggingFreq: 4}
"""


def read(folder: Path, text: str) -> form.Form:
    (folder / "space.yaml").write_text(text)
    return form.read(folder / "space.yaml")


def values(found: Space) -> dict[str, list[Any]]:
    return {name: list(choices.values()) for name, choices in found.choices.items()}


def test_the_wide_and_deep_file_is_searched_as_it_is_printed(tmp_path: Path) -> None:
    found = space(read(tmp_path, WIDEDEEP), "widedeep", RANK)
    assert values(found) == {
        "batch": [256],
        "embedding": [10, 20],
        "hidden": [(1024, 512, 256, 128), (1024, 512)],  # the output layer of one unit is not a hidden layer
        "learning_rate": [1e-5, 1e-4, 1e-3],
        "epochs": [1, 2],
    }
    assert (found.size, found.constants, found.ranges) == (24, {}, {})


def test_what_means_nothing_here_is_named_with_its_reason(tmp_path: Path) -> None:
    left_out = unused_keys(read(tmp_path, WIDEDEEP), RANK)
    written = {line.split(":")[0].strip() for line in WIDEDEEP.splitlines() if ":" in line}
    used = {"num_experiment", "model_name", "result_path", "common_param", "hyper_param", "train", "test"}
    assert left_out.keys() == written - used - metaspore.RENAMED.keys() | {"..."}
    told = metaspore.describe_unused(left_out)
    assert "\n" not in told
    assert "use_wide: the wide part is always there" in told
    assert "ftrl_learning_rate, ftrl_smothing_rate, ftrl_l1_regularization" in told


def test_swing_and_lightgbm_are_known_by_their_names_too(tmp_path: Path) -> None:
    swing = space(read(tmp_path, SWING), "swing", {"": Swing})
    assert values(swing) == {"activity": [0.5, 0.0], "alpha": [0.5, 1.0, 2.0]}
    assert swing.constants == {"top_n": 20}
    sections = {"model": LgbmConfig, "training": NoSettings}
    lgbm = space(read(tmp_path, LGBM), "lgbm", sections)
    assert values(lgbm) == {"leaves": [7, 32]}
    assert lgbm.constants == {"min_rows": 20, "l2": 10.0, "bins": 100, "learning_rate": 0.024}
    assert lgbm.ranges.keys() == {"feature_fraction"}
    assert unused_keys(read(tmp_path, LGBM), sections)["maxDepth"].startswith("the trees have one form")


def test_no_name_is_in_both_tables_and_every_own_name_exists() -> None:
    assert not metaspore.RENAMED.keys() & metaspore.UNUSED.keys()
    assert all(renamed.own and renamed.why for renamed in metaspore.RENAMED.values())


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A project's home, with a data folder elsewhere."""
    for name in ("RECSYS_LANDING", "RECSYS_LAKE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RECSYS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path / "elsewhere"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "link").symlink_to(tmp_path)
    return settings()


def test_results_go_into_the_home_or_the_data_folder(tmp_path: Path, installation: Settings) -> None:
    below = "sample/tune_x/bizdate=2026-01-01"
    for written, found in {
        "results/": tmp_path / "home" / "results",
        "${WHERE}/x": tmp_path / "home" / "out" / "x",
        "$WHERE": tmp_path / "home" / "out",
        str(tmp_path / "elsewhere" / "tuner"): tmp_path / "elsewhere" / "tuner",
    }.items():
        assert form.result_place(written, below, installation, {"WHERE": "out"}) == found / below
    assert form.unset_variables("${MY_S3_BUCKET}/$x", {"x": ""}) == ["MY_S3_BUCKET"]


@pytest.mark.parametrize(
    "written", ["/etc/x", "../x", "results/../../x", "~/../../x", "link/x", "s3://bucket/x", "file:///etc"]
)
def test_results_go_nowhere_else(installation: Settings, written: str) -> None:
    with pytest.raises(SpaceError, match=r"result_path .*: write a path such as data/tuner"):
        form.result_place(written, "x", installation, {})


@pytest.mark.parametrize("folder", ["lake/sample", "landing"])
def test_results_do_not_go_into_the_lake_or_the_landing_folder(installation: Settings, folder: str) -> None:
    with pytest.raises(SpaceError, match="in the lake or the landing folder"):
        form.result_place(str(installation.data / folder), "x", installation, {})


def test_a_planted_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    secret, folder = tmp_path / "secret", tmp_path / "results"
    secret.write_text("mine")
    folder.mkdir()
    (folder / "summary.yaml").symlink_to(secret)
    (tmp_path / "summary.yaml").write_text("trials")
    form.copy_results([tmp_path / "summary.yaml"], folder)
    assert (secret.read_text(), (folder / "summary.yaml").read_text()) == ("mine", "trials")
    assert [path.name for path in folder.iterdir()] == ["summary.yaml"]
