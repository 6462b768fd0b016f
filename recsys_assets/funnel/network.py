"""An exported file in two parts: the look-ups of raw features, and the network on what they give.

`training/onnx_export.py` puts the look-up of every raw feature in front of a network's inputs, `indices` and `numeric`.
A file of 300 pairs with texts among their features took 4 times as long with its look-ups as without.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_assets.arrays import Array, Floats, Ints

if TYPE_CHECKING:
    import onnx
    import onnxruntime

INPUTS = ("indices", "numeric")


class Network:
    """A network, on one thread of the CPU.

    Attributes:
        about: the metadata of its file.

    Args:
        model: as `read_network` gives it.
    """

    def __init__(self, model: "onnx.ModelProto") -> None:
        self.about = {each.key: each.value for each in model.metadata_props}
        (self._output,) = (each.name for each in model.graph.output)
        self._session = open_session(model.SerializeToString())

    def __call__(self, inputs: Mapping[str, Array]) -> Floats:
        """The output for N rows of `indices` (N, K) and, if the model has numbers, `numeric` (N, F)."""
        found: Floats = self._session.run([self._output], inputs)[0]
        return found


def read_network(path: Path) -> "onnx.ModelProto":
    """The network of a file, without the look-ups."""
    import onnx

    model = onnx.load(path)
    made = _looked_up(model.graph)
    everything = {name for node in model.graph.node for name in node.output}
    _keep(model.graph, everything - made, taken=[name for name in INPUTS if name in made])
    return model


class Lookups:
    """The other part: what the network reads, from raw features.

    Attributes:
        widths: of each raw feature that has one; a name if any width is taken.
    """

    def __init__(self, path: Path) -> None:
        import onnx

        model = onnx.load(path)
        _keep(model.graph, _looked_up(model.graph), given=INPUTS[:1])
        self._session = open_session(model.SerializeToString())
        shapes = {each.name: each.shape for each in self._session.get_inputs()}
        self.widths: dict[str, int | str] = {name: shape[1] for name, shape in shapes.items() if len(shape) > 1}

    def __call__(self, raw: Mapping[str, Array]) -> Ints:
        """(N, K) the `indices` of N rows of raw features (`features/raw.py`)."""
        found: Ints = self._session.run([INPUTS[0]], raw)[0]
        return found


def _looked_up(graph: "onnx.GraphProto") -> set[str]:
    """The tensors up to the inputs of the network, these included."""
    made = {name: node for node in graph.node for name in node.output}
    found: set[str] = set()
    waiting = [name for name in INPUTS if name in made]
    while waiting:
        found.add(name := waiting.pop())
        waiting.extend(each for each in made[name].input if each in made and each not in found)
    return found


def _keep(graph: "onnx.GraphProto", made: set[str], *, given: Sequence[str] = (), taken: Sequence[str] = ()) -> None:
    """Keep the nodes that make some tensors; the graph gives, or takes, those tensors of `INPUTS` that are named."""
    from onnx import TensorProto, helper

    kept = [node for node in graph.node if made & set(node.output)]
    read = {name for node in kept for name in node.input}
    weights = [each for each in graph.initializer if each.name in read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(weights)
    kinds = dict(zip(INPUTS, (TensorProto.INT64, TensorProto.FLOAT), strict=True))
    for values, names in ((graph.input, taken), (graph.output, given)):
        if names:
            del values[:]
            values.extend(helper.make_tensor_value_info(name, kinds[name], ["batch", None]) for name in names)


def open_session(file: Path | bytes, is_trial: bool = False) -> "onnxruntime.InferenceSession":
    """An onnxruntime session of a file or its content, on one thread of the CPU, which does not spin while it waits.

    In a trial, faults are raised and not printed as well.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if is_trial:
        options.log_severity_level = 4  # fatal ones only
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def row_shape(tensor: Any) -> list[int]:
    """The dimensions of a session's input or output behind that of the rows; -1 for one that the file leaves open."""
    return [each if isinstance(each, int) else -1 for each in tensor.shape[1:]]
