"""Dagster: the asset definitions, one module a group.

Put a new asset into the module of its stage; put its method into a floor below. `GROUPS` is the registry:
the group's name in the UI, and the module that defines its assets.
"""

from types import ModuleType

from recsys_assets.assets import evaluation, features, ingest, onnx, rank, samples

GROUPS: dict[str, ModuleType] = {
    "ingest": ingest,
    "samples": samples,
    "features": features,
    "rank": rank,
    "onnx": onnx,
    "evaluation": evaluation,
}
