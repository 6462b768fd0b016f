"""An ONNX file on raw features as a model in MLflow's own format, which `mlflow models serve` starts.

A request is JSON with a list of values for each raw feature, `{"inputs": {"user_id": [1, 2], "genres": [[3, 5], …]}}`.
A missing integer or text is what the file's metadata say (`training/onnx_export.py`), a missing number is null.
"""

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_assets.datasets.folders import file_hash

if TYPE_CHECKING:
    import mlflow
    from mlflow.models import ModelSignature

FILE_TAG = "sha256"  # the tag of a registered version that says of which ONNX file it is
ONNX_FILE = "model.onnx"  # MLflow's name for it
_TYPES = {"tensor(int64)": np.dtype(np.int64), "tensor(string)": np.dtype(str), "tensor(float)": np.dtype(np.float32)}


def version_of(client: "mlflow.MlflowClient", name: str, run_id: str, file: Path) -> str:
    """The version of a registered model that is the ONNX file of a run; it is registered if there is none."""
    sha256 = file_hash(file)
    for known in client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'"):
        if known.tags.get(FILE_TAG) == sha256:
            return str(known.version)
    place = f"onnx/{sha256[:12]}"  # a file that is exported again is another version
    with tempfile.TemporaryDirectory() as folder:
        save(file, Path(folder, "model"))
        client.log_artifacts(run_id, str(Path(folder, "model")), place)
    source = f"{client.get_run(run_id).info.artifact_uri}/{place}"
    return str(client.create_model_version(name, source, run_id, tags={FILE_TAG: sha256}).version)


def save(file: Path, folder: Path) -> None:
    """Write the model with its signature into a folder that does not exist yet; it holds a copy of the ONNX file."""
    import mlflow.onnx
    import onnx

    mlflow.onnx.save_model(
        onnx.load(file),
        folder,
        signature=signature(file),
        pip_requirements=mlflow.onnx.get_default_pip_requirements(),  # to find them, MLflow would start a process
        onnx_execution_providers=["CPUExecutionProvider"],
    )
    shutil.copyfile(file, folder / ONNX_FILE)  # the bytes whose hash the champion's record names


def signature(file: Path) -> "ModelSignature":
    """The inputs and outputs of an ONNX file: names, types and shapes, -1 for the rows."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    from recsys_assets.funnel.network import open_session, row_shape

    runtime = open_session(file)

    def schema(tensors: list[Any]) -> Schema:
        return Schema([TensorSpec(_TYPES[each.type], (-1, *row_shape(each)), each.name) for each in tensors])

    return ModelSignature(schema(runtime.get_inputs()), schema(runtime.get_outputs()))
