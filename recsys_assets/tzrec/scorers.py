"""Models that score rows: an exported tower or ranking model by onnxruntime, or a ranking model's checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.arrays import Array, Floats, list_array
from recsys_assets.datasets.names import HISTORY
from recsys_assets.features.raw import INPUTS, raw_columns, read_inputs, rows_of
from recsys_assets.features.schema import Feature, encode
from recsys_assets.tzrec.model_folder import HISTORIES, RANKER, NoModel, checkpoint_of
from recsys_assets.tzrec.pipeline import FILE, Pipeline, read_pipeline

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

PROBABILITY = "probs"  # TorchEasyRec's name of a ranking model's output


class NoCheckpointPrediction(ValueError):
    """A two-tower model is to predict from its checkpoint, which does not say which tower is meant."""


@dataclass(frozen=True)
class Scorer:
    """A model that gives each row a probability or a vector.

    Attributes:
        pipeline: what its columns mean.
        columns: the names of the columns that it reads.
        output: the name of what it gives.
        score: the outputs (N,) of N rows.
    """

    pipeline: Pipeline
    columns: list[str]
    output: str
    score: Callable[[pa.Table], pa.Array]


def open_exported(folder: Path, edits: str | None) -> Scorer:
    """The model in a folder that `export` wrote: the user tower, the item tower, or a ranking model.

    Raises:
        NoModel: the folder has none.
    """
    for file, output in (("user.onnx", "user_tower_emb"), ("item.onnx", "item_tower_emb"), (RANKER, PROBABILITY)):
        if (folder / file).is_file():
            return _open_file(folder / file, output, edits)
    raise NoModel(f"{folder} holds no exported model: run export, and of two towers name `user` or `item` in it")


def open_checkpoint(pipeline: Pipeline, folder: Path | None) -> Scorer:
    """A trained ranking model.

    Raises:
        NoCheckpointPrediction: it is a two-tower model.
        NoModel: there is none.
    """
    if pipeline.is_tower:
        raise NoCheckpointPrediction(
            f"{pipeline.model} has two towers: run export, then name one in --scripted_model_path"
        )
    from recsys_assets.training import rankers

    ranker = rankers.load(checkpoint_of(pipeline, folder))
    schema = ranker.fitted.schema

    def score(rows: pa.Table) -> pa.Array:
        return pa.array(ranker.predict(encode(schema, rows)))

    return Scorer(pipeline, [feature.name for feature in schema.features], PROBABILITY, score)


def _open_file(file: Path, output: str, edits: str | None) -> Scorer:
    from recsys_assets.training.onnx_export import open_session

    session = open_session(file)
    features = read_inputs(session.get_modelmeta().custom_metadata_map[INPUTS])
    names = [feature.name for feature in features if feature.name != HISTORY]
    score = _scores(session, features) if output == PROBABILITY else _vectors(session, features, file.parent)
    return Scorer(read_pipeline(file.parent / FILE, edits), names, output, score)


def _scores(session: "InferenceSession", features: list[Feature]) -> Callable[[pa.Table], pa.Array]:
    def score(rows: pa.Table) -> pa.Array:
        return pa.array(_run(session, "score", raw_columns(features, rows)))

    return score


def _vectors(session: "InferenceSession", features: list[Feature], folder: Path) -> Callable[[pa.Table], pa.Array]:
    """Vectors; a user's is that of the history in the folder."""
    has_history = HISTORY in (feature.name for feature in features)
    known = pq.read_table(folder / HISTORIES) if has_history else None

    def score(rows: pa.Table) -> pa.Array:
        if known is not None:
            past = rows_of(known, "user_id", rows["user_id"].combine_chunks())[HISTORY]
            rows = rows.append_column(HISTORY, past)
        vectors = _run(session, "vector", raw_columns(features, rows))
        return list_array(pa.array(vectors.reshape(-1)), np.full(len(vectors), vectors.shape[1]))

    return score


def _run(session: "InferenceSession", output: str, feed: dict[str, Array]) -> Floats:
    return cast(Floats, session.run([output], feed)[0])
