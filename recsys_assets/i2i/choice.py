"""Choice of the settings of item-to-item methods on validation rows: see `retrieval/choice.py` for the rule.

Neighbours are learned from the rows before the validation rows, of as many users as a few seconds allow. On a log whose
order means nothing there is no window and no recency from the start.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recsys_assets.arrays import Doubles
from recsys_assets.i2i.neighbours import Neighbours
from recsys_assets.i2i.triggers import WHOLE_HISTORY, Triggers, trigger_scores
from recsys_assets.retrieval.choice import (
    FEWEST_QUERIES,
    Chosen,
    K,
    Settings,
    climb,
    recalls,
    sample_users,
    validation_queries,
)
from recsys_assets.retrieval.interactions import Interactions
from recsys_assets.retrieval.lists import recommend
from recsys_assets.retrieval.order import Order

_LONGEST_HISTORY = 300  # newest items of a user that count in trials
UNORDERED = {"window": 0, "recency": 0.0, "triggers": WHOLE_HISTORY}


@dataclass(frozen=True)
class Search:
    """Where to look for an item-to-item method's settings.

    Attributes:
        steps: the values to try, by setting.
        events: about how many events a trial learns from.
    """

    steps: Mapping[str, Sequence[Any]]
    events: int


def choose(
    find: Callable[[Interactions, Any], Neighbours],
    given: Triggers,
    search: Search,
    interactions: Interactions,
    order: Order,
    filter_seen: bool,
) -> tuple[Any, Chosen]:
    """The settings to build with, and how they were chosen; settings that were set explicitly stay.

    Args:
        find: the method, `find(interactions, settings)`.
        given: the settings; those that were set are in its `model_fields_set`.
        search: what to try.
        interactions: the events; only the train and validation rows are read.
        order: of the events.
        filter_seen: whether lists leave out seen items.
    """
    fixed, known = given.model_fields_set, type(given).model_fields
    free = {name: values for name, values in search.steps.items() if name not in fixed}
    start = given
    if not order.is_real:
        start = given.model_copy(update={name: v for name, v in UNORDERED.items() if name in known.keys() - fixed})
        free = {name: values for name, values in free.items() if name not in UNORDERED}
    useless = {"window", "decay", "backward"} if getattr(start, "window", 1) == 0 else set()
    useless |= {"own"} if filter_seen else set()
    free = {name: values for name, values in free.items() if name not in useless}
    asked = validation_queries(interactions, filter_seen)
    if len(asked) < FEWEST_QUERIES or not free:
        return start, Chosen()
    past = interactions.before("validation")
    short = {"max_history": min(_LONGEST_HISTORY, start.model_dump()["max_history"])}

    def judge_on(rows: Interactions) -> Callable[[Settings], Doubles]:
        learned: dict[str, Neighbours] = {}  # settings of the triggers alone need no other neighbours

        def judge(settings: Settings) -> Doubles:
            tried = start.model_copy(update=dict(settings))
            key = repr({name: v for name, v in settings.items() if name not in Triggers.model_fields})
            if key not in learned:
                learned[key] = find(rows, tried.model_copy(update=short))
            score = trigger_scores(learned[key].lists, interactions, asked, **tried.asking)
            return recalls(recommend(score, interactions, asked, K, filter_seen).items, asked)

        return judge

    rows = sample_users(past, search.events)
    quarter = judge_on(sample_users(past, search.events // 4)) if len(rows) < len(past) else None
    chosen = climb(judge_on(rows), {name: getattr(start, name) for name in free}, free, quarter)
    return start.model_copy(update=chosen.settings), chosen
