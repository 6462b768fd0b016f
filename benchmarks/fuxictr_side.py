"""Trains a FuxiCTR model on rows that `beside_fuxictr` wrote; the interpreter of FuxiCTR's environment runs this file.

Its only argument is JSON: `task` (speed or score), `model` (WideDeep, DeepFM or FinalNet), `settings` of the model,
`folder` of the rows, `seed`, and the task's own arguments. It prints JSON. FuxiCTR's own loop trains; batches are
passed as whole tensors or come from FuxiCTR's own loader of `.npz` files (`loader`: handed or own).
"""

import json
import math
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders.npz_dataloader import NpzDataLoader
from fuxictr.pytorch.torch_utils import seed_everything

BATCH = 4096
PARTS = ("train", "validation", "test")


class Handed:
    """Batches, as dicts, of rows kept in memory as one tensor per field; if shuffled, in a new order every pass."""

    def __init__(self, path: Path, shuffled: bool) -> None:
        with np.load(path) as columns:
            self.columns = {name: torch.from_numpy(columns[name]) for name in columns.files}
        self.rows, self.shuffled = len(self.columns["label"]), shuffled

    def __len__(self) -> int:
        return math.ceil(self.rows / BATCH)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        order = torch.randperm(self.rows) if self.shuffled else torch.arange(self.rows)
        for places in torch.split(order, BATCH):
            yield {name: column.index_select(0, places) for name, column in self.columns.items()}


def built(job: dict[str, Any], fields: FeatureMap, folder: str) -> Any:
    """Build the model from its class in FuxiCTR's model zoo."""
    seed_everything(job["seed"])
    common = {"optimizer": "adam", "loss": "binary_crossentropy", "metrics": ["AUC"], "verbose": 0}
    made = getattr(import_module(job["model"]), job["model"])
    return made(fields, model_root=folder, task="binary_classification", **common, **job["settings"])


def feature_map(folder: Path, width: int) -> FeatureMap:
    """FuxiCTR's description of the rows' fields."""
    fields = FeatureMap("rows", str(folder))
    fields.features.update(json.loads((folder / "fields.json").read_text(encoding="utf-8")))
    fields.labels, fields.num_fields, fields.default_emb_dim = ["label"], len(fields.features), width
    fields.set_column_index()
    return fields


def speed(job: dict[str, Any], model: Any) -> dict[str, Any]:
    """Rows per second of every pass but the first, and peak memory in MB."""
    path = Path(job["folder"]) / "train.npz"
    handed = Handed(path, shuffled=True)
    loader = handed if job["loader"] == "handed" else NpzDataLoader(model.feature_map, str(path), BATCH, shuffle=True)
    model._max_gradient_norm, model._eval_steps, model._total_steps, model._stop_training = 10.0, 1 << 60, 0, False
    speeds = []
    for _ in range(job["passes"] + 1):
        start = time.perf_counter()
        model.train_epoch(loader)
        speeds.append(handed.rows / (time.perf_counter() - start))
    return {"speeds": speeds[1:], "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def draw(model: Any) -> None:
    """Give all weights and running statistics distinct random values; padding stays 0."""
    for weight in model.state_dict().values():
        if weight.is_floating_point():
            weight.uniform_(0.2, 1.0) if weight.dim() == 1 else weight.normal_(std=0.1)
    for layer in model.modules():
        if isinstance(layer, torch.nn.Embedding) and layer.padding_idx is not None:
            layer.weight.data[layer.padding_idx] = 0.0


def score(job: dict[str, Any], model: Any) -> dict[str, Any]:
    """Train for at most `epochs`, or for 0 draw all weights; write weights and test logits to `out`."""
    folder = Path(job["folder"])
    train, validation, test = (Handed(folder / f"{part}.npz", part == "train") for part in PARTS)
    if job["epochs"]:
        model.fit(train, epochs=job["epochs"], validation_data=validation, max_gradient_norm=10.0)
    else:
        draw(model)
    model.output_activation = torch.nn.Identity()
    logits = model.predict(test).astype(np.float32)
    weights = {name: weight.numpy() for name, weight in model.state_dict().items()}
    np.savez(job["out"], logits=logits, **{f"weight/{name}": weight for name, weight in weights.items()})
    return {"epochs": model._epoch_index + 1 if job["epochs"] else 0}


def main() -> None:
    """Run the job of the command line and print its result."""
    job = json.loads(sys.argv[1])
    fields = feature_map(Path(job["folder"]), job["settings"]["embedding_dim"])
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "rows").mkdir()
        model = built(job, fields, folder)
        found = {"speed": speed, "score": score}[job["task"]](job, model)
    parameters = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    print(json.dumps({"parameters": parameters, **found}))


if __name__ == "__main__":
    main()
