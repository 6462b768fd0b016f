"""A model of Triton's Python backend that runs the ONNX file next to it; copied as `model.py` into each version.

It runs in the environment of the server, which has onnxruntime and no module of this project. Requests that Triton has
gathered are scored as one batch, on one thread.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """The class that Triton looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the ONNX file of this version."""
        config = json.loads(args["model_config"])
        self._outputs = [each["name"] for each in config["output"]]
        self._texts = {each["name"] for each in config["input"] if each["data_type"] == "TYPE_STRING"}
        self._names = [each["name"] for each in config["input"]]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        file = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Score all rows of the requests together; the answers are in the order of the requests."""
        feeds = [{name: self._column(request, name) for name in self._names} for request in requests]
        ends = np.cumsum([len(feed[self._names[0]]) for feed in feeds])[:-1]
        joined = {name: np.concatenate([feed[name] for feed in feeds]) for name in self._names}
        found = [np.split(each, ends) for each in self._session.run(self._outputs, joined)]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor(*each) for each in zip(self._outputs, parts, strict=True)])
            for parts in zip(*found, strict=True)
        ]

    def _column(self, request: Any, name: str) -> npt.NDArray[Any]:
        """An input of a request; Triton gives texts as bytes."""
        column: npt.NDArray[Any] = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
        texts: npt.NDArray[Any] = np.frompyfunc(bytes.decode, 1, 1)(column) if name in self._texts else column
        return texts
