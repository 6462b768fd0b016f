"""Kinds of events, such as views, carts and orders in one table: their rules in a profile, and their SQL."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from recsys_assets.datasets.expressions import Expression
from recsys_assets.datasets.names import KIND, RECALL_LABEL, WEIGHT
from recsys_assets.datasets.profile_yaml import Fault, quote_text

if TYPE_CHECKING:
    from recsys_assets.datasets.profile import Profile
    from recsys_assets.datasets.profile_parts import EventKinds


def of_kinds(events: "EventKinds", chosen: Sequence[str]) -> Expression:
    """The condition that an event is of one of the chosen kinds; NULL if it has no kind."""
    listed = ", ".join("'" + kind.replace("'", "''") + "'" for kind in chosen)
    return Expression(f"({_kind(events)} IN ({listed}))", frozenset({events.column}))


def kind_columns(events: "EventKinds | None") -> str:
    """SQL for the columns of `splits` that tell an event's kind, its weight, and whether recall should find it."""
    if not events:
        return ""
    weights = " ".join(
        f"WHEN {of_kinds(events, [kind]).sql} THEN {weight!r}" for kind, weight in events.weights.items()
    )
    return (
        f", {_kind(events)} AS {KIND}, (CASE {weights} END)::DOUBLE AS {WEIGHT}"
        f", {of_kinds(events, events.recalled).sql}::TINYINT AS {RECALL_LABEL}"
    )


def rejections(events: "EventKinds | None") -> dict[str, str]:
    """Reasons to reject an event because of its kind, with the SQL of each."""
    if not events:
        return {}
    known = of_kinds(events, list(events.weights)).sql
    return {
        f"{events.column} is missing": f"{_kind(events)} IS NULL",
        f"{events.column} is not among events.weights": f"NOT {known}",
    }


def faults(profile: "Profile") -> Iterator[Fault]:
    """The rules on kinds of events and on drawn negatives that the profile breaks."""
    events = profile.events
    for key in ("events", "negatives"):
        if getattr(profile, key) and not profile.has_entities:
            yield Fault((key,), f"{key} needs tables.users and tables.items: add them or leave it out")
    if not events:
        if profile.funnel.right == "weighted":
            what = "weighted needs kinds of events with weights: add events, or write touched or liked"
            yield Fault(("funnel", "right"), what)
        return
    column = profile.tables["interactions"].get(events.column)
    if column is None or column.type not in ("string", "int64") or events.column in ("user_id", "item_id"):
        what = f"{quote_text(events.column)} is not a column of tables.interactions of type string or int64: add it"
        yield Fault(("events", "column"), what)
    for key in ("recall", "rank"):
        unknown = [kind for kind in getattr(events, key) if kind not in events.weights]
        if unknown:
            yield Fault(("events", key), f"{quote_text(unknown[0])} is not among events.weights: give it a weight")
    if events.rank and profile.has_label_rule:
        yield Fault(("events", "rank"), "and label both say what ranking models should find: keep one of them")


def _kind(events: "EventKinds") -> str:
    """SQL for an event's kind as text."""
    return f'CAST("{events.column}" AS VARCHAR)'
