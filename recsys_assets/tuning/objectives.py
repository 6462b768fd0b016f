"""What is tuned of each kind of model: its settings, its metric on validation rows, and that of the best on test rows.

Each trial is trained as the model's own asset would train it. A new kind is a class here.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow.parquet as pq

from recsys_assets.features.schema import FeatureSchema, encode
from recsys_assets.i2i.neighbours import Neighbours
from recsys_assets.i2i.triggers import trigger_scores
from recsys_assets.metrics import auc
from recsys_assets.retrieval.interactions import Interactions, queries
from recsys_assets.retrieval.lists import evaluate, recommend
from recsys_assets.tuning.space import Sections, arranged
from recsys_assets.tuning.study import Report, TrialFailed

if TYPE_CHECKING:
    from recsys_assets.training.recall import Source

CUTOFF = 20
RECALL = f"recall@{CUTOFF}"
Settings = Mapping[str, Any]


class Tuned(Protocol):
    """A model and the rows that it is tuned on."""

    @property
    def metric(self) -> str:
        """The name of what is judged by, the higher the better."""

    @property
    def sections(self) -> Sections:
        """The settings' classes, by the section of the config of the model's asset."""

    def judge(self, settings: Settings, report: Report) -> float:
        """The metric on validation rows; `report` hears of it as training goes on.

        Raises:
            TrialFailed: no model came of these settings.
        """

    def test(self, settings: Settings) -> float:
        """The metric on test rows of the model that the settings give."""


@dataclass(frozen=True)
class Ranking:
    """A ranking model: its AUC. `train`, `validation` and `test_rows` are Parquet files."""

    model: str
    schema: FeatureSchema
    train: Path
    validation: Path
    test_rows: Path
    seed: int
    metric: str = "auc"

    @property
    def sections(self) -> Sections:
        """Those of the network and of the training."""
        return _sections(self.model)

    def judge(self, settings: Settings, report: Report) -> float:
        """AUC of the validation rows at the epoch that is kept."""
        return float(self._fitted(settings, report).fitted.best["validation_auc"])

    def test(self, settings: Settings) -> float:
        """AUC of the test rows."""
        rows = pq.read_table(self.test_rows)
        scores = self._fitted(settings, _silent).predict(encode(self.schema, rows))
        return auc(rows["label"].to_numpy(), scores)

    def _fitted(self, settings: Settings, report: Report) -> Any:
        from recsys_assets.training import rankers

        configs, heard = _configured(self.model, settings), _heard(report, f"validation_{self.metric}")
        with _diverging():
            return rankers.fit(
                self.model, self.schema, self.train, self.validation, *configs, seed=self.seed, on_epoch=heard
            )


@dataclass(frozen=True)
class TwoTowers:
    """A two-tower model: its recall@20."""

    model: str
    schema: FeatureSchema
    source: "Source"
    seed: int
    metric: str = RECALL

    @property
    def sections(self) -> Sections:
        """Those of the network and of the training."""
        return _sections(self.model)

    def judge(self, settings: Settings, report: Report) -> float:
        """Recall of the validation queries at the epoch that is kept."""
        return float(self._fitted(settings, report).best[f"validation_{RECALL}"])

    def test(self, settings: Settings) -> float:
        """Recall of the test queries."""
        from recsys_assets.training import recall, tower_data

        source = self.source
        model = recall.two_tower(self._fitted(settings, _silent))
        data = tower_data.load(model, source.interactions, source.users, source.items)
        asked = queries(source.interactions, "test", source.filter_seen)
        return evaluate(recall.lists(model, data, asked, CUTOFF, source.filter_seen).items, asked, [CUTOFF])[RECALL]

    def _fitted(self, settings: Settings, report: Report) -> Any:
        from recsys_assets.training import recall

        configs, heard = _configured(self.model, settings), _heard(report, f"validation_{self.metric}")
        with _diverging():
            return recall.fit(self.model, self.schema, self.source, *configs, seed=self.seed, on_epoch=heard)


@dataclass(frozen=True)
class ItemToItem:
    """An item-to-item method: the recall@20 of the neighbours of a user's newest items.

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

    def judge(self, settings: Settings, report: Report) -> float:  # noqa: ARG002 (it is over at once)
        """Recall of the validation queries, learned from the rows before."""
        return self._recall(settings, "validation")

    def test(self, settings: Settings) -> float:
        """Recall of the test queries, learned from the rows before."""
        return self._recall(settings, "test")

    def _recall(self, settings: Settings, part: str) -> float:
        found = self.find(self.interactions.before(part), self.settings(**settings))
        asked = queries(self.interactions, part, self.filter_seen)
        score = trigger_scores(found.lists, self.interactions, asked)
        lists = recommend(score, self.interactions, asked, CUTOFF, self.filter_seen)
        return evaluate(lists.items, asked, [CUTOFF])[RECALL]


def _sections(model: str) -> Sections:
    from recsys_assets.models.registry import entry

    return {"model": entry(model).config, "training": type(entry(model).training)}


def _configured(model: str, settings: Settings) -> tuple[Any, Any]:
    """Hyper-parameters of the network and of the training: the settings, and the model's defaults for the rest."""
    from recsys_assets.models.registry import configured

    parts = arranged(settings, _sections(model))
    return configured(model, parts["model"], parts["training"])


def _heard(report: Report, metric: str) -> Callable[[int, dict[str, float]], None]:
    """A report of the metric, as a trainer's `on_epoch`."""
    return lambda epoch, metrics: report(epoch, metrics[metric])


def _silent(step: int, value: float) -> None:
    """A report that nobody hears."""


@contextmanager
def _diverging() -> Iterator[None]:
    """A training that diverged is a trial that failed; all else is an error of the study."""
    from recsys_assets.training.loop import TrainingDiverged

    try:
        yield
    except TrainingDiverged as error:
        raise TrialFailed(str(error)) from error
