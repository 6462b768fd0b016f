"""The objective of tuning for each kind of model: its settings, and its metric on validation and on test rows.

A trial is trained as the model's own asset would train it. Models of the catalogue: `model_objectives.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from recsys_assets.i2i.neighbours import Neighbours
from recsys_assets.i2i.triggers import trigger_scores
from recsys_assets.retrieval.interactions import Interactions, queries
from recsys_assets.retrieval.lists import evaluate, recommend
from recsys_assets.tuning.space import Sections
from recsys_assets.tuning.trial import Report

CUTOFF = 20
RECALL = f"recall@{CUTOFF}"
Settings = Mapping[str, Any]


class Tuned(Protocol):
    """A model and the rows that it is tuned on."""

    @property
    def metric(self) -> str:
        """The name of the metric, the higher the better."""

    @property
    def sections(self) -> Sections:
        """The settings' classes, by their section in the config of the model's asset."""

    def judge(self, settings: Settings, report: Report) -> float:
        """The metric on validation rows; `report` is called with it during training.

        Raises:
            TrialFailed: these settings give no model.
        """

    def test(self, settings: Settings) -> float:
        """The metric on test rows of the model that the settings give."""


@dataclass(frozen=True)
class ItemToItem:
    """An item-to-item method, tuned by the recall@20 of the neighbours of a user's newest items.

    Attributes:
        find: the method, `find(interactions, settings)`.
        settings: the class of its settings.
    """

    find: Callable[[Interactions, Any], Neighbours]
    settings: type[Any]
    interactions: Interactions
    filter_seen: bool
    metric: str = RECALL

    @property
    def sections(self) -> Sections:
        """The method's settings, in no section."""
        return {"": self.settings}

    def judge(self, settings: Settings, report: Report) -> float:  # noqa: ARG002 (there are no steps to report)
        """Recall of the validation queries, learned from the rows before them."""
        return self._recall(settings, "validation")

    def test(self, settings: Settings) -> float:
        """Recall of the test queries, learned from the rows before them."""
        return self._recall(settings, "test")

    def _recall(self, settings: Settings, part: str) -> float:
        found = self.find(self.interactions.before(part), self.settings(**settings))
        asked = queries(self.interactions, part, self.filter_seen)
        score = trigger_scores(found.lists, self.interactions, asked)
        lists = recommend(score, self.interactions, asked, CUTOFF, self.filter_seen)
        return evaluate(lists.items, asked, [CUTOFF])[RECALL]
