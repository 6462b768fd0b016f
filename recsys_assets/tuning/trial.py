"""Trials of a study, and their order from best to worst."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from recsys_assets.tuning.space import Space

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

State = Literal["complete", "pruned", "failed"]
_STATES: dict[str, State] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
REASON = "reason"  # the user attribute in Optuna that says why a trial failed
# `objective(settings, report)` gives the metric, the higher the better. It calls `report(step, metric)` during the
# trial, which may raise to end the trial early, and raises TrialFailed if the settings give no model.
Report = Callable[[int, float], None]
Objective = Callable[[dict[str, Any], Report], float]


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


def from_optuna(frozen: "FrozenTrial", space: Space) -> Trial:
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


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Complete trials by their metric, the best first, ties by number; then the pruned ones, then the failed."""
    order = list(_STATES.values())
    worst = -math.inf
    return sorted(
        trials,
        key=lambda trial: (order.index(trial.state), -(worst if trial.value is None else trial.value), trial.number),
    )
