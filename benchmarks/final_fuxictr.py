"""Compares FINAL with FuxiCTR's FinalNet: equal logits from equal weights, and equal AUC after equal training.

    python benchmarks/final_fuxictr.py --source FOLDER [--fuxictr PYTHON]

FOLDER holds train.parquet, validation.parquet and test.parquet of `rank_samples` and schema.json; the fields are its
categorical and multi-valued features. First FuxiCTR's weights, drawn at random, are copied into our model, for several
forms of the network; then both are trained with the same settings: Adam at 1e-3, batch 4,096, L2 of the embeddings,
patience 2, no averaged weights, no pass over validation rows. `--fuxictr` is the interpreter of the environment that
`beside_fuxictr` describes; without it only our side runs.
"""

import argparse
import re
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from beside_fuxictr import ask, sparse_only, write
from torch import Tensor, nn

from recsys_assets.arrays import Array
from recsys_assets.features.schema import Encoded, FeatureSchema, encode
from recsys_assets.metrics import auc
from recsys_assets.models.config import TrainingConfig
from recsys_assets.models.final import Final, FinalConfig
from recsys_assets.training import trainer

LAYERS = (256, 128)
PLAIN = FinalConfig(branch1=LAYERS, branch2=LAYERS, dropout1=0.0, dropout2=0.0, gating=False, id_dropout=0.0)
FORMS = {
    "concat, 2 branches": PLAIN,
    "sum, 2 branches, ReLU": replace(PLAIN, branch2=(64,), residual="sum", relu=True),
    "concat, 2 branches, gating": replace(PLAIN, branch2=(128,), gating=True),
    "concat, 1 branch, gating": replace(PLAIN, branch2=(), gating=True),
}
L2 = 3e-5
# FuxiCTR keeps the weights of the last step, ours an average; with this recency the average is the last step's weights.
TRAINING = TrainingConfig(batch=4096, learning_rate=1e-3, warmup=1, recency=1e12, l2=L2, clip=10.0, last_rate=0.0)


def settings(config: FinalConfig) -> dict[str, object]:
    """FuxiCTR's settings for the same network."""
    activation = "relu" if config.relu else None
    return {
        "embedding_dim": config.embedding,
        "block_type": "2B" if config.branch2 else "1B",
        "block1_hidden_units": config.branch1,
        "block2_hidden_units": config.branch2,
        "block1_hidden_activations": activation,
        "block2_hidden_activations": activation,
        "residual_type": config.residual,
        "use_feature_gating": config.gating,
        "embedding_regularizer": L2,
        "learning_rate": TRAINING.learning_rate,
        "reduce_lr_on_plateau": False,
        "early_stop_patience": TRAINING.patience,
    }


def name_there(name: str) -> str:
    """FuxiCTR's name for one of our weights."""
    name = re.sub(r"^branches\.(\d+)\.last", lambda found: f"fc{int(found[1]) + 1}", name)
    name = re.sub(r"^branches\.(\d+)", lambda found: f"block{int(found[1]) + 1}", name)
    name = re.sub(r"\.layers\.(\d+)\.after\.0", r".norm.\1", name)
    return re.sub(r"\.layers\.", ".layer.", name).replace("gate.", "feature_gating.")


def copied(schema: FeatureSchema, config: FinalConfig, theirs: dict[str, Tensor]) -> nn.Module:
    """Our model with FuxiCTR's weights; its one table holds a padding row and the rows of all of FuxiCTR's tables."""
    model = Final(schema, config)
    embeddings = "embedding_layer.embedding_layer.embedding_layers"
    tables = [theirs[f"{embeddings}.{f.name}.weight"][f.kind == "multi_valued" :] for f in schema.sparse]
    own = {name: theirs.get(name_there(name), weight) for name, weight in model.state_dict().items()}
    own["embed.table.weight"] = torch.cat([torch.zeros_like(tables[0][:1]), *tables])
    model.load_state_dict(own)
    return model.eval()


def parameters(model: nn.Module) -> int:
    """The number of parameters that the model learns."""
    return sum(weight.numel() for weight in model.parameters())


def compare_weights(job: dict[str, Any], schema: FeatureSchema, test: Encoded) -> None:
    """Print parameters of both sides and the largest difference of logits with the same weights, for each form."""
    print(f"{'':28}{'parameters':>11}{'FuxiCTR':>10}{'logits':>9}{'largest difference':>20}")
    indices, numeric = torch.from_numpy(test.indices), torch.from_numpy(test.numeric)
    for form, config in FORMS.items():
        found = ask(**job, settings=settings(config), seed=1, epochs=0)
        with np.load(job["out"]) as arrays:
            theirs = {name.removeprefix("weight/"): torch.from_numpy(arrays[name]) for name in arrays.files}
        model = copied(schema, config, theirs)
        with torch.inference_mode():
            logits = model(indices, numeric)
        difference = float((logits - theirs["logits"]).abs().max())
        size = float(theirs["logits"].abs().mean())
        print(f"{form:28}{parameters(model):11,}{found['parameters']:10,}{size:9.2f}{difference:20.1e}", flush=True)


def compare_training(job: dict[str, Any], schema: FeatureSchema, source: Path, test: Encoded, seeds: int) -> None:
    """Print test AUC and epochs of both sides for each seed, and the means."""
    labels = pq.read_table(source / "test.parquet", columns=["label"])["label"].to_numpy()
    pairs: list[tuple[float, float]] = []
    print(f"\n{'seed':<8}{'AUC':>9}{'epochs':>8}{'FuxiCTR AUC':>14}{'epochs':>8}")
    for seed in range(1, seeds + 1):
        found = ask(**job, settings=settings(PLAIN), seed=seed, epochs=TRAINING.epochs)
        with np.load(job["out"]) as arrays:
            theirs = auc(labels, arrays["logits"])
        own, epochs = trained(schema, source, test, labels, seed)
        pairs.append((own, theirs))
        print(f"{seed:<8}{own:9.5f}{epochs:8}{theirs:14.5f}{found['epochs']:8}", flush=True)
    ours, other = (statistics.mean(column) for column in zip(*pairs, strict=True))
    print(f"{'mean':<8}{ours:9.5f}{other:22.5f}    difference {ours - other:+.5f}")


def trained(schema: FeatureSchema, source: Path, test: Encoded, labels: Array, seed: int) -> tuple[float, int]:
    """Train our model; returns its test AUC and number of epochs."""
    parts = (source / f"{part}.parquet" for part in ("train", "validation"))
    fitted = trainer.fit("final", schema, *parts, PLAIN, TRAINING, seed)
    return auc(labels, trainer.predict(fitted.model, test)), len(fitted.history)


def ours_alone(schema: FeatureSchema, source: Path, test: Encoded, seeds: int) -> None:
    """Print our parameters in each form of the network, and test AUC and epochs of our side for each seed."""
    print("without --fuxictr: only our side")
    for form, config in FORMS.items():
        print(f"{form:28}{parameters(Final(schema, config)):11,} parameters")
    labels = pq.read_table(source / "test.parquet", columns=["label"])["label"].to_numpy()
    print(f"\n{'seed':<8}{'AUC':>9}{'epochs':>8}")
    for seed in range(1, seeds + 1):
        own, epochs = trained(schema, source, test, labels, seed)
        print(f"{seed:<8}{own:9.5f}{epochs:8}", flush=True)


def main() -> None:
    """Read the command line and run the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fuxictr", type=Path, metavar="PYTHON", help="interpreter of FuxiCTR's environment")
    parser.add_argument("--source", type=Path, required=True, help="folder with three Parquet files and schema.json")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    schema = sparse_only(FeatureSchema.read(args.source / "schema.json"))
    test = encode(schema, pq.read_table(args.source / "test.parquet"))
    if not args.fuxictr:
        ours_alone(schema, args.source, test, args.seeds)
        return
    with tempfile.TemporaryDirectory() as folder:
        for part in ("train", "validation", "test"):
            write(schema, args.source / f"{part}.parquet", Path(folder))
        out = str(Path(folder) / "scored.npz")
        job = {"python": args.fuxictr, "task": "score", "model": "FinalNet", "folder": folder, "out": out}
        compare_weights(job, schema, test)
        compare_training(job, schema, args.source, test, args.seeds)


if __name__ == "__main__":
    main()
