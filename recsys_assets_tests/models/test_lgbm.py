"""LightGBM as a ranker: its columns, its thresholds, when it stops, and behaviour that all rankers share."""

import dataclasses
import json
from pathlib import Path

import lightgbm as lgb
import numpy as np
import onnx
import pyarrow.compute as pc
import pytest
import torch
from onnxruntime import InferenceSession
from threadpoolctl import threadpool_limits

from recsys_assets.datasets.classes import OneClass
from recsys_assets.features.schema import encode
from recsys_assets.metrics import auc
from recsys_assets.models.lgbm import LgbmConfig, LgbmInputs
from recsys_assets.training import checkpoint, onnx_trees
from recsys_assets.training.lgbm import TREES, LgbmRanker
from recsys_assets.training.onnx_export import open_session
from recsys_assets_tests.helpers.ranking_rows import messy_rows, ranking_rows, ranking_schema

SCHEMA = ranking_schema()
TRAIN, VALIDATION = (ranking_rows(rows, seed)[0] for rows, seed in ((8000, 1), (2000, 2)))
QUICK = LgbmConfig(learning_rate=0.2, leaves=15, min_rows=20, step=5)


@pytest.fixture(scope="module")
def ranker() -> LgbmRanker:
    return LgbmRanker.fit("lgbm", SCHEMA, TRAIN, VALIDATION, QUICK, seed=1)


def columns(ranker: LgbmRanker, rows: int) -> np.ndarray:
    encoded = encode(SCHEMA, ranking_rows(rows, 4)[0])
    made: torch.Tensor = ranker.fitted.model(torch.from_numpy(encoded.indices), torch.from_numpy(encoded.numeric))
    return made.numpy()


def test_columns_are_what_their_names_say() -> None:
    inputs, messy = LgbmInputs(SCHEMA, LgbmConfig()), encode(SCHEMA, messy_rows())
    made = inputs(torch.from_numpy(messy.indices), torch.from_numpy(messy.numeric)).numpy()
    found = dict(zip(inputs.names, made.T.tolist(), strict=True))
    assert found.keys() == {
        "activity",
        *(f"taste:{genre}" for genre in ("Action", "Comedy", "Drama", "War")),
        "taste:own",
        "gender",
        *(f"genres:{genre}" for genre in ("Action", "Comedy", "Drama", "War")),
        *(f"tags:{tag}" for tag in (7, 8, 9)),
    }
    assert np.array_equal(found["activity"], np.array([2.0, np.nan, np.nan, 1e9, -3.0], np.float32), equal_nan=True)
    assert found["gender"] == [1, 0, 0, 0, 2]  # 0 is unknown or missing
    assert found["genres:Drama"] == [0, 0, 0, 1, 1]
    assert found["genres:War"] == [1, 0, 0, 0, 0]  # the last row's fourth genre is beyond the length
    assert found["tags:9"] == [0, 0, 0, 1, 0]
    assert found["taste:own"] == [4, 0, 0, 0, 0]


def test_a_list_of_too_many_values_is_left_out() -> None:
    names = LgbmInputs(SCHEMA, LgbmConfig(multi_hot=3)).names
    assert [name for name in names if name.startswith(("genres", "tags"))] == ["tags:7", "tags:8", "tags:9"]


def test_as_many_rounds_as_validated_best_are_made_of_all_rows(ranker: LgbmRanker) -> None:
    aucs = [metrics["validation_auc"] for metrics in ranker.fitted.history]
    assert ranker.fitted.best["validation_auc"] == max(aucs) > aucs[-1]
    assert len(aucs) == ranker.fitted.best_epoch + QUICK.patience + 1 < QUICK.epochs
    assert ranker.trees.num_trees() == (ranker.fitted.best_epoch + 1) * QUICK.step
    scores = ranker.predict(encode(SCHEMA, VALIDATION))
    assert auc(VALIDATION["label"].to_numpy(), scores) > max(aucs) + 0.01  # it has trained on these rows


def test_validation_rows_of_one_class_are_refused() -> None:
    positives = VALIDATION.filter(pc.equal(VALIDATION["label"], 1))
    with pytest.raises(OneClass, match="the validation part has one class only: all .* label 1"):
        LgbmRanker.fit("lgbm", SCHEMA, TRAIN, positives, QUICK)


def test_two_threads_train_the_same_trees_as_one() -> None:
    settings, texts = dataclasses.replace(QUICK, epochs=2), []
    for threads in (1, 2):
        with threadpool_limits(threads):
            texts.append(LgbmRanker.fit("lgbm", SCHEMA, TRAIN, VALIDATION, settings).trees.model_to_string())
    assert texts[0] == texts[1]


def test_thresholds_are_float32_and_part_the_rows_as_before() -> None:
    """For neighbouring float32 values, the threshold halfway between two is often rounded to one of them."""
    values = (np.arange(64) + np.float32(1).view(np.int32)).astype(np.int32).view(np.float32)
    rows = np.repeat(values, 20)[:, None]
    labels = np.repeat(np.arange(64) % 2, 20)
    parameters = {"objective": "binary", "min_data_in_leaf": 1, "min_data_in_bin": 1, "num_leaves": 64, "verbose": -1}
    trees = lgb.train(parameters, lgb.Dataset(rows, labels, params=parameters), 5)
    rounded = lgb.Booster(model_str=onnx_trees.with_float32_thresholds(trees.model_to_string()))
    thresholds = rounded.trees_to_dataframe()["threshold"].dropna().to_numpy()
    assert (thresholds == thresholds.astype(np.float32)).all()
    assert np.array_equal(rounded.predict(rows), trees.predict(rows))
    outputs = [run_alone(onnx_trees.convert(each), rows) for each in (rounded, trees)]
    assert np.abs(outputs[0] - trees.predict(rows)).max() < 1e-6
    assert np.abs(outputs[1] - trees.predict(rows)).max() > 0.1  # so the rounding is needed


def run_alone(model: onnx.ModelProto, rows: np.ndarray) -> np.ndarray:
    (probabilities,) = InferenceSession(model.SerializeToString()).run(["probabilities"], {"input": rows})
    found: np.ndarray = probabilities[:, 1]
    return found


def test_the_trees_alone_score_columns_in_opset_9(ranker: LgbmRanker, tmp_path: Path) -> None:
    ranker.export(tmp_path / "model.onnx", {})
    model = onnx.load(tmp_path / onnx_trees.ONNX_TREES)
    assert {each.domain: each.version for each in model.opset_import} == {"": 9, "ai.onnx.ml": 1}
    said = {each.key: each.value for each in model.metadata_props}
    assert json.loads(said["columns"]) == ranker.fitted.model.names
    for batch in (1, 1000):
        rows = columns(ranker, batch)
        session = open_session(tmp_path / onnx_trees.ONNX_TREES)
        label, probabilities = session.run(["label", "probabilities"], {"input": rows})
        expected = np.asarray(ranker.trees.predict(rows))
        assert np.abs(probabilities[:, 1] - expected).max() <= 1e-5
        assert label.tolist() == (expected > 0.5).astype(int).tolist()


def test_trees_on_other_columns_are_refused(ranker: LgbmRanker, tmp_path: Path) -> None:
    ranker.save(tmp_path)
    other = lgb.train({"objective": "binary", "verbose": -1}, lgb.Dataset(np.zeros((50, 3)), np.arange(50) % 2), 1)
    for text, says in ((other.model_to_string(), "trees on 3 columns"), ("half", "cannot be read")):
        (tmp_path / TREES).write_text(text)
        with pytest.raises(checkpoint.CheckpointMismatch, match=says):
            LgbmRanker.load(tmp_path)
