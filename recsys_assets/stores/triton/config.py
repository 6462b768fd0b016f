"""The files of a model for Triton: the ONNX file, and configurations with the dimensions and types of its inputs.

A version has a configuration for each of two backends: `python`, whose `model.py` runs the ONNX file and which
`recsys triton serve` starts, and `onnxruntime`, for servers that have that backend.

A feature with one value per row is (N,) in the ONNX file. Triton has no dimension less than one behind the batch, so it
is (N, 1) in requests and answers, and reshaped by Triton.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from recsys_assets.funnel.network import open_session, row_shape
from recsys_assets.stores.store import KEY

MODEL, SCRIPT, BACKENDS = "model.onnx", "model.py", ("python", "onnxruntime")
MAX_BATCH = 1024  # rows of a request, more than a list has candidates
QUEUE_DELAY = 100  # microseconds for which a request may wait for others, to be scored with them
CONTENT = "content"
FILES = pa.schema({KEY: pa.string(), CONTENT: pa.large_binary()})
_KINDS = {"tensor(int64)": "TYPE_INT64", "tensor(string)": "TYPE_STRING", "tensor(float)": "TYPE_FP32"}


def model_files(file: Path) -> pa.Table:
    """The files of a version, one row each, from an ONNX file that takes raw features."""
    runtime = open_session(file)
    given, found = runtime.get_inputs(), runtime.get_outputs()
    configs = {config_name(backend): config(backend, given, found).encode() for backend in BACKENDS}
    script = Path(__file__).with_name("backend.py").read_bytes()
    files = {MODEL: file.read_bytes(), SCRIPT: script, **configs}
    return pa.table([list(files), list(files.values())], schema=FILES)


def config_name(backend: str) -> str:
    """The file of a version that has the configuration for a backend."""
    return f"{backend}.pbtxt"


def config(backend: str, inputs: list[Any], outputs: list[Any]) -> str:
    """The text of a `config.pbtxt` for the inputs and outputs of an onnxruntime session, without a version policy."""
    lines = [
        f'backend: "{backend}"',
        f"max_batch_size: {MAX_BATCH}",
        f"dynamic_batching {{ max_queue_delay_microseconds: {QUEUE_DELAY} }}",
        "instance_group [ { kind: KIND_CPU count: 1 } ]",
        *(
            f"{what} {{ {_tensor(each)} }}"
            for what, tensors in (("input", inputs), ("output", outputs))
            for each in tensors
        ),
    ]
    return "\n".join(lines) + "\n"


def _tensor(tensor: Any) -> str:
    """Name, type and dimensions of an input or output, without those of the batch."""
    name, widths = json.dumps(tensor.name, ensure_ascii=False), row_shape(tensor)
    dims = ", ".join(map(str, widths)) or "1"
    reshape = "" if widths else " reshape { shape: [ ] }"
    return f"name: {name} data_type: {_KINDS[tensor.type]} dims: [ {dims} ]{reshape}"


def policy(version: str, numbers: list[int]) -> str:
    """The version policy: only these numbers are served, that of the live version first."""
    served = ", ".join(map(str, numbers))
    return f"# live: {version}\nversion_policy {{ specific {{ versions: [ {served} ] }} }}\n"
