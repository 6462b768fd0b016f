"""LightGBM rankers as ONNX files.

`model.onnx` takes raw features and gives `score`, like that of every ranker: see `onnx_export`. `trees.onnx`,
beside it, holds the trees alone for a server that makes the columns itself, in opset 9, which old runtimes
read: `input` (N, F) float32, NaN where missing, to `label` (N,) and `probabilities` (N, 2); `metadata_props`
has the names of the columns in their order, a JSON list under `columns`.
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
from recsys_assets.training.onnx_export import described, network, write

TREES = "trees.onnx"
OPSET = 9


def export(fitted: Fitted, trees: lgb.Booster, path: Path, metadata: Mapping[str, str]) -> None:
    """Write both files; the same model gives the same bytes.

    Args:
        fitted: what makes the columns, and their schema.
        trees: their thresholds made float32 by `with_float32_thresholds`.
        path: the file on raw features; `trees.onnx` is written beside it.
        metadata: more entries for the files' `metadata_props`, such as the bizdate.
    """
    alone = converted(trees)
    model = network(fitted.model, fitted.schema, "columns")
    _put_behind(model.graph, alone.graph)
    write(model, fitted.schema, path, described(fitted, metadata))
    names = json.dumps(fitted.model.names, ensure_ascii=False)
    helper.set_model_props(alone, {**described(fitted, metadata), "columns": names})
    onnx.checker.check_model(alone, full_check=True)
    path.with_name(TREES).write_bytes(alone.SerializeToString(deterministic=True))


def with_float32_thresholds(trees: str) -> str:
    """LightGBM's text of trees, each threshold rounded down to a float32, which the ONNX file can hold.

    No float32 lies between a threshold and its rounding, so every row goes the way it went before. Rounded to
    the nearest, as a converter does, a threshold may pass a value that it has to stay below.
    """
    lines = trees.split("\n")
    for place, line in enumerate(lines):
        name, _, values = line.partition("=")
        if name == "threshold":
            exact = np.array(values.split(), np.float64)
            near = exact.astype(np.float32)
            below = np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near)
            lines[place] = "threshold=" + " ".join(repr(value) for value in below.astype(np.float64).tolist())
    return "\n".join(line for line in lines if not line.startswith("tree_sizes="))  # they count the old characters


def converted(trees: lgb.Booster) -> onnx.ModelProto:
    """The trees on `input`, with any number of rows."""
    columns = [("input", FloatTensorType([None, trees.num_feature()]))]
    model: onnx.ModelProto = convert_lightgbm(trees, "trees", columns, target_opset=OPSET, zipmap=False)
    (label,) = (output for output in model.graph.output if output.name == "label")
    label.type.tensor_type.shape.dim[0].dim_param = "batch"  # the converter says 1, and onnxruntime warns at each run
    return model


def _put_behind(graph: onnx.GraphProto, trees: onnx.GraphProto) -> None:
    """Let the trees take the graph's output, `columns`, and make `score` of their probability of a positive."""
    ensemble = onnx.NodeProto()
    ensemble.CopyFrom(next(node for node in trees.node if node.op_type == "TreeEnsembleClassifier"))
    ensemble.input[:] = ["columns"]
    ensemble.output[:] = ["trees/label", "trees/probabilities"]
    graph.initializer.append(numpy_helper.from_array(np.array(1), "trees/positive"))
    score = helper.make_node("Gather", ["trees/probabilities", "trees/positive"], ["score"], "score", axis=1)
    graph.node.extend([ensemble, score])
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("score", onnx.TensorProto.FLOAT, ["batch"]))
