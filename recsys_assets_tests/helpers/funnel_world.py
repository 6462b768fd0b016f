"""A small generated world with an online part and everything that the funnel reads, its report included."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from recsys_assets.assets.publish.onnx import MODEL
from recsys_assets.features.schema import FeatureSchema
from recsys_assets.lake import Lake
from recsys_assets.manifest import json_text
from recsys_assets.ranking.champion import CHAMPION_FILE, Candidate, record
from recsys_assets.ranking.sample_parts import part_files
from recsys_assets.training import rankers
from recsys_assets_tests.helpers.ranking_rows import quick_settings
from recsys_assets_tests.helpers.worlds import DAY, World, copy_of, open_world, world_in

RECALL = ["recall_samples", "recall_term", "i2i_itemcf", "i2i_swing"]
SAMPLES = ["rank_samples", "touch_samples"]
RANK = ["factors", "event_features", *SAMPLES, "feature_schema", "user_features", "item_features"]
TAIL = {
    "name": "tail",
    "split": {"strategy": "per_user_tail", "online_last_n": 4},
    "features": {"moment": ["hour", "weekday"]},
}


@contextmanager
def funnel_world(folders: pytest.TempPathFactory) -> Iterator[World]:
    """The world in a folder of its own.

    Its towers' vectors are random, its ranker is a small LightGBM model, and its touch model a small DIN,
    which reads other features.
    """
    with world_in(copy_of("funnel_world", build, folders)) as world:
        yield world


def build(home: Path) -> None:
    """Build the world in an empty folder."""
    with open_world(home, TAIL, users=120, items=150, events=6000, days=8) as world:
        world.run(["users", "items", "splits", *RECALL, *RANK])
        world.write_vectors()
        write_champion(world.lake)
        write_ranker(world.lake, "din", "touch_samples", "touch_model", "onnx_touch")
        world.run(["funnel_model"])
        world.run(["funnel_report"])


def write_champion(lake: Lake) -> None:
    """Write a small LightGBM model, its ONNX file, and the record that points to it."""
    write_ranker(lake, "lgbm", "rank_samples", "rank_lgbm", "onnx_lgbm")
    onnx = lake.read("onnx_lgbm", DAY).manifest
    path, sha256 = f"onnx_lgbm/bizdate={DAY}/{MODEL}", onnx.files[MODEL]
    chosen = Candidate("lgbm", DAY, 0.7, path=path, sha256=sha256, fingerprint=onnx.fingerprint)
    with lake.draft("rank_champion", DAY) as draft:
        champion = asdict(record(chosen, "the only one", [chosen]))
        draft.path(CHAMPION_FILE).write_text(json_text(champion), encoding="utf-8")


def write_ranker(lake: Lake, model: str, samples: str, asset: str, onnx: str) -> None:
    """Train a small model on samples, and write it and its ONNX file."""
    schema = FeatureSchema.read(lake.read("feature_schema", DAY).path("schema.json"))
    train, validation = (part_files(lake.read(samples, DAY), part) for part in ("train", "validation"))
    epochs = 20 if model == "lgbm" else 2
    ranker = rankers.fit(model, schema, train, validation, *quick_settings(model, epochs), seed=1)
    with lake.draft(asset, DAY) as draft:
        ranker.save(draft.folder)
    with lake.draft(onnx, DAY) as draft:
        ranker.export(draft.path(MODEL), {"bizdate": DAY})
