"""A study: trials one after another, each kept in Optuna's storage once it has ended, and their order.

Only ended trials are stored, each as one appended line. The next trial depends only on these and the seed, so a study
that was killed continues with exactly the trials that it would have had. (Optuna's samplers carry a random state from
trial to trial, and a killed trial stays "running", so a study that Optuna resumes itself would draw other trials.)
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from recsys_assets.datasets.disk import private_folder
from recsys_assets.tuning.space import Space

if TYPE_CHECKING:
    import optuna
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

State = Literal["complete", "pruned", "failed"]
_STATES: dict[str, State] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
REASON = "reason"  # the user attribute in Optuna that says why a trial failed
# `judge(settings, report)` gives the metric, the higher the better. It calls `report(step, metric)` during the trial,
# which may raise to end (prune) the trial early, and raises TrialFailed if the settings give no model.
Report = Callable[[int, float], None]
Judge = Callable[[dict[str, Any], Report], float]
STARTUP = 5  # complete trials before one may be pruned
WARMUP = 1  # epochs of a trial before it may be pruned: the first epoch's metric says little


class NoTrialCompleted(RuntimeError):
    """No trial of a study gave a model; the message says why."""


class TrialFailed(RuntimeError):
    """These settings give no model; the study goes on."""


@dataclass(frozen=True)
class Trial:
    """A trial that has ended.

    Attributes:
        number: from 0, in the order of the trials.
        drawn: what Optuna drew.
        settings: all settings, the constant ones too.
        value: the metric; for a pruned trial the last one reported, for a failed one None.
        course: the metric by step.
        reason: why it failed.
        began, ended: seconds since 1970.
    """

    number: int
    state: State
    drawn: dict[str, Any]
    settings: dict[str, Any]
    value: float | None
    course: list[float]
    reason: str
    began: float
    ended: float


def run(
    space: Space,
    judge: Judge,
    storage: Path,
    trials: int,
    seed: int,
    on_trial: Callable[[Trial], None] | None = None,
) -> list[Trial]:
    """All trials of a study: those in its storage, and new ones until there are `trials`, or none is left to try.

    Args:
        space: the search space.
        judge: see `Judge`.
        storage: the study's file, created if there is none.
        trials: how many.
        seed: of the draws.
        on_trial: called with each trial, immediately with those in the storage.

    Raises:
        NoTrialCompleted: no trial was complete.
    """
    study = _open(storage)
    ended: list[Trial] = []
    while True:
        for frozen in study.get_trials(deepcopy=False)[len(ended) : trials]:
            ended.append(_from_optuna(frozen, space))
            if on_trial:
                on_trial(ended[-1])
        if len(ended) >= min(trials, space.size):
            break
        study.add_trial(_run_trial(study.get_trials(deepcopy=False), space, judge, seed))
    if not any(trial.state == "complete" for trial in ended):
        reasons = dict.fromkeys(trial.reason for trial in ended)
        raise NoTrialCompleted(f"none of {len(ended)} trials gave a model: {'; '.join(reasons)}")
    return ended


def rank_trials(trials: Sequence[Trial]) -> list[Trial]:
    """Complete trials by their metric, the best first, ties by number; then the pruned ones, then the failed."""
    order = list(_STATES.values())
    worst = -math.inf
    return sorted(
        trials,
        key=lambda trial: (order.index(trial.state), -(worst if trial.value is None else trial.value), trial.number),
    )


def _run_trial(ended: "Sequence[FrozenTrial]", space: Space, judge: Judge, seed: int) -> "FrozenTrial":
    """Draw a trial that has not been tried, and run it."""
    import optuna

    tried = {_key(trial.params) for trial in ended}
    study = _study(ended, optuna.samplers.RandomSampler())  # not asked: the trial is enqueued
    study.enqueue_trial(next(drawn for drawn in _draws(ended, space, seed) if _key(drawn) not in tried))
    trial = study.ask(space.distributions())

    def report(step: int, value: float) -> None:
        trial.report(value, step)
        if trial.should_prune():
            raise optuna.TrialPruned

    try:
        study.tell(trial, _check_finite(judge(space.settings(trial.params), report)))
    except optuna.TrialPruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    except TrialFailed as error:
        trial.set_user_attr(REASON, str(error))
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    return study.get_trials()[-1]


def _check_finite(value: float) -> float:
    if not math.isfinite(value):
        raise TrialFailed(f"its metric is {value}")
    return value


def _draws(ended: "Sequence[FrozenTrial]", space: Space, seed: int) -> Iterator[dict[str, Any]]:
    """Optuna's next draw after these trials, and then random ones, as its sampler may repeat an earlier trial."""
    from optuna.samplers import RandomSampler, TPESampler

    first, others = np.random.SeedSequence([seed, len(ended)]).generate_state(2).tolist()
    yield _study(ended, TPESampler(seed=first)).ask(space.distributions()).params
    study = _study([], RandomSampler(seed=others))
    while True:
        yield study.ask(space.distributions()).params


def _study(ended: "Sequence[FrozenTrial]", sampler: "BaseSampler") -> "optuna.Study":
    """A study in memory that has seen these trials."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=WARMUP)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    study.add_trials(ended)
    return study


def _open(path: Path) -> "optuna.Study":
    """The study in a file, created if there is none."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    private_folder(path.parent)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    return optuna.create_study(storage=storage, study_name=path.stem, direction="maximize", load_if_exists=True)


def _key(drawn: Mapping[str, Any]) -> str:
    return json.dumps(drawn, sort_keys=True)


def _from_optuna(frozen: "FrozenTrial", space: Space) -> Trial:
    """Convert an ended trial of Optuna's."""
    began, ended = frozen.datetime_start, frozen.datetime_complete
    return Trial(
        number=frozen.number,
        state=_STATES[frozen.state.name],
        drawn=frozen.params,
        settings=space.settings(frozen.params),
        value=frozen.value,
        course=[value for _, value in sorted(frozen.intermediate_values.items())],
        reason=frozen.user_attrs.get(REASON, ""),
        began=began.timestamp() if began else 0.0,
        ended=ended.timestamp() if ended else 0.0,
    )
