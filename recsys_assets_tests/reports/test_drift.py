"""Drift on generated days, quiet and planted ones; `benchmarks/drift.py` does the same with a whole log."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scipy.spatial.distance import jensenshannon

from recsys_assets.metrics import UndefinedMetric
from recsys_assets.reports.bins import Bins, distance, fit_bins, stability_index
from recsys_assets.reports.drift import Drift, Known, measure
from recsys_assets.reports.shift import tell_apart

DAYS = [f"2026-03-{day:02}" for day in range(1, 31)]
TODAY = DAYS[-1]
Change = Callable[[dict[str, np.ndarray]], None]


def rows(day: str, change: Change | None = None) -> pa.Table:
    """The watched rows of a day, about 1,000 of them."""
    rng = np.random.default_rng(DAYS.index(day))
    count = int(rng.poisson(1000))
    columns: dict[str, np.ndarray] = {
        "interactions.user_id": rng.integers(200, size=count),
        "interactions.timestamp": np.minimum(rng.binomial(24, 0.6, count), 23),
        "interactions.price": rng.lognormal(2, 0.5, count),
        "users.city": rng.choice(["Rome", "Oslo", "Lima"], count, p=[0.5, 0.3, 0.2]),
        "label": (rng.random(count) < 0.3).astype(np.int64),
    }
    genres = [["a", "b", "c"][: 1 + n % 3] for n in rng.integers(9, size=count)]
    if change:
        change(columns)
        genres = [[f"new {each}" for each in row] if "renamed" in columns else row for row in genres]
        columns.pop("renamed", None)
    return pa.table({**columns, "items.genres": pa.array(genres[: len(columns["label"])])})


def drift(change: Change | None = None, days: list[str] = DAYS) -> Drift:
    known = Known({"interactions.price": [5.0, 7.0, 9.0]}, {"users.city": ["Lima", "Oslo", "Rome"]})
    return measure(lambda day: rows(day, change if day == days[-1] else None), days[-1], days[:-1], known)


def cents(day: dict[str, np.ndarray]) -> None:
    day["interactions.price"] = day["interactions.price"] * 100


def new_city(day: dict[str, np.ndarray]) -> None:
    day["users.city"][::10] = "Bonn"


def no_city(day: dict[str, np.ndarray]) -> None:
    day["users.city"] = day["users.city"].astype(object)
    day["users.city"][::4] = None


def bot(day: dict[str, np.ndarray]) -> None:
    day["interactions.user_id"][::5] = 7


def morning(day: dict[str, np.ndarray]) -> None:
    kept = day["interactions.timestamp"] < 14
    for name in day:
        day[name] = day[name][kept]


def late_labels(day: dict[str, np.ndarray]) -> None:
    day["label"][::2] = 0


def renamed(day: dict[str, np.ndarray]) -> None:
    day["renamed"] = np.zeros(0)


PLANTED: dict[Change, str] = {
    cents: "interactions.price",
    new_city: "users.city",
    no_city: "users.city",
    bot: "interactions.user_id",
    morning: "interactions.timestamp",
    late_labels: "label",
    renamed: "items.genres",
}


@pytest.mark.parametrize("change", PLANTED, ids=lambda change: change.__name__)
def test_a_planted_change_is_the_first_alarm_of_its_day(change: Change) -> None:
    assert drift(change).alarms[0].statistic.column == PLANTED[change]


def test_quiet_days_have_no_alarm() -> None:
    assert [each.statistic for n in range(12, 31, 2) for each in drift(days=DAYS[:n]).alarms] == []


def test_it_works_from_five_days_on_and_says_before_that_it_is_too_early() -> None:
    early, late = drift(cents, DAYS[:5]), drift(cents, DAYS[:6])
    assert early.alarms == []
    assert "interactions.price" in early.too_early
    assert late.too_early == []
    assert late.alarms[0].statistic.column == "interactions.price"


def test_a_column_that_last_week_does_not_have_is_named() -> None:
    found = measure(
        lambda day: rows(day).drop_columns([] if day == TODAY else ["users.city"]), TODAY, DAYS[:-1], Known()
    )
    assert found.without == ["users.city"]
    assert "users.city" not in found.today


def test_what_came_after_a_day_changes_nothing_of_it() -> None:
    asked = []

    def read(day: str) -> pa.Table:
        asked.append(day)
        return rows(day)

    measure(read, DAYS[20], DAYS[:20], Known())
    assert max(asked) == DAYS[20]


def test_the_classifier_names_the_column_that_differs_and_finds_nothing_on_a_quiet_day() -> None:
    quiet, loud = drift(), drift(cents)
    week = pa.concat_tables([rows(day) for day in DAYS[-8:-1]])
    none, found = tell_apart(rows(TODAY), week, quiet.bins), tell_apart(rows(TODAY, cents), week, loud.bins)
    assert none.interval.low < 0.53
    assert found.auc > 0.99
    assert next(iter(found.columns)) == "interactions.price"
    assert sum(found.columns.values()) == pytest.approx(1)


def test_an_empty_day_and_a_single_user_are_no_error() -> None:
    empty = measure(lambda day: rows(day)[: 0 if day == TODAY else None], TODAY, DAYS[:-1], Known())
    assert empty.today == {}
    alone = rows(TODAY).filter(pc.equal(rows(TODAY)["interactions.user_id"], 4))
    with pytest.raises(UndefinedMetric, match="too few users"):
        tell_apart(alone, alone, drift().bins)


def test_distances_are_those_of_scipy_and_of_the_definition() -> None:
    one, other = np.array([10.0, 0, 30, 60]), np.array([100.0, 50, 0, 850])
    found, degrees = distance(one, other)
    assert found == pytest.approx(jensenshannon(one, other, 2))
    assert degrees == 3
    p, q = np.array([0.1, 0.4, 0.5]), np.array([0.2, 0.3, 0.5])
    assert stability_index(p * 100, q * 1000) == pytest.approx(float(((p - q) * np.log(p / q)).sum()))
    assert distance(one, one * 3) == (0.0, 2)


def test_values_are_counted_in_their_bins_and_others_apart() -> None:
    column = pa.chunked_array([["a", "b", None, "z", "c"]])
    assert Bins(None, ["a", "b"], frozenset("abc")).count(column).tolist() == [1, 1, 1, 1, 1]
    numbers = pa.chunked_array([[1.0, 2.0, None, 5.0, float("nan")]])
    assert Bins(np.array([2.0, 4.0])).count(numbers).tolist() == [1, 1, 1, 0, 0, 2]
    lists = pa.chunked_array([pa.array([["a", "q"], [], None], pa.list_(pa.string()))])
    assert Bins(None, ["a"], frozenset("a")).count(lists).tolist() == [1, 0, 1, 2]


@pytest.mark.parametrize(
    ("values", "count"),
    [([1, 2, 2, 3], 4), ([1.5, None, 2.5], 3), (["x", None], 2), ([["a"], None, ["b", "c"]], 4), ([True, False], 2)],
)
def test_bins_fit_columns_of_every_kind_and_count_each_value_once(values: list[object], count: int) -> None:
    column = pa.chunked_array([values])
    bins = fit_bins([column])
    counts = bins.count(column)
    assert len(counts) == len(bins.labels)
    assert counts.sum() == count
