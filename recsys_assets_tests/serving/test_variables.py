"""Numbers that the service reads from the environment."""

import pytest

from recsys_assets.serving.variables import InvalidVariable, milliseconds, number


@pytest.mark.parametrize("wrong", ["0", "-3", "soon", "inf", "nan"])
def test_milliseconds_are_a_number_above_zero(wrong: str) -> None:
    assert milliseconds({"LIMIT": "15"}, "LIMIT") == 15
    assert milliseconds({"LIMIT": ""}, "LIMIT") is milliseconds({}, "LIMIT") is None
    with pytest.raises(InvalidVariable, match=f"^LIMIT={wrong}: write a number of milliseconds above 0"):
        milliseconds({"LIMIT": wrong}, "LIMIT")


@pytest.mark.parametrize("wrong", ["0", "11", "many", "nan"])
def test_a_number_lies_in_its_bounds(wrong: str) -> None:
    assert number({"SIZE": "10"}, "SIZE", 5, most=10, least=1) == 10
    assert number({"SIZE": ""}, "SIZE", 5, most=10, least=1) == number({}, "SIZE", 5, most=10, least=1) == 5
    with pytest.raises(InvalidVariable, match=f"^SIZE={wrong} is not a number from 1 to 10"):
        number({"SIZE": wrong}, "SIZE", 5, most=10, least=1)
