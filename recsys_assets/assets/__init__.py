"""Dagster: the asset definitions, one module a group.

Put a new asset into the module of its stage; put its method into a floor below. `GROUPS` is the registry:
the group's name in the UI, and the modules that define its assets.
"""

from types import ModuleType

from recsys_assets.assets import (
    embeddings,
    evaluation,
    features,
    hitrate,
    i2i,
    index,
    ingest,
    negatives,
    onnx,
    rank,
    recall,
    recall_report,
    samples,
    term,
)

GROUPS: dict[str, tuple[ModuleType, ...]] = {
    "ingest": (ingest,),
    "samples": (samples, negatives),
    "features": (features,),
    "i2i": (i2i,),
    "recall": (term, recall),
    "embeddings": (embeddings, index),
    "rank": (rank,),
    "onnx": (onnx,),
    "evaluation": (hitrate, recall_report, evaluation),
}
