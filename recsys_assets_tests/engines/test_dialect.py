"""DuckDB's statements become Spark's, or are refused; `test_spark.py` runs them on both."""

from collections.abc import Sequence

import pytest
import sqlglot

from recsys_assets.engines.dialect import Untranslatable, to_spark


def columns(query: str) -> Sequence[str]:
    return {"SELECT * FROM one": ["a", "b"], "SELECT * FROM other": ["b", "c"]}[query]


def files(names: Sequence[str]) -> str:
    return f"files_of_{len(names)}"


def spark(query: str) -> str:
    return to_spark(sqlglot.parse_one(query, read="duckdb"), columns, files)


def test_fractions_are_rounded_before_they_become_integers() -> None:
    assert spark("SELECT (1e6 * a)::BIGINT") == "SELECT CAST(BROUND((1e6 * a), 0) AS BIGINT)"


@pytest.mark.parametrize("exact", ["a IS NULL", "coalesce(list_contains(a, 'x'), false)", "3", "a::INTEGER"])
def test_what_is_no_fraction_is_cast_as_it_is(exact: str) -> None:
    assert "BROUND" not in spark(f"SELECT ({exact})::TINYINT").removeprefix("SELECT CAST(").replace(
        "CAST(BROUND(a, 0) AS INT)", ""
    )


def test_integers_of_128_bits_are_decimals() -> None:
    assert spark("SELECT sum(a::HUGEINT)") == "SELECT SUM(CAST(a AS DECIMAL(38, 0)))"


def test_a_division_is_one_of_floating_point_numbers() -> None:
    assert spark("SELECT a / 10.0") == "SELECT CAST(a AS DOUBLE) / CAST(10.0 AS DOUBLE)"


def test_infinite_moments_are_those_of_parquet() -> None:
    moment = "CAST('+294247-01-10 04:00:54.775807' AS TIMESTAMP_NTZ)"
    assert spark("SELECT 'infinity'::TIMESTAMP, TIMESTAMP '2026-01-01'") == (
        f"SELECT {moment}, CAST('2026-01-01' AS TIMESTAMP_NTZ)"
    )


def test_numbers_of_rows_and_parts_of_a_time_have_64_bits() -> None:
    assert spark("SELECT row_number() OVER (ORDER BY a), hour(b)") == (
        "SELECT CAST(ROW_NUMBER() OVER (ORDER BY a NULLS LAST) AS BIGINT), CAST(HOUR(b) AS BIGINT)"
    )


def test_a_week_begins_with_monday() -> None:
    assert spark("SELECT isodow(a)") == "SELECT CAST(WEEKDAY(a) + 1 AS BIGINT)"


def test_a_local_time_is_made_of_one_of_utc() -> None:
    assert spark("SELECT a AT TIME ZONE 'UTC' AT TIME ZONE 'Asia/Tokyo'") == (
        "SELECT FROM_UTC_TIMESTAMP(FROM_UTC_TIMESTAMP(a, 'UTC'), 'Asia/Tokyo')"
    )


def test_a_union_by_name_names_the_columns_of_both_sides() -> None:
    assert spark("FROM one UNION ALL BY NAME FROM other") == (
        "SELECT `a`, `b`, NULL AS `c` FROM (SELECT * FROM one) AS named UNION ALL "
        "SELECT NULL AS `a`, `b`, `c` FROM (SELECT * FROM other) AS named"
    )


def test_replaced_columns_stay_in_their_places() -> None:
    assert spark("SELECT * REPLACE (a + 1 AS a), 5 AS n FROM one") == "SELECT a + 1 AS a, `b`, 5 AS n FROM one"


def test_files_become_tables() -> None:
    assert spark("FROM read_parquet(['x', 'y'], hive_partitioning = false) AS t") == "SELECT * FROM files_of_2 AS t"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT last(a ORDER BY b)", "write it with arg_max"),
        ("SELECT list(a ORDER BY b) OVER (PARTITION BY c)", "write it with arg_max"),
        ("SELECT sum(a) OVER (ORDER BY b ROWS UNBOUNDED PRECEDING EXCLUDE CURRENT ROW)", "no EXCLUDE in a frame"),
        ("SELECT date_diff('day', a, b)", "DuckDB midnights"),
        ("SELECT md5_number_lower(a)", "this function has no translation"),
        ("SELECT TRY(a > 'x' AND b < 3)", "no TRY; build this asset on DuckDB"),
        ("FROM one ASOF JOIN other ON one.a >= other.a", "no ASOF JOIN; build this asset on DuckDB"),
        ("SELECT a AT TIME ZONE 'Europe/Berlin' AT TIME ZONE 'UTC'", "take this time for one of UTC"),
    ],
)
def test_what_spark_would_compute_otherwise_is_refused(query: str, said: str) -> None:
    with pytest.raises(Untranslatable, match=said):
        spark(query)
