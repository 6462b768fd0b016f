"""LightGBM rankers as ONNX files.

`model.onnx` takes raw features and gives `score`, like that of every ranker: see `onnx_export`. `trees.onnx`,
next to it, holds only the trees, for a server that computes the columns itself, in opset 9, which old runtimes
read: `input` (N, F) float32, NaN where missing, to `label` (N,) and `probabilities` (N, 2); `metadata_props`
has the names of the columns in order, a JSON list under `columns`.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import lightgbm as lgb
import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

from recsys_assets.training.loop import Fitted
from recsys_assets.training.onnx_export import export_network, file_metadata, on_inputs, write

ONNX_TREES = "trees.onnx"
TREES_OPSET = 9


def export(fitted: Fitted, trees: lgb.Booster, path: Path, metadata: Mapping[str, str]) -> None:
    """Write both files; the same model gives the same bytes.

    Args:
        fitted: the model that computes the columns, and their schema.
        trees: with float32 thresholds from `with_float32_thresholds`.
        path: the file on raw features; `trees.onnx` is written next to it.
        metadata: more entries for the files' `metadata_props`, such as the bizdate.
    """
    alone = convert(trees)
    model = export_network(on_inputs(fitted.model, fitted.schema), fitted.schema, "columns")
    _put_behind(model.graph, alone.graph)
    write(model, fitted.schema, path, file_metadata(fitted, metadata))
    names = json.dumps(fitted.model.names, ensure_ascii=False)
    helper.set_model_props(alone, {**file_metadata(fitted, metadata), "columns": names})
    onnx.checker.check_model(alone, full_check=True)
    path.with_name(ONNX_TREES).write_bytes(alone.SerializeToString(deterministic=True))


def with_float32_thresholds(trees: str) -> str:
    """LightGBM's text of trees, with each threshold rounded down to a float32, which the ONNX file can hold.

    There is no float32 between a threshold and its rounding, so every row takes the same path as before. Rounding to
    the nearest, as converters do, may move a threshold above a value that it must stay below.
    """
    lines = trees.split("\n")
    for place, line in enumerate(lines):
        name, _, values = line.partition("=")
        if name == "threshold":
            exact = np.array(values.split(), np.float64)
            near = exact.astype(np.float32)
            below = np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near)
            lines[place] = "threshold=" + " ".join(repr(value) for value in below.astype(np.float64).tolist())
    return "\n".join(line for line in lines if not line.startswith("tree_sizes="))  # they count the old text


def convert(trees: lgb.Booster) -> onnx.ModelProto:
    """The trees as an ONNX model on `input`, with any number of rows."""
    columns = [("input", FloatTensorType([None, trees.num_feature()]))]
    model: onnx.ModelProto = convert_lightgbm(trees, "trees", columns, target_opset=TREES_OPSET, zipmap=False)
    for output in model.graph.output:
        if output.name == "label":  # the converter writes 1 for its length, which makes onnxruntime warn
            output.type.tensor_type.shape.dim[0].dim_param = "batch"
    return model


def _put_behind(graph: onnx.GraphProto, trees: onnx.GraphProto) -> None:
    """Feed the graph's output `columns` to the trees; `score` is their probability of a positive."""
    ensemble = onnx.NodeProto()
    ensemble.CopyFrom(next(node for node in trees.node if node.op_type == "TreeEnsembleClassifier"))
    ensemble.input[:] = ["columns"]
    ensemble.output[:] = ["trees/label", "trees/probabilities"]
    graph.initializer.append(numpy_helper.from_array(np.array(1), "trees/positive"))
    score = helper.make_node("Gather", ["trees/probabilities", "trees/positive"], ["score"], "score", axis=1)
    graph.node.extend([ensemble, score])
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("score", onnx.TensorProto.FLOAT, ["batch"]))
