"""The time of an answer: steps whose usual time no longer fits before its deadline, or that failed, are left out.

The order in which steps are left out: first channels, the last ones of the funnel first; then, if ranking does not
fit with the most popular items alone, ranking, so that the merge orders the list, and channels have its time. The most
popular items are always there. A step that has begun is not stopped: an answer may be late by the length of one step.
"""

import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import TypeVar

from recsys_assets.funnel.model import FEATURES, MERGE, ORDERING
from recsys_assets.funnel.stopwatch import Stopwatch

ALWAYS = "recall popularity"
PERSONAL = "personal lists"  # all steps together, and what is between them
ONLINE = "stored user features"
LATE, FAILED, RESTS, ASKED = "late", "failed", "failed before", "as asked"
KEPT = 31  # measurements of a step, whose median is its usual time
# A step that is left out is measured no more. Its usual time then counts for less each time, so that it is tried again.
FORGET = 0.98
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds for which a step rests that failed; doubled each time
DEADLINE = "RECSYS_SERVE_DEADLINE_MS"
_LOG = logging.getLogger(__name__)
Made = TypeVar("Made")


@dataclass
class _Step:
    """Knowledge of a step: its latest times, how much they count, and until when it rests."""

    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    weight: float = 1.0
    pause: float = 0.0
    rests_until: float = 0.0


class Usual:
    """Knowledge of the steps of a release in this process: usual times, and which of them rest because they failed.

    Args:
        clock: gives the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self._steps: defaultdict[str, _Step] = defaultdict(_Step)

    def seconds(self, step: str) -> float:
        """The usual time of a step; 0 if it was never measured."""
        known = self._steps[step]
        return median(known.seconds) * known.weight if known.seconds else 0.0

    def rests(self, step: str) -> bool:
        """Whether the step failed, and is not to be tried yet."""
        return self.clock() < self._steps[step].rests_until

    def took(self, step: str, seconds: float) -> None:
        """The step was made."""
        known = self._steps[step]
        known.seconds.append(seconds)
        known.weight, known.pause = 1.0, 0.0

    def was_left_out(self, step: str) -> None:
        """The step did not fit."""
        self._steps[step].weight *= FORGET

    def failed(self, step: str, error: Exception) -> None:
        """The step rests, for twice as long as the time before."""
        known = self._steps[step]
        known.pause = min(max(2 * known.pause, FIRST_PAUSE), LONGEST_PAUSE)
        known.rests_until = self.clock() + known.pause
        _LOG.warning("'%s' failed and is left out for %g s: %r", step, known.pause, error)


class Budget(Stopwatch):
    """Makes the steps of one answer, as far as there is time for them.

    Args:
        usual: what is known of the steps.
        seconds: until the deadline, from now; None: there is none.
        given: what is left out and why, by step, whatever the time is; None: what does not fit, or fails.

    Attributes:
        left_out: why a step is missing, by step.
    """

    def __init__(self, usual: Usual, seconds: float | None = None, given: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.left_out: dict[str, str] = {}
        self._usual, self._given = usual, given
        self._end = None if seconds is None or given is not None else usual.clock() + seconds
        self._ranks = self._end is None or self._fits(self._end, ALWAYS, MERGE, FEATURES, ORDERING)

    def make(self, step: str, how: Callable[[], Made]) -> Made | None:
        """The result of a step; None if it is left out."""
        why = self._why_not(step)
        if not why:
            try:
                made = super().make(step, how)
            except Exception as error:
                if self._given is not None:
                    raise
                self._usual.failed(step, error)
                why = FAILED
            else:
                self._usual.took(step, self.seconds[step])
                return made
        self.left_out[step] = why
        return None

    def attempt(self, whole: str, how: Callable[[], Made]) -> Made | None:
        """The result of several steps; None if something between them failed, or rests because it did."""
        why = (self._given or {}).get(whole, "") or (RESTS if self._given is None and self._usual.rests(whole) else "")
        if not why:
            try:
                return how()
            except Exception as error:
                if self._given is not None:
                    raise
                self._usual.failed(whole, error)
                why = FAILED
        self.left_out[whole] = why
        return None

    def _why_not(self, step: str) -> str:
        if self._given is not None:
            return self._given.get(step, "")
        if step == ALWAYS:
            return ""
        if self._usual.rests(step):
            return RESTS
        if self._end is None or self._fits(self._end, step, *self._after(step)):
            return ""
        self._usual.was_left_out(step)
        return LATE

    def _after(self, step: str) -> Iterable[str]:
        """The steps that must still fit after a step."""
        if step in (FEATURES, ORDERING):
            return [ORDERING] if step == FEATURES else []
        return [MERGE, FEATURES, ORDERING] if self._ranks else [MERGE]

    def _fits(self, end: float, *steps: str) -> bool:
        return self._usual.clock() + sum(map(self._usual.seconds, steps)) <= end
