import numpy as np
import pytest

from recsys_assets.reports.alarms import FEWEST, MOST, Kind, Statistic, judge


def statistic(kind: Kind, value: float, history: list[float], rows: float = 0.0) -> Statistic:
    return Statistic("column", "name", kind, value, history, rows=rows)


@pytest.mark.parametrize("kind", ["distance", "share", "count"])
def test_fewer_than_five_days_are_too_early_whatever_the_value(kind: Kind) -> None:
    (early,) = judge([statistic(kind, 1e9, [0.1] * (FEWEST - 1), rows=100)])
    (late,) = judge([statistic(kind, 1e9, [0.1] * FEWEST, rows=100)])
    assert (early.low, early.high, early.is_alarm) == (None, None, False)
    assert late.is_alarm


def test_false_alarms_are_as_rare_as_they_should_be_and_more_statistics_do_not_make_more_of_them() -> None:
    rng = np.random.default_rng(1)
    columns, days = 20, 1000
    values = rng.normal(0.1, 0.01, (days, columns, MOST + 1))
    alarms = sum(
        each.is_alarm
        for day in values
        for each in judge([statistic("distance", column[-1], column[:-1].tolist()) for column in day])
    )
    assert 2 <= alarms <= 22  # 10 are expected: one in a hundred days


def test_a_week_s_rhythm_widens_what_is_usual() -> None:
    steady, weekly = [0.1, 0.11] * 14, [0.1, 0.1, 0.1, 0.1, 0.1, 0.4, 0.4] * 4
    one, other = judge([statistic("distance", 0.4, steady), statistic("distance", 0.4, weekly)])
    assert one.is_alarm
    assert not other.is_alarm


def test_a_distance_that_chance_explains_is_not_an_alarm() -> None:
    history = [0.01] * 20
    few = Statistic("c", "distance", "distance", 0.1, history, degrees=9, rows=100, reference_rows=700)
    many = Statistic("c", "distance", "distance", 0.1, history, degrees=9, rows=100_000, reference_rows=700_000)
    assert [each.is_alarm for each in judge([few, many])] == [False, True]


def test_a_count_may_be_too_low_and_a_share_may_not() -> None:
    counts = [1000.0 + 10 * (n % 3) for n in range(20)]
    low, usual, high = judge([statistic("count", value, counts) for value in (500.0, 1010.0, 2000.0)])
    assert (low.is_alarm, usual.is_alarm, high.is_alarm) == (True, False, True)
    assert low.excess > 1 < high.excess
    none, some = judge([statistic("share", value, [0.02] * 20, rows=1000) for value in (0.0, 0.2)])
    assert (none.is_alarm, some.is_alarm) == (False, True)


def test_a_first_rejected_row_is_not_an_alarm_and_many_are() -> None:
    one, many = judge([statistic("share", count / 1000, [0.0] * 28, rows=1000) for count in (1, 50)])
    assert (one.is_alarm, many.is_alarm) == (False, True)


def test_what_cannot_be_more_than_all_is_not_said_to_be_usual() -> None:
    wild = [0.0, 0.9] * 14
    found = judge([statistic(kind, 1.0, wild, rows=10) for kind in ("distance", "share")])
    assert [(each.high, each.is_alarm) for each in found] == [(1.0, False)] * 2
