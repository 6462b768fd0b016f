"""Shared code of the comparisons with FuxiCTR: writes the same rows for both sides and starts the other side.

FuxiCTR needs its own environment. The package registry has only the framework; the models are in the repository
reczoo/FuxiCTR (Apache-2.0):

    python -m venv ENV
    ENV/bin/pip install fuxictr torch==2.13.0
    # from the repository, into ENV/lib/python3.11/site-packages:
    #   model_zoo/WideDeep/WideDeep_torch/src/WideDeep.py
    #   model_zoo/DeepFM/DeepFM_torch/src/DeepFM.py
    #   model_zoo/FinalNet/src/FinalNet.py

Give ENV/bin/python to the benchmarks as `--fuxictr`.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from recsys_assets.features.schema import FeatureSchema, encode

SIDE = Path(__file__).with_name("fuxictr_side.py")


def sparse_only(schema: FeatureSchema) -> FeatureSchema:
    """The schema without numbers and crosses: the features that both sides can build in the same way."""
    return FeatureSchema(schema.sparse)


def write(schema: FeatureSchema, parquet: Path, folder: Path) -> None:
    """Write the rows of a Parquet file in FuxiCTR's format, and `fields.json`; the schema has no numbers.

    Values are numbered within each field. 0 is the unknown value of a categorical field, and padding in a list.
    """
    names = [feature.name for feature in schema.sparse]
    table = pq.read_table(parquet, columns=[*names, "label"])
    indices = encode(schema, table).indices
    columns = {"label": table["label"].to_numpy().astype(np.int64)}
    fields: dict[str, dict[str, Any]] = {}
    for feature in schema.sparse:
        listed = feature.kind == "multi_valued"
        rows = indices[:, schema.columns[feature.name]].astype(np.int64) - schema.first_row[feature.name] + listed
        columns[feature.name] = rows.clip(min=0) if listed else rows[:, 0]
        fields[feature.name] = {"source": "", "type": "categorical", "vocab_size": feature.index_rows + listed}
        if listed:
            encoder = {"feature_encoder": "layers.MaskedAveragePooling()", "max_len": feature.length}
            fields[feature.name] |= {"type": "sequence", "padding_idx": 0, **encoder}
    np.savez(folder / f"{parquet.stem}.npz", **columns)
    (folder / "fields.json").write_text(json.dumps(fields), encoding="utf-8")


def ask(python: Path, environment: Mapping[str, str] | None = None, **job: object) -> dict[str, Any]:
    """Run a job of `fuxictr_side` and return its result; the benchmark ends if that environment lacks FuxiCTR."""
    command = [str(python), str(SIDE), json.dumps(job, default=str)]
    try:
        said = subprocess.check_output(command, text=True, env=environment or os.environ)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(
            f"--fuxictr {python}: {error}: the top of {__file__} says how to create its environment"
        ) from error
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found
