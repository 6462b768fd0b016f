"""Label rules are one expression over the row and nothing else, and the SQL that runs means what was written."""

import time
from pathlib import Path

import pytest

from recsys_assets.datasets.duck import connect
from recsys_assets.datasets.expressions import SCALARS, ExpressionError, parse
from recsys_assets.datasets.label import condition
from recsys_assets.datasets.profile_parts import ColumnType

COLUMNS: tuple[tuple[str, ColumnType], ...] = (
    ("user_id", "int64"),
    ("rating", "float32"),
    ("action", "string"),
    ("tags", "strings"),
    ("timestamp", "timestamp"),
)
NAMES = [name for name, _ in COLUMNS]
ROWS = """
    SELECT user_id::BIGINT AS user_id, rating::FLOAT AS rating, action, tags, timestamp::TIMESTAMP AS timestamp
    FROM (VALUES
        (1, 4.5, 'like', ['a', 'b'], '2026-01-01 10:20:30'), (2, -1, 'View', [], '2026-03-04'),
        (NULL, NULL, NULL, NULL, NULL), (9223372036854775807, 0, '', ['x'], '1969-12-31 23:59:59.5'),
        (-3, 2.5, '7', ['7'], '2026-01-01')
    ) AS rows (user_id, rating, action, tags, timestamp)
"""

ALLOWED = [
    "rating > 3",
    "Rating >= 3.5 AND NOT action = 'view'",
    "rating BETWEEN 1 AND 4 OR action IN ('like', 'View') OR rating IS NULL",
    "action <> 'like' AND action != 'x' AND action IS NOT NULL",
    "action IS DISTINCT FROM 'like'",
    "rating IS NOT DISTINCT FROM 4.5",
    "NOT rating = 0 IS TRUE",
    "(rating > 3) = (user_id <= 1)",
    "rating + user_id % 10 * 2 - 1 > user_id % 7",
    "-rating ** 2 < 0",
    "2 ** 3 ** 2 > user_id",
    "10 - 4 - user_id % 5 > 2",
    "user_id // 2 = 1 OR user_id / 2 > 1.2",
    "7 - -user_id % 4 > 1e0",
    "abs(rating) > 1 AND sign(rating) = 1 AND round(rating, 1) > 2 AND floor(rating) + ceil(rating) > 3",
    "sqrt(abs(rating)) + exp(0) + ln(1 + abs(rating)) + log(10) + log10(100) + power(2, 2) > 8",
    "greatest(rating, 2) > least(user_id, 3)",
    "coalesce(rating, 0) > 3 AND ifnull(rating, 1) > 2 AND nullif(rating, 0) > 0",
    "CASE WHEN action = 'like' THEN rating > 3 WHEN rating IS NULL THEN false ELSE true END",
    "CASE action WHEN 'like' THEN 1 ELSE 0 END = 1",
    "if(action = 'like', 1, 2) = 1",
    "lower(action) = 'view' OR upper(action) = 'LIKE' OR trim(action) = ''",
    "length(action) > 3 AND left(action, 2) = 'li' AND right(action, 1) = 'e' AND substring(action, 2, 2) = 'ik'",
    "action || '!' = 'like!'",
    "action LIKE 'li%' OR action ILIKE 'v__w' OR action NOT LIKE '%e%'",
    "starts_with(action, 'l') OR ends_with(action, 'w') OR contains(action, 'ew')",
    "regexp_matches(action, '^[0-9]+$')",
    "list_contains(tags, 'a') OR len(tags) = 0 OR array_length(tags) > 1",
    "'x' IN tags",
    "timestamp >= TIMESTAMP '2026-01-01 00:00:00' AND timestamp < '2026-02-01'",
    "year(timestamp) = 2026 AND month(timestamp) = 1 AND day(timestamp) = 1 AND hour(timestamp) > 8",
    "minute(timestamp) = 20 OR dayofweek(timestamp) = 3",
    "timestamp::DATE = DATE '2026-01-01'",
    "try_cast(action AS DOUBLE) > 3 OR rating::INT = 4 OR CAST(user_id AS VARCHAR) = '1'",
    "\"rating\" > 3 AND \"action\" = 'it''s'",
]


@pytest.mark.parametrize("text", ALLOWED)
def test_what_runs_gives_what_the_text_says(text: str) -> None:
    with connect() as connection:
        found = connection.execute(f"SELECT TRY({text}), {condition(text, COLUMNS).sql} FROM ({ROWS})").fetchall()
    assert [as_written for as_written, _ in found] == [as_run for _, as_run in found]


def test_what_is_allowed_is_tried() -> None:
    """Every kind of node on the list occurs in a rule above."""
    from sqlglot import parse_one

    seen = {type(node).__name__ for text in ALLOWED for node in parse_one(text, dialect="duckdb").walk()}
    assert sorted(SCALARS - seen) == []


ATTACKS = [
    # statements
    "rating > 3) IS NULL; COPY (SELECT 'x') TO 'written.csv'; SELECT (true",
    "rating > 3; DROP TABLE landed",
    "rating > 3;;",
    "COPY (SELECT 1) TO 'written.csv'",
    "ATTACH 'written.db'",
    "INSTALL httpfs",
    "PRAGMA database_list",
    "SET memory_limit = '1GB'",
    "CREATE MACRO f(x) AS x",
    "WITH x AS (SELECT 1) SELECT true",
    "true FROM landed",
    "rating > 3 UNION SELECT true",
    "rating > 3 ORDER BY random()",
    "rating > 3 QUALIFY true",
    # queries and files
    "rating > (SELECT count(*) FROM read_text('/etc/hostname'))",
    "EXISTS (SELECT 1 FROM '/etc/passwd')",
    "rating IN (SELECT 1)",
    "rating = ANY (SELECT 1)",
    "rating IN (FROM read_csv('/etc/passwd'))",
    "(FROM glob('/*')) IS NOT NULL",
    "(TABLE landed) IS NULL",
    "read_text('/etc/passwd') IS NULL",
    "read_csv('https://example.org/x.csv') IS NULL",
    "sniff_csv('/etc/passwd') IS NULL",
    "query('SELECT 1') IS NULL",
    "query_table('landed') IS NULL",
    "parquet_metadata('x') IS NULL",
    "sqlite_scan('x', 'y') IS NULL",
    # results that depend on time or place
    "rating > 5 * random()",
    "timestamp < now()",
    "timestamp < current_timestamp",
    "timestamp < current_date",
    "timestamp < today()",
    "timestamp < get_current_timestamp()",
    "timestamp < localtimestamp",
    "timestamp < CAST(current_date AS TIMESTAMP)",
    "uuid() IS NOT NULL",
    "gen_random_uuid() IS NOT NULL",
    "setseed(0.5) IS NULL",
    "nextval('s') > 1",
    "currval('s') > 1",
    "txid_current() > rating",
    "getenv('MONGO_URI') IS NULL",
    "getvariable('x') IS NULL",
    "current_setting('memory_limit') = '1'",
    "current_user = 'x'",
    "current_schema() = 'main'",
    "current_database() = 'memory'",
    "version() = 'x'",
    "pg_backend_pid() > rating",
    "in_search_path('a', 'b')",
    "hash(action) % 2 = 0",
    # more than one row
    "count(*) > 3",
    "sum(rating) > 3",
    "max(rating) = rating",
    "list(rating) = [1]",
    "row_number() OVER () > 3",
    "rating > avg(rating) OVER (PARTITION BY user_id)",
    "lag(rating) OVER (ORDER BY timestamp) > 3",
    "count(rating) FILTER (WHERE true) > 1",
    "unnest(tags) = 'a'",
    # names that are not columns, and other tricks with names
    "stars > 3",
    "landed.rating > 3",
    "main.landed.rating > 3",
    "rowid > 3",
    "filename = 'x'",
    "COLUMNS(*) > 3",
    "* IS NULL",
    "#1 > 3",
    "rating > 3 AND DEFAULT",
    '"rating""; DROP TABLE landed; --" > 3',
    # functions that call functions
    "list_filter(tags, x -> x = 'a') = tags",
    "list_transform(tags, lambda x: x || 'a') = tags",
    "list_reduce(tags, lambda x, y: x || y) = 'a'",
    "apply(tags, x -> random()) IS NULL",
    "list_aggregate(tags, 'count') > 1",
    "repeat(action, 1000000000) = ''",
    "range(1000000000) IS NULL",
    "printf('%s', action) = ''",
    "error('x') IS NULL",
    "write_log('x') IS NULL",
    "f(rating) > 3",
    "f(a := rating) > 3",
    # parameters
    "rating > $1",
    "rating > ?",
    "rating > :x",
    "rating > $stars",
    # comments
    "rating > 3 -- AND action = 'like'",
    "rating > /* 5 */ 3",
    "rating > 3 /* never closed",
    "rating > 3 AND '--' = action",
    # types
    "action::BLOB IS NULL",
    "rating::DECIMAL(38, 10) > 3",
    "action::JSON IS NULL",
    "tags::VARCHAR[] IS NULL",
    "{'a': rating}.a > 3",
    "[rating] = [3]",
    "action COLLATE NOCASE = 'x'",
    "timestamp AT TIME ZONE 'Asia/Tokyo' > '2026-01-01'",
    "timestamp + INTERVAL 1 DAY > '2026-01-01'",
    "timestamp::TIMESTAMPTZ > '2026-01-01'",
    "timestamp < 'now'",
    "timestamp < 'today'::TIMESTAMP",
    "rating > 'high'",
    "rating > 3 + 'x'",
    "action > 3 + rating",
    "tags > 3",
    # patterns that come from data
    "action LIKE action",
    "regexp_matches(action, action)",
    "regexp_matches(action, '(')",
    "action SIMILAR TO 'a'",
    # not a condition
    "rating",
    "action",
    "3",
    "NULL",
    "'rating > 3'",
    "rating >",
    "> 3",
    "rating > 3)",
    "(rating > 3",
    "'rating > 3",
    "",
    " ",
    ";",
    "SELECT rating > 3",
    "rating ＞ 3",
    "rating > 3\\",
    "`rating` > 3",
    # size
    "(" * 2000 + "rating > 3" + ")" * 2000,
    "(" * 300 + "rating > 3" + ")" * 300,
    "NOT " * 900 + "rating > 3",
    "-" * 3000 + "1 > 3",
    " AND ".join(["rating > 3"] * 3000),
    "CASE WHEN " * 200 + "rating > 3" + " THEN true END" * 200,
    "abs(" * 500 + "rating" + ")" * 500 + " > 3",
    "rating" + " + 1" * 900 + " > 3",
    "rating" + "::INT" * 700 + " > 3",
]


@pytest.mark.parametrize("text", ATTACKS, ids=lambda text: text[:50])
def test_a_rule_that_is_anything_else_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    start = time.process_time()
    with pytest.raises(ExpressionError) as raised:
        condition(text, COLUMNS)
    assert time.process_time() - start < 2
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["rating > 3", "user_id = 1", "rating <= 2.5", "rating <> -1", "rating >= 3.3"])
def test_a_plain_comparison_needs_no_parser_and_means_the_same(text: str) -> None:
    short, parsed = condition(text, COLUMNS), parse(text, NAMES)
    assert short.columns == parsed.columns
    assert short.sql.replace("::FLOAT", "") == parsed.sql
    rows = f"({ROWS} UNION ALL BY NAME SELECT unnest([3.3, 2.4999999, 123456.789, 1e30])::FLOAT AS rating)"
    with connect() as connection:
        answers = connection.execute(f"SELECT {short.sql}, {parsed.sql} FROM {rows}").fetchall()
    assert {True, False, None} == {answer for answer, _ in answers}
    assert all(one == other for one, other in answers)


def test_a_rule_that_fails_on_a_row_gives_no_answer_there() -> None:
    rule = condition("user_id * user_id > 3", COLUMNS).sql
    with connect() as connection:
        found = connection.execute(f"SELECT {rule} FROM ({ROWS})").fetchall()
    assert [answer for (answer,) in found] == [False, True, None, None, True]


def test_the_columns_that_a_rule_reads_are_told() -> None:
    assert parse("RATING > 3 OR \"Action\" = 'x'", NAMES).columns == {"rating", "action"}


def test_a_list_of_nodes_may_be_given() -> None:
    """The same parser reads expressions to be aggregated, with different nodes allowed."""
    with pytest.raises(ExpressionError, match="it uses what is not allowed: Sum"):
        parse("sum(rating) > 3", NAMES)
    assert parse("sum(rating) > 3", NAMES, SCALARS | {"Sum"}).sql == 'SUM("rating") > 3'
