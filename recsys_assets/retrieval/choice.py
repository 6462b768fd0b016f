"""Choice of a method's cheap settings on validation rows: one setting after another, and only what is clearly better.

The defaults were chosen on one data set, with all its rows. Another value replaces a default only if it is better for
the validation queries by more than chance explains: logs like that one keep the defaults, and so does a log of a few
users.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from recsys_assets.arrays import Doubles, Ints, is_among
from recsys_assets.retrieval.interactions import Interactions, Queries, queries
from recsys_assets.retrieval.lists import by_query

MOST_QUERIES, FEWEST_QUERIES = 1000, 20
K = 20
_ERRORS = 2.0  # a lead counts if it is this many standard errors
_SEED = 1
Settings = Mapping[str, Any]
Judge = Callable[[Settings], Doubles]  # (N,) the recall@20 of each query with these settings


class Trial(NamedTuple):
    """A value of a setting, the mean recall@20 with it, and whether it was taken; the first trial is the start."""

    setting: str
    value: str
    recall: float
    taken: bool


@dataclass
class Chosen:
    """The settings that differ from the start, and what was tried."""

    settings: dict[str, Any] = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)


def climb(judge: Judge, start: Settings, steps: Mapping[str, Sequence[Any]], sample: Judge | None = None) -> Chosen:
    """Try other values, setting by setting; a value is taken if its lead is `_ERRORS` standard errors or more.

    Args:
        judge: the figures of settings.
        start: the settings to begin with; the values of those that are tried.
        steps: the values to try, by setting, in their order; a setting is left at the first value that is no better.
        sample: the figures with a quarter of the rows that `judge` learns from, if that is not all rows: a lead that
            shrinks with more rows is gone with all of them, and is not taken.
    """
    found, now = Chosen(), dict(start)
    best = judge(now)
    found.trials.append(Trial("start", "", float(best.mean()), True))
    for name, values in steps.items():
        for value in values:
            tried = {**now, name: value}
            figures = judge(tried)
            lead = figures - best
            grows = sample is None or not _is_clear(lead) or lead.mean() >= (sample(tried) - sample(now)).mean()
            better = _is_clear(lead) and bool(grows)
            found.trials.append(Trial(name, str(value), float(figures.mean()), better))
            if not better:
                break
            now, best, found.settings[name] = tried, figures, value
    return found


def validation_queries(interactions: Interactions, filter_seen: bool) -> Queries:
    """Validation queries of users with a history: all, or `MOST_QUERIES` of them, always the same ones."""
    asked = queries(interactions, "validation", filter_seen)
    known = asked.ends > asked.starts
    places = np.random.default_rng(_SEED).permutation(np.flatnonzero(known))[:MOST_QUERIES]
    return asked.restrict(is_among(asked.truth_queries, places))


def recalls(items: Ints, asked: Queries) -> Doubles:
    """(N,) the recall@20 of each query's list (N, K)."""
    found: Doubles = by_query(items, asked, K)["recall"][:, K - 1]
    return found


def sample_users(interactions: Interactions, most: int) -> Interactions:
    """The events of users drawn until they have `most` events or more, always the same ones; users keep numbers."""
    sizes = np.bincount(interactions.users, minlength=len(interactions.user_ids))
    order = np.random.default_rng(_SEED).permutation(len(sizes))
    drawn = np.zeros(len(sizes), bool)
    drawn[order[: 1 + int(np.searchsorted(np.cumsum(sizes[order]), most))]] = True
    return interactions.where(drawn[interactions.users])


def _is_clear(lead: Doubles) -> bool:
    """Whether the mean of paired differences (N,) is above 0 by more than chance explains."""
    return bool(lead.mean() > _ERRORS * lead.std() / np.sqrt(len(lead)) and lead.mean() > 0)
