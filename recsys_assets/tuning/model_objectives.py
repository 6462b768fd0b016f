"""Tuning of the models of the catalogue: the hyper-parameters of their networks and of their training."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_assets.features.schema import FeatureSchema
from recsys_assets.metrics import auc
from recsys_assets.models.catalogue import configure, entry
from recsys_assets.models.config import ConfigError
from recsys_assets.retrieval.interactions import queries
from recsys_assets.retrieval.lists import evaluate
from recsys_assets.tuning.objectives import CUTOFF, RECALL, Settings
from recsys_assets.tuning.space import Sections, arranged
from recsys_assets.tuning.trial import Report, TrialFailed

if TYPE_CHECKING:
    from recsys_assets.training.recall import Source


@dataclass(frozen=True)
class Ranking:
    """A ranking model, tuned by its AUC. `train`, `validation` and `test_rows` are Parquet files."""

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
        from recsys_assets.training import data

        ranker = self._fitted(settings, _silent)
        rows, labels = data.encoded(ranker.fitted.schema, self.test_rows)
        return auc(labels, ranker.predict(rows))

    def _fitted(self, settings: Settings, report: Report) -> Any:
        from recsys_assets.training import rankers

        heard = _heard(report, f"validation_{self.metric}")
        with _diverging():
            configs = _configured(self.model, settings)
            return rankers.fit(
                self.model, self.schema, self.train, self.validation, *configs, seed=self.seed, on_epoch=heard
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

        heard = _heard(report, f"validation_{self.metric}")
        with _diverging():
            configs = _configured(self.model, settings)
            return recall.fit(self.model, self.schema, self.source, *configs, seed=self.seed, on_epoch=heard)


def _sections(model: str) -> Sections:
    return {"model": entry(model).config, "training": type(entry(model).training)}


def _configured(model: str, settings: Settings) -> tuple[Any, Any]:
    """Hyper-parameters of the network and of the training: the settings, and the model's defaults for the rest."""
    parts = arranged(settings, _sections(model))
    return configure(model, parts["model"], parts["training"])


def _heard(report: Report, metric: str) -> Callable[[int, dict[str, float]], None]:
    """A trainer's `on_epoch` that reports the metric."""
    return lambda epoch, metrics: report(epoch, metrics[metric])


def _silent(step: int, value: float) -> None:
    """A report that is discarded."""


@contextmanager
def _diverging() -> Iterator[None]:
    """Turn a diverged training, or settings that exclude each other, into a failed trial; other errors pass through."""
    from recsys_assets.training.loop import TrainingDiverged

    try:
        yield
    except (ConfigError, TrainingDiverged) as error:
        raise TrialFailed(str(error)) from error
