"""LightGBM rankers: gradient-boosted trees (Ke et al. 2017) on the columns of `LgbmInputs`.

Given a seed a training repeats bit by bit, whatever the number of threads: `deterministic`, and histograms always
by column, which LightGBM would else choose by its timing of both ways.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from recsys_assets.features.schema import Encoded, FeatureSchema
from recsys_assets.models.lgbm import LgbmConfig
from recsys_assets.models.registry import entry, read_by
from recsys_assets.training import checkpoint, onnx_trees
from recsys_assets.training.data import Rows, load
from recsys_assets.training.loop import Fitted, OnEpoch

TREES = "model.txt"


@dataclass
class LgbmRanker:
    """Trees and what they came from; `fitted.model` makes their columns, an epoch is `config.step` rounds."""

    fitted: Fitted
    trees: lgb.Booster

    @classmethod
    def fit(
        cls,
        model_name: str,
        schema: FeatureSchema,
        train: pa.Table | Path,
        validation: pa.Table | Path,
        config: LgbmConfig | None = None,
        training: Any = None,
        seed: int = 0,
        on_epoch: OnEpoch | None = None,
    ) -> Self:
        """Add trees until the validation AUC no longer rises and keep those of the best epoch.

        Raises:
            LabelError, SchemaError, UndefinedMetric: the input cannot be trained on.
        """
        made, schema = entry(model_name), read_by(model_name, schema)
        config = config or made.config()
        fitted = Fitted(model_name, made.model(schema, config), config, schema, training or made.training, seed)
        train_rows, validation_rows = (load(schema, source, torch.device("cpu")) for source in (train, validation))
        parameters = _parameters(config, seed)
        data = _dataset(fitted, train_rows, parameters)
        trees = lgb.Booster(parameters, data)
        trees.add_valid(_dataset(fitted, validation_rows, parameters, data), "validation")
        _boost(fitted, trees, on_epoch)
        text = trees.model_to_string(num_iteration=(fitted.best_epoch + 1) * config.step)
        return cls(fitted, lgb.Booster(model_str=with_float32_thresholds(text)))

    @classmethod
    def load(cls, folder: Path, schema: FeatureSchema | None = None) -> Self:
        """Read `model.txt` and `model.json`.

        Raises:
            CheckpointMismatch: another schema, or trees on other columns than the description's.
        """
        fitted = checkpoint.described(folder, schema)
        try:
            trees = lgb.Booster(model_str=(folder / TREES).read_text(encoding="utf-8"))
        except lgb.basic.LightGBMError as error:
            raise checkpoint.CheckpointMismatch(f"{folder / TREES} cannot be read: {error}") from error
        if trees.num_feature() != len(fitted.model.names):
            raise checkpoint.CheckpointMismatch(
                f"{folder / TREES} has trees on {trees.num_feature()} columns, {checkpoint.DESCRIPTION} "
                f"describes {len(fitted.model.names)}: materialize the model again"
            )
        return cls(fitted, trees)

    def save(self, folder: Path) -> None:
        """Write `model.txt`, in LightGBM's own format, and `model.json`; the same model gives the same bytes."""
        checkpoint.describe(folder, self.fitted)
        (folder / TREES).write_text(self.trees.model_to_string(), encoding="utf-8")

    def predict(self, rows: Encoded) -> npt.NDArray[np.float32]:
        """Probabilities (N,) of a positive."""
        columns = _columns(self.fitted, torch.from_numpy(rows.indices), torch.from_numpy(rows.numeric))
        scores: npt.NDArray[np.float64] = self.trees.predict(columns)
        return scores.astype(np.float32)

    def export(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the ONNX file on raw features, and beside it `trees.onnx` on the columns."""
        onnx_trees.export(self.fitted, self.trees, path, metadata)

    def importance(self) -> pa.Table:
        """Each column's gain, the loss that its splits have taken away, and number of splits; most gain first."""
        gain, splits = (self.trees.feature_importance(kind) for kind in ("gain", "split"))
        table = pa.table({"column": self.fitted.model.names, "gain": gain, "splits": splits.astype(np.int64)})
        return table.sort_by([("gain", "descending"), ("column", "ascending")])


def with_float32_thresholds(trees: str) -> str:
    """LightGBM's text of trees, each threshold rounded down to a float32, which the ONNX file can hold.

    No float32 lies between a threshold and its rounding, so every row goes the way it went before. Rounded to
    the nearest, as a converter does, a threshold may pass a value that it has to stay below.
    """
    lines = trees.split("\n")
    for place, line in enumerate(lines):
        name, _, values = line.partition("=")
        if name == "threshold":
            exact = np.array(values.split(), np.float64)
            near = exact.astype(np.float32)
            below = np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near)
            lines[place] = "threshold=" + " ".join(repr(value) for value in below.astype(np.float64).tolist())
    return "\n".join(line for line in lines if not line.startswith("tree_sizes="))  # they count the old characters


def _parameters(config: LgbmConfig, seed: int) -> dict[str, Any]:
    return {
        "objective": "binary",
        "metric": ["auc", "binary_logloss"],
        "learning_rate": config.learning_rate,
        "num_leaves": config.leaves,
        "min_data_in_leaf": config.min_rows,
        "lambda_l2": config.l2,
        "feature_fraction": config.feature_fraction,
        "max_bin": config.bins,
        "seed": seed,
        "deterministic": True,
        "force_col_wise": True,
        "verbose": -1,
    }


def _columns(fitted: Fitted, indices: Tensor, numeric: Tensor, batch: int = 65536) -> npt.NDArray[np.float32]:
    """Columns (N, F) of encoded rows."""
    parts = zip(indices.split(batch), numeric.split(batch), strict=True)
    return torch.cat([fitted.model(i, n) for i, n in parts]).numpy()


def _dataset(
    fitted: Fitted, rows: Rows, parameters: Mapping[str, Any], bins_of: lgb.Dataset | None = None
) -> lgb.Dataset:
    columns = _columns(fitted, rows.indices, rows.numeric)
    return lgb.Dataset(columns, rows.labels.numpy(), reference=bins_of, params=dict(parameters))


def _boost(fitted: Fitted, trees: lgb.Booster, on_epoch: OnEpoch | None) -> None:
    """Epochs of `step` rounds until the validation AUC has not risen for `patience` of them."""
    config: LgbmConfig = fitted.config
    for epoch in range(config.epochs):
        for _ in range(config.step):
            trees.update()
        (_, _, train_logloss, _) = next(each for each in trees.eval_train() if each[1] == "binary_logloss")
        found = {name: value for _, name, value, _ in trees.eval_valid()}
        metrics = {
            "train_logloss": float(train_logloss),
            "validation_auc": float(found["auc"]),
            "validation_logloss": float(found["binary_logloss"]),
        }
        fitted.history.append(metrics)
        if on_epoch:
            on_epoch(epoch, metrics)
        if metrics["validation_auc"] > fitted.best["validation_auc"]:
            fitted.best_epoch = epoch
        if epoch - fitted.best_epoch >= config.patience:
            break
