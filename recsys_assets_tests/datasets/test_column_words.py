"""The catalogue says what columns hold: the platform's by their names, a profile's own by its descriptions."""

import pytest

from recsys_assets.datasets import names
from recsys_assets.datasets.column_words import WORDS, column_words
from recsys_assets.datasets.profile_parts import Column

MADE = [*names.USER_STATISTICS, *names.ITEM_STATISTICS, *names.TERM_STATISTICS, *names.OF_PAIRS, *names.OF_DRAWS]


@pytest.mark.parametrize("name", [*MADE, "user_id", "label", "part", "position", names.VECTOR, names.QUERY_ID])
def test_each_column_that_the_platform_makes_is_described(name: str) -> None:
    words = column_words(name)
    assert words
    assert not set("{}") & set(words)


def test_a_pattern_names_whose_statistic_it_is_and_over_how_many_rows() -> None:
    assert (
        column_words("item_positive_rate_50") == "the share of positives of the item's newest 50 events before the row"
    )
    assert column_words("user_rating_std").startswith("the standard deviation of the ratings of the user's events")
    assert column_words("price") == column_words("user_positive_rate_x") == ""
    assert all(len(words) <= 170 for words in WORDS.values())


def test_a_description_does_not_change_what_a_table_is_made_from() -> None:
    plain, told = Column(type="float32"), Column(type="float32", description="the price in euros")
    assert plain.deciding_settings() == told.deciding_settings()
