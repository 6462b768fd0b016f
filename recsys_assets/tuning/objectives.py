"""The objective of tuning for each kind of model: its settings, and its metric on validation and on test rows.

A trial is trained as the model's own asset would train it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from recsys_assets.datasets.row_files import RowSource
from recsys_assets.features.schema import FeatureSchema
from recsys_assets.i2i.neighbours import Neighbours
from recsys_assets.i2i.triggers import trigger_scores
from recsys_assets.metrics import auc
from recsys_assets.models.catalogue import configure, entry
from recsys_assets.models.config import ConfigError
from recsys_assets.retrieval.interactions import Interactions, queries
from recsys_assets.retrieval.lists import evaluate, recommend
from recsys_assets.tuning.space import Sections, sections_of
from recsys_assets.tuning.study import Report, TrialFailed

if TYPE_CHECKING:
    from recsys_assets.training.recall import Source

TRIAL_K = 20
RECALL = f"recall@{TRIAL_K}"
Settings = Mapping[str, Any]


class Objective(Protocol):
    """A model and the rows that it is tuned on: every trial is judged, and only the best one is tested."""

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
        tried = self.settings(**settings)
        found = self.find(self.interactions.before(part), tried)
        asked = queries(self.interactions, part, self.filter_seen)
        score = trigger_scores(found.lists, self.interactions, asked, **tried.asking)
        lists = recommend(score, self.interactions, asked, TRIAL_K, self.filter_seen)
        return evaluate(lists.items, asked, [TRIAL_K])[RECALL]


@dataclass(frozen=True)
class Ranking:
    """A ranking model, tuned by its AUC. `train`, `validation` and `test_rows` have the rows of the parts."""

    model: str
    schema: FeatureSchema
    train: RowSource
    validation: RowSource
    test_rows: RowSource
    seed: int
    metric: str = "auc"

    @property
    def sections(self) -> Sections:
        """Those of the network and of the training."""
        return _sections(self.model)

    def judge(self, settings: Settings, report: Report) -> float:
        """AUC of the validation rows at the epoch that is kept."""
        return float(self._fit(settings, report).fitted.best["validation_auc"])

    def test(self, settings: Settings) -> float:
        """AUC of the test rows."""
        from recsys_assets.training import data

        ranker = self._fit(settings, _ignore_report)
        rows, labels = data.encode_rows(ranker.fitted.schema, self.test_rows)
        return auc(labels, ranker.predict(rows))

    def _fit(self, settings: Settings, report: Report) -> Any:
        from recsys_assets.training import rankers

        on_epoch = _reporter(report, f"validation_{self.metric}")
        with _fail_trial():
            configs = _configs(self.model, settings)
            return rankers.fit(
                self.model, self.schema, self.train, self.validation, *configs, seed=self.seed, on_epoch=on_epoch
            )


@dataclass(frozen=True)
class TwoTowers:
    """A two-tower model, tuned by its recall@20."""

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
        return float(self._fit(settings, report).best[f"validation_{RECALL}"])

    def test(self, settings: Settings) -> float:
        """Recall of the test queries."""
        from recsys_assets.training import recall, tower_data

        source = self.source
        model = recall.two_tower(self._fit(settings, _ignore_report))
        data = tower_data.load(model, source.interactions, source.users, source.items)
        asked = queries(source.interactions, "test", source.filter_seen)
        return evaluate(recall.lists(model, data, asked, TRIAL_K, source.filter_seen).items, asked, [TRIAL_K])[RECALL]

    def _fit(self, settings: Settings, report: Report) -> Any:
        from recsys_assets.training import recall

        on_epoch = _reporter(report, f"validation_{self.metric}")
        with _fail_trial():
            configs = _configs(self.model, settings)
            return recall.fit(self.model, self.schema, self.source, *configs, seed=self.seed, on_epoch=on_epoch)


def _sections(model: str) -> Sections:
    return {"model": entry(model).config, "training": type(entry(model).training)}


def _configs(model: str, settings: Settings) -> tuple[Any, Any]:
    """Hyper-parameters of the network and of the training: the settings, and the model's defaults for the rest."""
    parts = sections_of(settings, _sections(model))
    return configure(model, parts["model"], parts["training"])


def _reporter(report: Report, metric: str) -> Callable[[int, dict[str, float]], None]:
    """A trainer's `on_epoch` that reports the metric."""
    return lambda epoch, metrics: report(epoch, metrics[metric])


def _ignore_report(step: int, value: float) -> None:
    """A report that is discarded."""


@contextmanager
def _fail_trial() -> Iterator[None]:
    """Turn a diverged training, or settings that exclude each other, into a failed trial; other errors pass through."""
    from recsys_assets.training.loop import TrainingDiverged

    try:
        yield
    except (ConfigError, TrainingDiverged) as error:
        raise TrialFailed(str(error)) from error
