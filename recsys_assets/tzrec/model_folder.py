"""The folder of a trained model, and what is exported from it.

<model_dir>/pipeline.config              the pipeline file with all edits
<model_dir>/train_eval_result.txt        the metrics, as JSON
<model_dir>/checkpoint/                  the model, its description and pipeline.config
<model_dir>/checkpoint/histories.parquet of a two-tower model: what each user touched before the rows to evaluate

<export_dir>/user/, <export_dir>/item/   of a two-tower model: `user.onnx` with the histories, and `item.onnx`
<export_dir>/model.onnx                  of a ranking model
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from recsys_assets.features.raw import INPUTS, inputs_text
from recsys_assets.tzrec.outputs import new_folder_at, write_text
from recsys_assets.tzrec.pipeline import FILE, Pipeline

CHECKPOINT = "checkpoint"
RESULT = "train_eval_result.txt"
HISTORIES = "histories.parquet"
RANKER = "model.onnx"


class NoModel(FileNotFoundError):
    """A folder holds no model; the message says what to run."""


@contextlib.contextmanager
def new_checkpoint(pipeline: Pipeline) -> Iterator[Path]:
    """A folder for the trained model; it becomes that of the pipeline when the block succeeds, after its file.

    Raises:
        Unwritable: there is a trained model already, or the folder cannot be created.
    """
    with new_folder_at(pipeline.form.model_dir / CHECKPOINT) as folder:
        yield folder
        write_text(pipeline.form.model_dir / FILE, pipeline.text)


def checkpoint_of(pipeline: Pipeline, given: Path | None) -> Path:
    """The folder of the trained model: the given one, or that of the pipeline's `model_dir`.

    Raises:
        NoModel: it holds no model.
    """
    from recsys_assets.models.catalogue import DESCRIPTION

    folder = given or pipeline.form.model_dir / CHECKPOINT
    if not (folder / DESCRIPTION).is_file():
        raise NoModel(f"{folder} holds no trained model: run train_eval, or name the folder in --checkpoint_path")
    return folder


def export(pipeline: Pipeline, checkpoint: Path, folder: Path) -> None:
    """Write the ONNX files of a trained model into an empty folder.

    Raises:
        CheckpointMismatch: the checkpoint contradicts itself.
    """
    if pipeline.is_tower:
        _export_towers(pipeline, checkpoint, folder)
        return
    from recsys_assets.training import rankers

    ranker = rankers.load(checkpoint)
    ranker.export(folder / RANKER, {INPUTS: inputs_text(ranker.fitted.schema)})
    (folder / FILE).write_text(pipeline.text, encoding="utf-8")


def _export_towers(pipeline: Pipeline, checkpoint: Path, folder: Path) -> None:
    """Write a folder for each tower; that of the user's has the histories."""
    from recsys_assets.training import onnx_towers

    onnx_towers.export(checkpoint, folder)
    for side in onnx_towers.SIDES:
        (folder / side).mkdir()
        (folder / f"{side}.onnx").rename(folder / side / f"{side}.onnx")
        (folder / side / FILE).write_text(pipeline.text, encoding="utf-8")
    (folder / "user" / HISTORIES).write_bytes((checkpoint / HISTORIES).read_bytes())
