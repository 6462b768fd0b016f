"""ONNX files that take raw features: vocabulary look-up, normalisation and sigmoid are inside.

A network is exported from torch on encoded inputs; this module puts the look-up of every raw feature in front of
it. Inputs, for a batch of N:

* categorical: (N,) int64 or string; missing is `MISSING`, and values that the vocabulary lacks are unknown.
* multi-valued, sequence: (N, length) int64 or string, padded with `MISSING`. The `history` of a user tower may be
  shorter: what a network costs grows with it.
* numeric: (N,) or (N, length) float32; NaN becomes the train mean.

Output of a ranking model: `score`, (N,) probability of a positive.
"""

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, compose, helper, numpy_helper
from torch import Tensor, nn

from recsys_assets.datasets.names import HISTORY
from recsys_assets.features.raw import widths
from recsys_assets.features.schema import MISSING, Feature, FeatureSchema
from recsys_assets.training.loop import Fitted

OPSET = 20
ML = "ai.onnx.ml"
ELEMENT = {"int64": TensorProto.INT64, "string": TensorProto.STRING, "float32": TensorProto.FLOAT}


class _Probability(nn.Module):
    """A ranking model with a sigmoid on its output."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, indices: Tensor, numeric: Tensor) -> Tensor:
        return torch.sigmoid(self.model(indices, numeric))


class _WithoutNumbers(nn.Module):
    """A module on indices and numbers, for a schema that has no numbers."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, indices: Tensor) -> Tensor:
        found: Tensor = self.module(indices, indices[:, :0].float())  # (N, 0) for any N
        return found


def export(fitted: Fitted, path: Path, metadata: Mapping[str, str]) -> None:
    """Write the ONNX file of a ranking model that is a torch module; the same model gives the same bytes.

    Args:
        fitted: the trained model.
        path: the file to write.
        metadata: more entries for the file's `metadata_props`, such as the bizdate.
    """
    model = export_network(on_inputs(_Probability(fitted.model), fitted.schema), fitted.schema, "score")
    write(model, fitted.schema, path, file_metadata(fitted, metadata))


def write(model: onnx.ModelProto, schema: FeatureSchema, path: Path, metadata: Mapping[str, str]) -> None:
    """Write the file of a network on a schema's encoded features, with the look-up of raw features in front."""
    _put_lookups_in_front(model.graph, schema)
    model.opset_import.append(helper.make_opsetid(ML, 2))
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def file_metadata(fitted: Fitted, more: Mapping[str, str]) -> dict[str, str]:
    """The file's `metadata_props`: the model, the schema it was trained under, and the values that mean missing."""
    return {
        "model": fitted.model_name,
        "schema_fingerprint": fitted.schema.fingerprint,
        "missing_int64": str(MISSING["int64"]),
        "missing_string": str(MISSING["string"]),
        **more,
    }


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """An onnxruntime session of the file, on the CPU."""
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def on_inputs(module: nn.Module, schema: FeatureSchema) -> nn.Module:
    """A module on indices and numbers as one on what the schema has of these."""
    return module if schema.floats else _WithoutNumbers(module)


def export_network(module: nn.Module, schema: FeatureSchema, given: str) -> onnx.ModelProto:
    """The module on `indices`, and `numeric` if any, with the output `given`, without any trace of this machine."""
    rows = 2  # with one row, torch would take the batch size for a constant
    # The range of an empty vocabulary may start past the last row.
    first = [schema.first_row[feature.name] for feature in schema.index_features for _ in range(feature.length)]
    example = {"indices": torch.tensor([first] * rows, dtype=torch.int64).clamp(max=schema.index_rows - 1)}
    if schema.floats:
        example["numeric"] = torch.zeros(rows, schema.floats)
    free = {"indices": {0: "batch", 1: "columns"}} if any(each.name == HISTORY for each in schema.features) else {}
    # The newer exporter (dynamo=True) takes 9 s for Wide & Deep on 38 features where this one takes 0.4 s.
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a newer exporter exists
        file = Path(folder) / "network.onnx"
        torch.onnx.export(
            module.eval(),
            tuple(example.values()),
            file,
            input_names=list(example),
            output_names=[given],
            dynamo=False,
            dynamic_axes={name: {0: "batch"} for name in (*example, given)} | free,
            opset_version=OPSET,
        )
        made = onnx.load(file)
    for part in (made, made.graph, *made.graph.node, *made.graph.value_info, *made.graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    # Torch names its tensors `view`, `div` and the like, and a feature may have such a name too.
    named: onnx.ModelProto = compose.add_prefix(made, "network.", rename_inputs=False, rename_outputs=False)
    return named


def _put_lookups_in_front(graph: onnx.GraphProto, schema: FeatureSchema) -> None:
    """Replace the inputs `indices` and `numeric` by the raw features and the nodes that compute those two."""
    nodes = [node for feature in schema.features for node in _lookup(feature, schema)]
    groups = {"indices": schema.index_features, "numeric": schema.of_kind("numeric")}
    for name, features in groups.items():
        if features:
            nodes.append(helper.make_node("Concat", [f"{f.name}/columns" for f in features], [name], name, axis=1))
    nodes.extend(graph.node)
    del graph.node[:], graph.input[:]
    graph.node.extend(nodes)
    graph.input.extend(
        helper.make_tensor_value_info(feature.name, ELEMENT[feature.type], ["batch", *_free_widths(feature)])
        for feature in schema.features
    )
    graph.initializer.append(numpy_helper.from_array(np.array([1]), "columns/axis"))


def _free_widths(feature: Feature) -> list[int] | list[str]:
    """The shape of a raw feature, without the batch dimension; a name stands for any width."""
    return [HISTORY] if feature.name == HISTORY else widths(feature)


def _lookup(feature: Feature, schema: FeatureSchema) -> list[onnx.NodeProto]:
    """Nodes from a raw feature to its columns (N, length) of `indices` or `numeric`."""
    nodes: list[onnx.NodeProto] = []
    found = feature.name  # the tensor that is to become columns
    if feature.kind != "numeric":
        (known, unknown), keys = schema.rows_of(feature), schema.keys(feature).to_pylist()
        table: dict[str, Any] = {
            f"keys_{feature.type}s": [MISSING[feature.type], *keys],
            "values_int64s": [unknown if feature.kind == "categorical" else 0, *range(known, known + len(keys))],
            "default_int64": unknown,
        }
        found = f"{feature.name}/rows"
        nodes.append(helper.make_node("LabelEncoder", [feature.name], [found], found, domain=ML, **table))
    shaped = f"{feature.name}/columns"
    if widths(feature):
        return [*nodes, helper.make_node("Identity", [found], [shaped], shaped)]
    return [*nodes, helper.make_node("Unsqueeze", [found, "columns/axis"], [shaped], shaped)]
