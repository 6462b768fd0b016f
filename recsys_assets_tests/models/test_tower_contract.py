"""The contract of recall methods, for the two-tower models."""

from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from recsys_assets.features.schema import Feature, FeatureSchema
from recsys_assets.models.catalogue import TRAINED_TOWERS, configure
from recsys_assets.models.towers import TwoTower
from recsys_assets.retrieval.interactions import Interactions, Queries
from recsys_assets.retrieval.lists import Lists
from recsys_assets.training import recall
from recsys_assets.training.tower_data import load
from recsys_assets_tests.helpers.recall_contract import RecallContract


class TowerContract(RecallContract):
    """A two-tower model, trained on the board's train and validation rows with fixed seeds."""

    model: ClassVar[str]
    network: ClassVar[dict[str, Any]] = {}
    training: ClassVar[dict[str, Any]] = {}

    def lists(self, interactions: Interactions, queries: Queries, k: int, filter_seen: bool) -> Lists:
        ids = {"user_id": pa.array(interactions.user_ids), "item_id": pa.array(interactions.item_ids)}
        users, items = (pa.table({name: values}) for name, values in ids.items())
        data = recall.Source(interactions, users, items, filter_seen=True)
        towers = self.fitted(Board(data))
        return recall.lists(towers, load(towers, interactions, users, items), queries, k, filter_seen)

    @classmethod
    @lru_cache
    def fitted(cls, board: "Board") -> TwoTower:
        steps = {"batch": 64, "epochs": 40, "patience": 40, "warmup": 10, "l2": 0.0}
        training = {**(steps if cls.model in TRAINED_TOWERS else {}), **cls.training}
        settings = configure(cls.model, cls.network, training)
        return recall.two_tower(recall.fit(cls.model, board.schema(), board.source, *settings, 1))


class Board:
    """A source that is compared by its content, so that equal boards are trained on only once."""

    def __init__(self, source: recall.Source) -> None:
        self.source = source
        events = source.interactions
        self.content = b"".join(np.ascontiguousarray(c).tobytes() for c in (events.items, events.labels, events.parts))

    def schema(self) -> FeatureSchema:
        """A schema of the ids of users and items with a train row."""
        events = self.source.interactions.before("validation")
        users = events.user_ids[np.unique(events.users)].tolist()
        items = events.item_ids[np.unique(events.items)].tolist()
        return FeatureSchema(
            [
                Feature("user_id", "categorical", "user", "int64", "id", users),
                Feature("item_id", "categorical", "item", "int64", "id", items),
            ]
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Board) and self.content == other.content

    def __hash__(self) -> int:
        return hash(self.content)


class TestFm(TowerContract):
    model = "fm"
    training: ClassVar[dict[str, Any]] = {"learning_rate": 2e-2}


class TestSimplex(TowerContract):
    model = "simplex"
    network: ClassVar[dict[str, Any]] = {"width": 8, "user_share": 0.8}
    training: ClassVar[dict[str, Any]] = {"learning_rate": 1e-2}


class TestDssm(TowerContract):
    model = "dssm"
    network: ClassVar[dict[str, Any]] = {"width": 8, "embedding": 8, "hidden": (32,), "temperature": 0.2}


class TestDropoutNet(TowerContract):
    model = "dropoutnet"
    network: ClassVar[dict[str, Any]] = {
        **{"width": 8, "embedding": 8, "preference": 8, "content": 16, "hidden": 32},
        **{"temperature": 0.2, "user_dropout": 0.1, "item_dropout": 0.1},
    }


class TestRidge(TowerContract):
    model = "ridge"
    network: ClassVar[dict[str, Any]] = {"width": 8}


class TestSasRec(TowerContract):
    model = "sasrec"
    network: ClassVar[dict[str, Any]] = {"width": 32, "history": 30, "dropout": 0.0}
