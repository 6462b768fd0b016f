"""Templates of samples: the document's text works as printed, and whatever is malformed or malicious is refused."""

import json
from typing import Any

import duckdb
import pytest

from recsys_assets.coldstart.template import TemplateError, read_template, selection_sql
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.datasets.profile_parts import Column, EventKinds
from recsys_assets_tests.helpers.page_blocks import only_block

DOCUMENT = """
{
  "cold_start_recall": {
    "model_name": "cold_start_recall",
    "model_type": "DropoutNet",
    "label": {
      "name": "is_click",
      "selection": "max(if(event=\\"click\\", 1, 0))",
      "type": "bigint"
    },
    "train_days": 14
  }
}
"""


@pytest.fixture(scope="module")
def profile() -> Profile:
    """The sample's profile with kinds of events in a column that is not called `event`."""
    sample = load_profile("sample")
    log = {**sample.tables["interactions"], "kind": Column(type="string"), "words": Column(type="strings")}
    kinds = EventKinds(column="kind", weights={"view": 1.0, "click": 3.0})
    return sample.model_copy(update={"tables": {**sample.tables, "interactions": log}, "events": kinds})


def text(**changed: Any) -> bytes:
    """The document's template with other values; None takes a key out."""
    found = json.loads(DOCUMENT)["cold_start_recall"]
    found["label"].update({name: changed.pop(name) for name in ("name", "selection", "type") if name in changed})
    found.update(changed)
    kept = {name: value for name, value in found.items() if value is not None}
    return json.dumps({"cold_start_recall": kept}).encode()


@pytest.mark.parametrize("printed", [DOCUMENT, only_block("cold_start.md", "cold_start_recall")], ids=["its", "ours"])
def test_the_text_of_the_document_works_as_printed(profile: Profile, printed: str) -> None:
    template = read_template(printed.encode())
    assert (template.model_type, template.days) == ("dropoutnet", 14)
    sql = selection_sql(template, profile)
    rows = "VALUES ('view', 1), ('click', 1), ('view', 2), (NULL, 2), (NULL, 3)"
    found = duckdb.execute(f"SELECT item, {sql} FROM ({rows}) t(event, item) GROUP BY item ORDER BY item").fetchall()
    assert found == [(1, 1), (2, 0), (3, 0)]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("sum(rating)", 7.0),
        ("COUNT(*)", 3.0),
        ("max(case when rating >= 3 then 1 else 0 end)", 1.0),
        ("max(if(event == 'click' and rating > 2, 1, 0))", 0.0),
        ("avg(rating) > 2", 1.0),
        ("max(label)", 1.0),
        ('max(if(event in ("view", "click"), rating, 0))', 4.0),
    ],
)
def test_a_selection_is_what_it_says(profile: Profile, selection: str, expected: float) -> None:
    sql = selection_sql(read_template(text(selection=selection, type="double")), profile)
    rows = "VALUES ('view', 4.0, 1), ('click', 1.0, 0), ('view', 2.0, 0)"
    assert duckdb.execute(f"SELECT {sql} FROM ({rows}) t(event, rating, label)").fetchall() == [(expected,)]


def test_the_days_may_be_written_in_the_label() -> None:
    label = {"name": "is_click", "selection": "max(label)", "type": "BIGINT", "train_days": 7}
    assert read_template(text(label=label, train_days=None)).days == 7


MALFORMED: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"{cold_start_recall", "not JSON"),
    "another encoding": ('{"é": 1}'.encode("latin-1"), "not JSON in UTF-8"),
    "too long": (b" " * 70_000, "at most 65,536"),
    "too deep": (b"[" * 60_000, "nested too deeply"),
    "a list": (b"[1]", "one object"),
    "no outer key": (b'{"model_name": "a"}', "single key"),
    "two templates": (b'{"cold_start_recall": {}, "other": {}}', "single key"),
    "a key twice": (b'{"cold_start_recall": {"model_name": "a", "model_name": "b"}}', "occurs twice"),
    "no object inside": (b'{"cold_start_recall": "DropoutNet"}', "must be an object"),
    "no label": (text(label=None), "label: Field required"),
    "a key that does not exist": (text(train_day=3), "did you mean train_days"),
    "another model": (text(model_type="DSSM"), "model_type"),
    "a path as a name": (text(model_name="../../etc/passwd"), "model_name"),
    "no days": (text(train_days=0), "train_days"),
    "days as text": (text(train_days="14"), "train_days"),
    "not a number": (b'{"cold_start_recall": {"train_days": NaN}}', "NaN is not a number"),
    "another type": (text(type="array<int>"), "label.type"),
    "SQL as a name": (text(name='x" FROM secrets --'), "label.name"),
    "a name that is taken": (text(name="user_id"), "another column"),
    "days twice": (
        text(label={"name": "a", "selection": "max(label)", "type": "int", "train_days": 3}),
        "given twice",
    ),
}
MALICIOUS = {
    "no aggregate": ('if(event="click", 1, 0)', "not an aggregate"),
    "a column outside": ("max(rating) + user_id", "outside of the aggregate: user_id"),
    "nested": ("max(sum(rating))", "aggregate within an aggregate"),
    "two statements": ("max(rating); DROP TABLE users", "not one SQL expression|semicolon"),
    "a query": ("(SELECT max(rating) FROM interactions)", "a query"),
    "a file": ("max(read_text('/etc/passwd'))", "the function READ_TEXT|the function read_text"),
    "an alias and more": ("max(rating) AS x, 1", "not one SQL expression"),
    "a comment": ("max(rating) -- harmless", "comment"),
    "a column that is not there": ("max(price)", "does not exist: price"),
    "another table": ("max(users.age)", "has a dot"),
    "a window": ("max(rating) OVER (PARTITION BY user_id)", "Window"),
    "a filter": ("max(rating) FILTER (WHERE rating > 1)", "Filter|not one SQL expression"),
    "chance": ("max(random())", "Rand"),
    "the clock": ("max(current_timestamp())", "CurrentTimestamp"),
    "a setting": ("max(getenv('HOME'))", "the function"),
    "text": ("max(event)", "not a number"),
    "lists": ("sum(words)", "do not fit together"),
    "an open quote": ("max(if(event='click, 1, 0))", "quotation mark"),
    "empty": (" ", "empty|not one SQL expression"),
    "very long": (f"max({'1 + ' * 2000}1)", "characters"),
}


@pytest.mark.parametrize("case", [*MALFORMED, *MALICIOUS])
def test_what_is_malformed_or_malicious_is_refused_with_its_reason(profile: Profile, case: str) -> None:
    content, reason = MALFORMED.get(case) or (text(selection=MALICIOUS[case][0]), MALICIOUS[case][1])
    with pytest.raises(TemplateError, match=reason):
        selection_sql(read_template(content), profile)
