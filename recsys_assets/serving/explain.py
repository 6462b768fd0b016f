"""Explanations of a list: where each item comes from, and what was thought of it at each step."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from recsys_assets.arrays import Ints, find
from recsys_assets.funnel.channels import ByItem, ByTerm
from recsys_assets.serving.engine import Engine, Found, Row


def explained(engine: Engine, steps: Sequence[Found], rows: list[Row]) -> list[Row]:
    """The rows of a list, each with `explain`, from the first of some steps that has the item.

    This has the `fused` score of the merge, and for each channel that lists the item its `place`, from 1, and its
    `score` there. With item-to-item methods come the touched `items` that brought it, with terms the `terms`, up to
    three, the strongest first.
    """
    numbers = engine.numbers([row["item_id"] for row in rows])
    found = [_explanations(engine, each, numbers) for each in steps]
    first = [next((each for each in of_row if each["channels"]), of_row[0]) for of_row in zip(*found, strict=True)]
    return [{**row, "explain": explanation} for row, explanation in zip(rows, first, strict=True)]


def _explanations(engine: Engine, found: Found, numbers: Ints) -> list[dict[str, Any]]:
    """The explanations of items (n,) by one step."""
    scored = found.lists.scored
    place = find(scored.candidates.item, numbers)
    fused = [None if np.isnan(each) else each for each in np.append(scored.fused, np.nan)[place].tolist()]
    channels: list[dict[str, Any]] = [{} for _ in fused]
    for name in found.lists.channels:
        for row, entry in _of_channel(engine, found, name, numbers).items():
            channels[row][name] = entry
    return [{"fused": score, "channels": theirs} for score, theirs in zip(fused, channels, strict=True)]


def _of_channel(engine: Engine, found: Found, name: str, numbers: Ints) -> dict[int, dict[str, Any]]:
    """Of each row (by its index) that a channel lists: place, score and reasons."""
    channel, listed = engine.funnel.channels[name], found.lists.channels[name]
    items, scores = listed.items[0][listed.items[0] >= 0], listed.scores[0]
    order = np.argsort(items)
    at = find(items[order], numbers)
    rows = np.flatnonzero(at >= 0)
    places = order[at[rows]]
    entries = {
        row: {"place": place + 1, "score": float(scores[place])}
        for row, place in zip(rows.tolist(), places.tolist(), strict=True)
    }
    if isinstance(channel, ByItem | ByTerm):
        reasons = channel.because(found.events, found.asked, numbers[rows])
        for entry, theirs in zip(entries.values(), reasons, strict=True):
            entry[channel.reasons] = theirs
    return entries
