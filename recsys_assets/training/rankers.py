"""Ranking models of any library: they are fitted, scored, saved, loaded and exported in the same way.

The catalogue says which library a model uses. `fit` and `load` return a `Ranker`; no other module needs to know.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import pyarrow as pa

from recsys_assets.arrays import Floats
from recsys_assets.datasets.row_files import RowSource
from recsys_assets.features.raw import raw_inputs
from recsys_assets.features.schema import Encoded, FeatureSchema, encode
from recsys_assets.models.catalogue import Library, entry
from recsys_assets.training import checkpoint, onnx_export, trainer
from recsys_assets.training.lgbm import LgbmRanker
from recsys_assets.training.loop import Fitted, OnEpoch
from recsys_assets.training.warm_start import Start


class Ranker(Protocol):
    """A trained ranking model; `fitted` says what it is and how it was trained."""

    fitted: Fitted

    @classmethod
    def fit(cls, *data: Any, **settings: Any) -> Self:
        """Train: see `fit` of this module."""

    @classmethod
    def load(cls, folder: Path, schema: FeatureSchema | None = None) -> Self:
        """Read what `save` wrote: see `load` of this module."""

    def save(self, folder: Path) -> None:
        """Write the model and its `model.json`; the same model gives the same bytes."""

    def predict(self, rows: Encoded) -> Floats:
        """Probabilities (N,) of a positive."""

    def export(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the ONNX file; `metadata` is added to its `metadata_props`."""

    def importance(self) -> pa.Table | None:
        """The importance of each input (`column`, `gain`, `splits`), highest gain first; None if it is not known."""


@dataclass
class TorchRanker:
    """A ranking model that is a torch module."""

    fitted: Fitted

    @classmethod
    def fit(cls, *data: Any, **settings: Any) -> Self:
        """Train with `trainer.fit`."""
        return cls(trainer.fit(*data, **settings))

    @classmethod
    def load(cls, folder: Path, schema: FeatureSchema | None = None) -> Self:
        """Read a checkpoint."""
        return cls(checkpoint.load(folder, schema))

    def save(self, folder: Path) -> None:
        """Write a checkpoint."""
        checkpoint.save(folder, self.fitted)

    def predict(self, rows: Encoded) -> Floats:
        """Probabilities (N,) of a positive, computed on the model's device."""
        return trainer.predict(self.fitted.model, rows)

    def export(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the ONNX file."""
        onnx_export.export(self.fitted, path, metadata)

    def importance(self) -> None:
        """Not known for a network."""


LIBRARIES: dict[Library, type[Ranker]] = {"pytorch": TorchRanker, "lightgbm": LgbmRanker}


def fit(  # noqa: PLR0913, PLR0917 (all that decides what is trained)
    model_name: str,
    schema: FeatureSchema,
    train: RowSource,
    validation: RowSource,
    config: Any = None,
    training: Any = None,
    seed: int = 0,
    on_epoch: OnEpoch | None = None,
    start: Start | None = None,
) -> Ranker:
    """Train a ranking model of the catalogue; its rounds, or epochs, are chosen by validation AUC.

    `train` and `validation` hold the raw columns of the schema and `label`, as tables or Parquet files;
    `config` and `training` come from `configure`; `on_epoch` is called as training goes on, with a number
    from 0 and the metrics; the training of a torch model continues from `start`, a checkpoint, if it is given.

    Raises:
        CheckpointMismatch: the checkpoint does not fit.
        LabelError, OneClass, SchemaError, UnknownModel: the input cannot be trained on.
        TrainingDiverged: the loss became NaN or infinite.
    """
    library = LIBRARIES[entry(model_name).library]
    more = {"start": start} if start else {}  # for a torch model
    return library.fit(model_name, schema, train, validation, config, training, seed, on_epoch, **more)


def load(folder: Path, schema: FeatureSchema | None = None) -> Ranker:
    """Read the ranker that a folder holds.

    Args:
        folder: where `save` wrote.
        schema: the schema of the rows that are to be scored; the model's own must be the same.

    Raises:
        CheckpointMismatch: the schema differs, or the files do not fit each other.
        UnknownModel: this version has no such model.
    """
    return LIBRARIES[entry(checkpoint.read_description(folder)["model"]).library].load(folder, schema)


def parity(folder: Path, path: Path, table: pa.Table) -> dict[str, float]:
    """The largest absolute difference of probabilities between an ONNX file, `path`, and the saved ranker in `folder`.

    Both start from the raw columns of the table, so that look-up and normalisation are compared too.

    Returns:
        `max_difference` (all rows at once), `max_difference_batch_4096`, and `max_difference_batch_1` (the
        first 200 rows one by one).
    """
    ranker, runtime = load(folder), onnx_export.open_session(path)
    schema = ranker.fitted.schema
    expected, feed = ranker.predict(encode(schema, table)), raw_inputs(schema, table)

    def difference(batch: int, rows: int) -> float:
        scores = [
            runtime.run(["score"], {name: column[start : start + batch] for name, column in feed.items()})[0]
            for start in range(0, rows, batch)
        ]
        return float(np.abs(np.concatenate(scores) - expected[:rows]).max())

    return {
        "max_difference": difference(table.num_rows, table.num_rows),
        "max_difference_batch_4096": difference(4096, table.num_rows),
        "max_difference_batch_1": difference(1, min(200, table.num_rows)),
    }
