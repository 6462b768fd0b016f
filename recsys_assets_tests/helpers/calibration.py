"""Calibration of a ranker on a generated shop, whose rates are known: corrected probabilities, by groups of pairs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from recsys_assets.arrays import Doubles
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.features.pair_data import ItemSnapshot
from recsys_assets.features.schema import FeatureSchema
from recsys_assets.funnel.scoring import Scorer
from recsys_assets.lake import Lake
from recsys_assets.models.catalogue import DESCRIPTION
from recsys_assets.ranking.correction import CORRECTION, Correction
from recsys_assets_tests.helpers.environment import forget_tracking_uri
from recsys_assets_tests.helpers.in_process import failed_checks, failures, materialize
from recsys_assets_tests.helpers.shop_log import FIRST_ITEM, FIRST_USER, Shop, land_shop

GROUPS = 10
SAMPLES = ("users", "items", "splits", "factors", "event_features", "rank_samples", "feature_schema")


@dataclass(frozen=True)
class Calibration:
    """Visits in each of ten groups of pairs, (10,) each, and the metrics of the ranker."""

    expected: Doubles
    true: Doubles
    observed: Doubles
    metrics: dict[str, float]

    @property
    def errors(self) -> Doubles:
        """(10,) the relative difference of the expected visits from those that the known rates give."""
        return self.expected / self.true - 1

    @property
    def allowed(self) -> Doubles:
        """(10,) 5 %, or two standard errors of such a number of visits if these are more."""
        return np.maximum(0.05, 2 / np.sqrt(self.true))


def write_profile(folder: Path, negatives: Mapping[str, object], repeats: bool) -> Path:
    """A profile of the views alone."""
    content = {
        "name": "calibration",
        "first_bizdate": "2026-01-01",
        "landing": str(folder / "landing"),
        "tables": {
            "interactions": {"user_id": "int64", "item_id": "int64", "timestamp": "timestamp"},
            "users": {"user_id": "int64", "region": "int64"},
            "items": {"item_id": "int64", "category": "string"},
        },
        "label": True,
        "negatives": dict(negatives),
        "features": {"categorical": ["user_id", "item_id", "region", "category"], "affinity": {"width": 8}},
        "split": {"strategy": "leave_last_n", "test_last_n": 4, "online_last_n": 5},
        "recall": {"filter_seen": not repeats},
        "bounds": {"max_rejected_rate": 0.2, "min_auc": 0.0},  # small logs are scored, too
    }
    (folder / "profile.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder / "profile.yaml"


def calibrate(
    folder: Path, shop: Shop, negatives: Mapping[str, object], model: str, repeats: bool = False
) -> Calibration:
    """Build a ranker of the shop's views in an empty folder, and compare what it expects with what users did next.

    Without `repeats` the shop has the first view of each item by each user, and pairs with a view are not asked for.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECSYS_DATA", str(folder))
        patch.setenv("RECSYS_PROFILE", str(write_profile(folder, negatives, repeats)))
        forget_tracking_uri(patch)
        days = land_shop(shop, folder / "landing")
        needed = [*SAMPLES, "user_features", "item_features", f"rank_{model}", f"onnx_{model}"]
        for names, first, last in ((["interactions"], days[0], days[-1]), (needed, days[-1], None)):
            result = materialize(names, first, last)
            if failures(result):
                raise RuntimeError(f"{failures(result)} {failed_checks(result)}")
        return _measure(load_profile(), Lake(str(folder / "lake"), "calibration"), days[-1], shop, model)


def _measure(profile: Profile, lake: Lake, day: str, shop: Shop, model: str) -> Calibration:
    """Score every user with every item from the snapshots, and group the pairs."""
    visits = _visits(lake, day, shop, "=")
    users, items = (pq.read_table(lake.read(f"{side}_features", day).path(ROWS)) for side in ("user", "item"))
    ranker = lake.read(f"rank_{model}", day)
    described = json.loads(ranker.path(DESCRIPTION).read_text(encoding="utf-8"))["schema"]
    schema, correction = FeatureSchema.from_json(json.dumps(described)), Correction.read(ranker.path(CORRECTION))
    scorer = Scorer(lake.read(f"onnx_{model}", day).path("model.onnx"), schema, correction)
    user, item = np.divmod(np.arange(visits.size), visits.shape[1])
    scores = scorer.pairs(users, ItemSnapshot(items, profile.features.affinity), user, item).astype(np.float64)
    truth = shop.probabilities(np.arange(len(visits)))
    if profile.recall.filter_seen:
        seen = _visits(lake, day, shop, "!=") > 0
        scores, truth = np.where(seen.ravel(), 0, scores), np.where(seen, 0, truth)
        truth /= truth.sum(axis=1, keepdims=True)
    asked, order = visits.sum(axis=1)[user], np.argsort(scores, kind="stable")
    so_far = np.cumsum((scores * asked)[order])
    group = np.empty(len(order), np.int64)
    group[order] = np.minimum(so_far / so_far[-1] * GROUPS, GROUPS - 1).astype(np.int64)
    columns = (scores * asked, truth.ravel() * asked, visits.ravel())
    expected, true, observed = (np.bincount(group, each, GROUPS).astype(np.float64) for each in columns)
    return Calibration(expected, true, observed, ranker.manifest.metrics)


def _visits(lake: Lake, day: str, shop: Shop, sign: str) -> Doubles:
    """(U, I) the visits of the online part, which nothing was trained on, or with the sign `!=` those of all others."""
    splits = pq.read_table(lake.read("splits", day).path(ROWS), filters=[("part", sign, "online")])
    visits = np.zeros((len(shop.tastes), len(shop.goods)))
    np.add.at(visits, (splits["user_id"].to_numpy() - FIRST_USER, splits["item_id"].to_numpy() - FIRST_ITEM), 1)
    return visits
