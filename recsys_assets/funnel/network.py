"""An exported file without its look-ups: the network alone, on features that were encoded before.

`training/onnx_export.py` puts the look-up of every raw feature in front of a network's inputs, `indices` and `numeric`.
A file of 300 pairs with texts among their features took 4 times as long with its look-ups as without.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_assets.arrays import Array

if TYPE_CHECKING:
    import onnx
    import onnxruntime

INPUTS = ("indices", "numeric")


class Network:
    """The network of a file, on one thread of the CPU.

    Attributes:
        about: the file's metadata.
    """

    def __init__(self, path: Path) -> None:
        import onnx

        model = onnx.load(path)
        self.about = {each.key: each.value for each in model.metadata_props}
        _remove_lookups(model.graph)
        (self._output,) = (each.name for each in model.graph.output)
        self._session = open_session(model.SerializeToString())

    def __call__(self, inputs: Mapping[str, Array]) -> Array:
        """The output for N rows of `indices` (N, K) and, if the model has numbers, `numeric` (N, F)."""
        found: Array = self._session.run([self._output], inputs)[0]
        return found


def _remove_lookups(graph: "onnx.GraphProto") -> None:
    """Take away everything in front of the inputs of the network."""
    from onnx import TensorProto, helper

    made = {name: node for node in graph.node for name in node.output}
    inputs, waiting = [name for name in INPUTS if name in made], list(INPUTS)
    lookups: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in made and name not in lookups:
            lookups.add(name)
            waiting.extend(made[name].input)
    kept = [node for node in graph.node if not lookups & set(node.output)]
    read = {name for node in kept for name in node.input}
    weights = [each for each in graph.initializer if each.name in read]
    del graph.node[:], graph.input[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(weights)
    kinds = dict(zip(INPUTS, (TensorProto.INT64, TensorProto.FLOAT), strict=True))
    graph.input.extend(helper.make_tensor_value_info(name, kinds[name], ["batch", None]) for name in inputs)


def open_session(file: Path | bytes) -> "onnxruntime.InferenceSession":
    """An onnxruntime session of a file or its content, on one thread of the CPU, which does not spin while it waits."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
