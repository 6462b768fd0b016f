"""A ranker's network for rows that share a user: whatever is the same in all of them is computed for the first row.

Three steps of the graph are rewritten:

* A sequence of the user is read from the first row alone, so that an attention has one history instead of 300.
* A table whose row 0, padding, counts as zeros gets zeros there, instead of a product of all that is read with a mask.
* A layer's product with the inputs that are the same in all rows is made once, and added to that of the others.

Which inputs of a layer are the same is seen on drawn rows of a user, for layers right behind features only: what a
layer gives may be zero for all drawn rows, and not for others. Another user's rows then check the result. Rows of 300
items took 1.9 instead of 2.7 ms with DeepFM, and 3.1 instead of 5.9 ms with DIN, whose two sequences have 50 items.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from recsys_assets.arrays import Array, Bools, Floats
from recsys_assets.features.schema import FeatureSchema
from recsys_assets.funnel.network import INPUTS, open_session

if TYPE_CHECKING:
    import onnx

DRAWN = 512  # rows
OF_USER = ("user", "moment")  # sides of features that all rows of a request share
FEWEST = 16  # outputs of a layer that is worth two products
CLOSE = 1e-5  # of two probabilities that differ by the order of sums alone
FIRST = "one_user/"  # begins the names of new tensors


def of_one_user(model: "onnx.ModelProto", schema: FeatureSchema) -> "onnx.ModelProto":
    """The same network for rows (N, …) of one user; the network itself if that would not give the same.

    Args:
        model: takes `indices` and `numeric`, and gives one output.
        schema: of these inputs.
    """
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    names = [each.name for each in model.graph.input]
    one, other = ({name: each for name, each in _drawn_rows(schema, seed).items() if name in names} for seed in (0, 1))
    _read_once(made.graph, schema)
    _empty_padding(made.graph)
    _split_layers(made, one)
    return made if _agree(model, made, other) else model


def _drawn_rows(schema: FeatureSchema, seed: int) -> dict[str, Array]:
    """Inputs of the network for rows of one user, drawn from all values of every feature."""
    rng, by_name = np.random.default_rng(seed), {each.name: each for each in schema.sparse}
    indices = np.zeros((DRAWN, schema.index_columns), np.int64)
    numeric = np.zeros((DRAWN, schema.floats), np.float32)
    for feature in schema.features:
        shape = (1 if feature.side in OF_USER else DRAWN, feature.length)
        if feature.kind == "numeric":
            mean, least = np.array(feature.mean), np.maximum(1e-3, 1e-6 * np.abs(feature.mean))
            drawn = rng.normal(mean, np.maximum(feature.std, least), shape)
            raw = np.sign(drawn) * np.expm1(np.abs(drawn)) if feature.transform == "log" else drawn
            numeric[:, schema.columns[feature.name]] = raw
        else:
            values = by_name.get(feature.name) or by_name[feature.values_of]
            first = schema.first_row[feature.name]
            indices[:, schema.columns[feature.name]] = rng.integers(first, first + values.index_rows, shape)
    return dict(zip(INPUTS, (indices, numeric), strict=True))


def _read_once(graph: "onnx.GraphProto", schema: FeatureSchema) -> None:
    """Read slices of `indices` that hold features of the user alone from the first row."""
    from onnx import helper

    indices, first = INPUTS[0], f"{FIRST}{INPUTS[0]}"
    shared, numbers, found = _shared_indices(schema), _numbers(graph), False
    for node in graph.node:
        if node.op_type != "Slice" or node.input[0] != indices:
            continue
        start, end, axis, *step = (numbers.get(name) for name in node.input[1:])
        if start is None or end is None or axis is None or axis.item() != 1 or step not in ([], [np.array([1])]):
            continue
        columns = shared[start.item() : end.item()]
        if len(columns) and columns.all():
            node.input[0], found = first, True
    if found:
        ends = {f"{FIRST}{name}": np.array([value]) for name, value in {"start": 0, "end": 1, "axis": 0}.items()}
        _add_weights(graph, ends)
        graph.node.insert(0, helper.make_node("Slice", [indices, *ends], [first], first))


def _shared_indices(schema: FeatureSchema) -> Bools:
    """(K,) whether a column of `indices` belongs to a feature that all rows of a user share."""
    shared = np.zeros(schema.index_columns, bool)
    for feature in schema.index_features:
        shared[schema.columns[feature.name]] = feature.side in OF_USER
    return shared


def _empty_padding(graph: "onnx.GraphProto") -> None:
    """Read tables without a mask of their row 0, which becomes zeros."""
    from onnx import numpy_helper

    made, numbers = {name: node for node in graph.node for name in node.output}, _numbers(graph)
    masked = [node for node in graph.node if node.op_type == "Mul" and _is_masked(node, made, numbers)]
    read = [made[node.input[0]] for node in masked]
    for table in graph.initializer:
        readers = [node.name for node in graph.node if table.name in node.input]
        if not set(readers) or not set(readers) <= {node.name for node in read}:
            continue
        rows = numbers[table.name].copy()
        rows[0] = 0
        table.CopyFrom(numpy_helper.from_array(rows, table.name))
        for node in masked:
            if made[node.input[0]].name in readers:
                node.op_type = "Identity"
                del node.input[1:]


def _is_masked(product: "onnx.NodeProto", made: Mapping[str, "onnx.NodeProto"], numbers: Mapping[str, Array]) -> bool:
    """Whether it is table[rows] * (rows > 0)."""
    read, *steps = made.get(product.input[0]), made.get(product.input[1])
    for kind in ("Reshape", "Cast"):
        if not steps[-1] or steps[-1].op_type != kind:
            return False
        steps.append(made.get(steps[-1].input[0]))
    above = steps[-1]
    if not read or read.op_type != "Gather" or not above or above.op_type != "Greater" or read.input[0] not in numbers:
        return False
    return above.input[0] == read.input[1] and not numbers.get(above.input[1], np.ones(1)).any()


def _split_layers(model: "onnx.ModelProto", rows: Mapping[str, Array]) -> None:
    """Make the product of each layer with inputs that are the same in all rows once."""
    graph, numbers = model.graph, _numbers(model.graph)
    layers = [node for node in _first_layers(graph) if _is_layer(node, numbers)]
    if not layers:
        return
    seen = _outputs(model, rows, [node.input[0] for node in layers])
    for node, floats in zip(layers, seen, strict=True):
        same = (floats == floats[:1]).all(axis=0)
        if same.any() and not same.all():
            _split(graph, node, same, numbers[node.input[1]])


def _first_layers(graph: "onnx.GraphProto") -> list["onnx.NodeProto"]:
    """The layers whose inputs no other layer has computed."""
    found, behind = [], set[str]()
    for node in graph.node:  # in the order of computation
        if not behind.isdisjoint(node.input):
            behind.update(node.output)
        elif node.op_type == "Gemm":
            found.append(node)
            behind.update(node.output)
    return found


def _is_layer(node: "onnx.NodeProto", numbers: Mapping[str, Array]) -> bool:
    """Whether it is x W' + b, with weights W of enough outputs."""
    given = {each.name: each.f if each.name in ("alpha", "beta") else each.i for each in node.attribute}
    plain = given.get("transB") and not given.get("transA") and given.get("alpha", 1) == given.get("beta", 1) == 1
    return bool(plain) and len(node.input) == 3 and len(numbers.get(node.input[1], ())) >= FEWEST


def _split(graph: "onnx.GraphProto", node: "onnx.NodeProto", same: Bools, weights: Array) -> None:
    """Replace a layer by the product of the inputs marked in `same` for the first row, and that of the others."""
    from onnx import helper

    name, (taken, weight, bias) = f"{FIRST}{node.output[0]}/", node.input
    row, own, once, varying, base = (name + each for each in ("row", "own", "once", "varying", "base"))
    starts = np.flatnonzero(np.diff(same, prepend=~same[0]))  # of columns that are all the same, or all not
    blocks = [f"{name}columns{place}" for place in range(len(starts))]
    other = [block for block, start in zip(blocks, starts, strict=True) if not same[start]]
    sizes = np.diff(np.append(starts, len(same)))
    parts = {"first": np.array([0]), "same": np.flatnonzero(same), "sizes": sizes}
    of_weights = {"of_same": weights[:, same], "of_other": weights[:, ~same]}
    _add_weights(graph, {name + each: np.ascontiguousarray(array) for each, array in (parts | of_weights).items()})
    nodes = [
        helper.make_node("Gather", [taken, name + "first"], [row], row, axis=0),
        helper.make_node("Gather", [row, name + "same"], [once], once, axis=1),
        helper.make_node("Gemm", [once, name + "of_same", bias], [base], base, transB=1),
        helper.make_node("Split", [taken, name + "sizes"], blocks, name + "columns", axis=1),
        helper.make_node("Concat", other, [varying], varying, axis=1),
        helper.make_node("Gemm", [varying, name + "of_other", base], list(node.output), own, transB=1),
    ]
    place = list(graph.node).index(node)
    del graph.node[place]
    for each in reversed(nodes):
        graph.node.insert(place, each)
    unused = next(each for each in graph.initializer if each.name == weight)
    if not any(weight in each.input for each in graph.node):
        graph.initializer.remove(unused)


def _numbers(graph: "onnx.GraphProto") -> dict[str, Array]:
    """The constant tensors of a graph, by name."""
    from onnx import numpy_helper

    found = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def _add_weights(graph: "onnx.GraphProto", arrays: Mapping[str, Array]) -> None:
    from onnx import numpy_helper

    graph.initializer.extend(numpy_helper.from_array(each, name) for name, each in arrays.items())


def _outputs(model: "onnx.ModelProto", rows: Mapping[str, Array], names: list[str]) -> list[Floats]:
    """Tensors (N, …) inside of a network for some rows."""
    import onnx
    from onnx import helper

    seen = onnx.ModelProto()
    seen.CopyFrom(model)
    seen.graph.output.extend(helper.make_tensor_value_info(each, onnx.TensorProto.FLOAT, None) for each in set(names))
    found: list[Floats] = open_session(seen.SerializeToString()).run(names, dict(rows))
    return found


def _agree(one: "onnx.ModelProto", other: "onnx.ModelProto", rows: Mapping[str, Array]) -> bool:
    """Whether two networks give the same for all rows, and for the first one alone."""
    first = {name: each[:1] for name, each in rows.items()}
    try:
        sessions = [open_session(each.SerializeToString(), is_trial=True) for each in (one, other)]
        for some in (dict(rows), first):
            expected, found = (each.run(None, some)[0] for each in sessions)
            if found.shape != expected.shape or not np.allclose(found, expected, rtol=0, atol=CLOSE):
                return False
    except Exception:  # onnxruntime's own: a shape that its operators cannot broadcast
        return False
    return True
