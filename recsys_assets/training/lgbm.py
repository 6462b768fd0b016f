"""LightGBM rankers: gradient-boosted trees (Ke et al. 2017) on the columns of `LgbmInputs`.

The number of rounds is that of the best validation AUC; then as many are trained again on train and validation
rows, the newest ones before the rows to score. This was decided on validation rows alone: with the first half of
each user's validation rows in training too, the AUC on the second half was 0.8153, without them 0.8135.

With a given seed a training repeats bit by bit, whatever the number of threads: it is `deterministic`, and
histograms are always by column, which LightGBM would otherwise choose by timing both ways.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from recsys_assets.arrays import Floats
from recsys_assets.datasets.classes import require_both_classes
from recsys_assets.datasets.row_files import RowSource
from recsys_assets.features.schema import Encoded, FeatureSchema
from recsys_assets.models.catalogue import DESCRIPTION, entry, features_for
from recsys_assets.models.lgbm import LgbmConfig, LgbmInputs
from recsys_assets.training import checkpoint, onnx_trees
from recsys_assets.training.data import Rows, load
from recsys_assets.training.loop import Fitted, OnEpoch

TREES = "model.txt"


@dataclass
class LgbmRanker:
    """Trees and how they were trained; `fitted.model` makes their columns, and an epoch is `config.step` rounds."""

    fitted: Fitted
    trees: lgb.Booster

    @classmethod
    def fit(
        cls,
        model_name: str,
        schema: FeatureSchema,
        train: RowSource,
        validation: RowSource,
        config: LgbmConfig | None = None,
        training: Any = None,
        seed: int = 0,
        on_epoch: OnEpoch | None = None,
    ) -> Self:
        """Add trees until the validation AUC no longer rises; then train as many on train and validation rows.

        Raises:
            LabelError, OneClass, SchemaError: the input cannot be trained on.
        """
        require_both_classes({"train": train, "validation": validation})
        made, schema = entry(model_name), features_for(model_name, schema)
        config = config or made.config()
        fitted = Fitted(model_name, made.build(schema, config), config, schema, training or made.training, seed)
        seen, held_out = (load(schema, source, torch.device("cpu")) for source in (train, validation))
        _choose_rounds(fitted, seen, held_out, on_epoch)
        rounds = (fitted.best_epoch + 1) * config.step
        trees = lgb.train(_parameters(fitted), _dataset(fitted, [seen, held_out]), rounds)
        return cls(fitted, lgb.Booster(model_str=onnx_trees.with_float32_thresholds(trees.model_to_string())))

    @classmethod
    def load(cls, folder: Path, schema: FeatureSchema | None = None) -> Self:
        """Read `model.txt` and `model.json`.

        Raises:
            CheckpointMismatch: the schema differs, or the trees have other columns than the description.
        """
        fitted = checkpoint.build(folder, schema)
        try:
            trees = lgb.Booster(model_str=(folder / TREES).read_text(encoding="utf-8"))
        except lgb.basic.LightGBMError as error:
            raise checkpoint.CheckpointMismatch(f"{folder / TREES} cannot be read: {error}") from error
        ranker = cls(fitted, trees)
        if trees.num_feature() != len(ranker.columns):
            raise checkpoint.CheckpointMismatch(
                f"{folder / TREES} has trees on {trees.num_feature()} columns, {DESCRIPTION} "
                f"describes {len(ranker.columns)}: materialize the model again"
            )
        return ranker

    @property
    def columns(self) -> list[str]:
        """Names of the columns that the trees take, in order."""
        return cast(LgbmInputs, self.fitted.model).names

    def save(self, folder: Path) -> None:
        """Write `model.txt`, in LightGBM's own format, and `model.json`; the same model gives the same bytes."""
        checkpoint.write_description(folder, self.fitted)
        (folder / TREES).write_text(self.trees.model_to_string(), encoding="utf-8")

    def predict(self, rows: Encoded) -> Floats:
        """Probabilities (N,) of a positive."""
        columns = _columns(self.fitted, torch.from_numpy(rows.indices), torch.from_numpy(rows.numeric))
        return np.asarray(self.trees.predict(columns), np.float32)

    def export(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the ONNX file on raw features, and `trees.onnx` on the columns next to it."""
        onnx_trees.export(self.fitted, self.trees, path, metadata)

    def importance(self) -> pa.Table:
        """Each column's gain (the loss that its splits removed) and number of splits, highest gain first."""
        gain, splits = (self.trees.feature_importance(kind) for kind in ("gain", "split"))
        table = pa.table({"column": self.columns, "gain": gain, "splits": splits.astype(np.int64)})
        return table.sort_by([("gain", "descending"), ("column", "ascending")])


def _parameters(fitted: Fitted) -> dict[str, Any]:
    config: LgbmConfig = fitted.config
    return {
        "objective": "binary",
        "metric": ["auc", "binary_logloss"],
        "learning_rate": config.learning_rate,
        "num_leaves": config.leaves,
        "min_data_in_leaf": config.min_rows,
        "lambda_l2": config.l2,
        "feature_fraction": config.feature_fraction,
        "max_bin": config.bins,
        "seed": fitted.seed,
        "deterministic": True,
        "force_col_wise": True,
        "verbose": -1,
    }


def _columns(fitted: Fitted, indices: Tensor, numeric: Tensor, batch: int = 65536) -> Floats:
    """Columns (N, F) of encoded rows."""
    parts = zip(torch.split(indices, batch), torch.split(numeric, batch), strict=True)
    return torch.cat([fitted.model(i, n) for i, n in parts]).numpy()


def _dataset(fitted: Fitted, parts: Sequence[Rows], bins_of: lgb.Dataset | None = None) -> lgb.Dataset:
    """The rows of all parts as a LightGBM data set, with its own bins or those of `bins_of`."""
    columns = np.concatenate([_columns(fitted, rows.indices, rows.numeric) for rows in parts])
    labels = np.concatenate([rows.labels.numpy() for rows in parts])
    return lgb.Dataset(columns, labels, reference=bins_of, params=_parameters(fitted))


def _choose_rounds(fitted: Fitted, train: Rows, validation: Rows, on_epoch: OnEpoch | None) -> None:
    """Train epochs of `step` rounds on train rows, until the validation AUC has not risen for `patience` epochs."""
    config: LgbmConfig = fitted.config
    data = _dataset(fitted, [train])
    trees = lgb.Booster(_parameters(fitted), data)
    trees.add_valid(_dataset(fitted, [validation], data), "validation")
    for epoch in range(config.epochs):
        for _ in range(config.step):
            trees.update()
        on_train, found = (
            {each[1]: float(each[2]) for each in judge()} for judge in (trees.eval_train, trees.eval_valid)
        )
        metrics = {
            "train_logloss": on_train["binary_logloss"],
            "validation_auc": found["auc"],
            "validation_logloss": found["binary_logloss"],
        }
        fitted.history.append(metrics)
        if on_epoch:
            on_epoch(epoch, metrics)
        if metrics["validation_auc"] > fitted.best["validation_auc"]:
            fitted.best_epoch = epoch
        if epoch - fitted.best_epoch >= config.patience:
            break
