"""The looks of events: which columns one has, and which values make it a positive or a negative, found by trial."""

import datetime as dt
import json
import re
from collections.abc import Iterator
from itertools import islice, product
from typing import Any

from recsys_assets.datasets.duck import connect_without_lake
from recsys_assets.datasets.label import label_rule
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import NUMBERS, Column
from recsys_assets.datasets.text_files import landed_names
from recsys_assets.datasets.told_rows import Judge

MOST_TRIALS = 1000
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?", re.ASCII)
_TEXT = re.compile(r"'((?:[^']|'')+)'")


def event_looks(profile: Profile) -> dict[str, Any]:
    """How the events of a profile look to those who tell them.

    Returns:
        `columns` by their names in landing files, with their types; `user` and `item`, the names of the columns of
        their ids; `positive` and `negative`, values of the other columns with which an event is one, as the rules that
        judge told events say. Each is None if the trials find none, or if the log has no users and items.
    """
    log = profile.tables["interactions"]
    names = dict(zip(log, landed_names(log), strict=True))
    looks: dict[str, Any] = {"columns": {names[name]: spec.type for name, spec in log.items()}}
    looks |= {"user": names.get("user_id"), "item": names.get("item_id"), "positive": None, "negative": None}
    return looks | (_opinions(profile, names) if profile.has_entities else {})


def _opinions(profile: Profile, names: dict[str, str]) -> dict[str, Any]:
    """The first trial that is a positive, and the first that is a negative."""
    trials = list(islice(_trials(profile), MOST_TRIALS))
    log = profile.tables["interactions"]
    ids = {names[key]: 1 if log[key].type in NUMBERS else "1" for key in ("user_id", "item_id")}
    told = [{names[column]: value for column, value in each.items()} for each in trials]
    with connect_without_lake() as connection:
        judge = Judge(connection, profile, "interactions")
        judged = judge([json.dumps(ids | each) for each in told], dt.datetime.now(dt.UTC))
    labels = [None if each.reason else each.label for each in judged]
    found = {key: labels.index(label) for key, label in (("positive", 1), ("negative", 0)) if label in labels}
    return {key: told[place] for key, place in found.items()}


def _trials(profile: Profile) -> Iterator[dict[str, Any]]:
    """Events without ids: every combination of values that the rules distinguish."""
    rule, events = label_rule(profile), profile.events
    read = rule.columns | ({events.column} if events else set())
    log = {name: spec for name, spec in profile.tables["interactions"].items() if name in read}
    texts = [*_TEXT.findall(rule.sql), *(events.recalled if events else ()), *(events.weights if events else ())]
    values = [_values(spec, rule.sql, list(dict.fromkeys(texts))) for spec in log.values()]
    for chosen in product(*values):
        yield dict(zip(log, chosen, strict=True))


def _values(spec: Column, rule: str, texts: list[str]) -> list[Any]:
    """Values of a column on both sides of the numbers in a rule; the bounds of the column come first."""
    if spec.type == "bool":
        return [True, False]
    if spec.type not in NUMBERS:
        return texts
    whole = spec.type.startswith("int")
    near = [float(found) + step for found in _NUMBER.findall(rule) for step in (1, -1, 0)]
    kinds = [float(text) for text in texts if _NUMBER.fullmatch(text)]
    bounds = [each for each in (spec.max, spec.min) if each is not None]
    return [int(each) if whole or float(each).is_integer() else each for each in [*bounds, *kinds, *near]]
