"""The table `history`: rows with the statistics of their user and item just before them, by `sql/history.sql`.

All rows are described at once, or new rows on top of the state that earlier ones left (`history_state.py`); both give
the same values to the last bit. So a day's rows are described once, on their day, and never again.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from recsys_assets.datasets.duck import only_row, quote, quote_name, scan, write_parquet
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.log_entities import known_value
from recsys_assets.datasets.moments import columns_of_log
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.splits import ONLINE, before
from recsys_assets.engines.engine import Engine
from recsys_assets.features.history_state import (
    ITEM_SUMS,
    carried_places,
    keep_rows,
    longest_window,
    open_state,
    write_state,
)

# Rates and biases are shrunk towards those of all rows, as if there were this many more average rows: the first rows
# of an item say less about it than those of a user.
USER_PRIOR, ITEM_PRIOR = 5, 10
SNAPSHOTS = "snapshots.parquet"


@dataclass(frozen=True)
class Rule:
    """Inputs of the statement that are made of whole tables. States of different rules do not fit together.

    Attributes:
        terms: the terms that get statistics, in ascending order.
        unit: the factor that turns ratings into whole numbers.
    """

    terms: list[str]
    unit: float


def read_rule(connection: Engine, profile: Profile, splits: Path, items: Path, until: str = ONLINE) -> Rule:
    """The rule for the rows before a part of `splits`."""
    return Rule(terms(connection, profile, items), _rating_unit(connection, profile, known_rows(splits, until)))


def known_rows(splits: Path, until: str = ONLINE) -> str:
    """SQL for the rows before a part, from `FROM` on: those of the part and of later ones are no feature's business."""
    return f"FROM {scan([splits])} WHERE {before(until)}"


def build_history(
    connection: Engine, profile: Profile, splits: Path, users: Path, items: Path, until: str = ONLINE
) -> list[str]:
    """Create the table `history`: a row for each event before the part `until`, and the next row of users and items.

    The next rows have no item or no user, and no label.

    Returns:
        The terms that were counted, in the order of the term statistics.
    """
    rule = read_rule(connection, profile, splits, items, until)
    offer_rows(connection, profile, rule, items, known_rows(splits, until))
    gather_rows(connection, profile, rule, users, items)
    connection.execute(statement(profile, rule))
    connection.execute("DROP TABLE rated")
    return rule.terms


def extend_history(
    connection: Engine,
    profile: Profile,
    rule: Rule,
    users: Path,
    items: Path,
    state: Path | None,
    folder: Path,
) -> int:
    """Describe the rows of the view `new_rows`, which come after those of a state, and write what later rows need.

    Args:
        connection: `offer_rows` has made the view.
        profile: of the data set.
        rule: of the state.
        users: all users.
        items: all items.
        state: the folder that an earlier call wrote; None: there are no earlier rows.
        folder: for `data.parquet`, the rows ordered by time; `snapshots.parquet`, the next row of each user and item;
            and the files of the new state.

    Returns:
        The number of rows.
    """
    gather_rows(connection, profile, rule, users, items, state)
    connection.execute(statement(profile, rule))
    write_state(connection, profile, len(rule.terms), longest_window(profile.features.terms), folder)
    connection.execute("DROP TABLE rated")
    if state:
        connection.execute(f"INSERT INTO history BY NAME {_unchanged(users, items, state, folder)}")
    next_rows = "FROM history WHERE label IS NULL ORDER BY user_id, item_id"
    write_parquet(connection, next_rows, folder / SNAPSHOTS)
    rows = "FROM history WHERE label IS NOT NULL ORDER BY timestamp, seq, user_id, item_id"
    return write_parquet(connection, rows, folder / ROWS)


def open_history(connection: Engine, rows: Sequence[Path], snapshots: Path) -> None:
    """Create the view `history`, with the rows of the table that `build_history` makes, of files of `extend_history`.

    Args:
        connection: may read all paths.
        rows: the files of rows, the oldest first.
        snapshots: the newest file of next rows.
    """
    described = f"FROM {scan(rows)} UNION ALL BY NAME " if rows else ""
    connection.execute(f"CREATE OR REPLACE TEMP VIEW history AS {described}FROM {scan([snapshots])}")


def terms(connection: Engine, profile: Profile, items: Path) -> list[str]:
    """The terms that get statistics, in ascending order: the `max_terms` that most items carry (ties by name)."""
    rule = profile.features.terms
    if rule is None:
        return []
    found = connection.execute(
        f"SELECT term FROM (SELECT unnest(list_distinct({quote_name(rule.column)})) AS term FROM {scan([items])}) "
        f"WHERE term <> '' GROUP BY term ORDER BY count(*) DESC, term LIMIT {rule.max_terms}"
    ).fetchall()
    return sorted(row[0] for row in found)


def offer_rows(connection: Engine, profile: Profile, rule: Rule, items: Path, known: str) -> None:
    """Create the view `new_rows` with what the statement reads of known rows, and `item_terms`.

    `item_terms` says with t0, t1, … for each item whether it carries the term.
    """
    column = quote_name(profile.features.terms.column) if profile.features.terms else ""
    flags = "".join(
        f", coalesce(list_contains({column}, {quote(term)}), false)::INTEGER AS t{place}"
        for place, term in enumerate(rule.terms)
    )
    connection.execute(f"CREATE OR REPLACE TEMP TABLE item_terms AS SELECT item_id{flags} FROM {scan([items])}")
    value = f"CAST({rule.unit} * {quote_name(profile.rating)}::DOUBLE AS BIGINT)" if profile.rating else "NULL::BIGINT"
    oracle = quote_name(profile.oracle) if profile.oracle else "NULL::FLOAT"
    features, moment = profile.carried_features.items(), columns_of_log(profile)
    carried = "".join(f", {known_value(name, spec)} AS carried_{place}" for place, (name, spec) in enumerate(features))
    carried += "".join(f", {quote_name(name)} AS moment_{place}" for place, name in enumerate(moment))
    rows = f"user_id, item_id, timestamp, seq, label, {value} AS value, {oracle} AS oracle{carried}"
    connection.execute(f"CREATE OR REPLACE TEMP VIEW new_rows AS SELECT {rows} {known}")


def _next_rows(users: Path, items: Path, state: Path | None) -> str:
    """SQL for a row at the end of time for each user, and for each item, except for those that `_unchanged` gives."""
    sides = []
    for side, path in (("user", users), ("item", items)):
        row = f"SELECT {side}_id, 'infinity'::TIMESTAMP AS timestamp, 0 AS seq FROM {scan([path])}"
        if state:
            same = f"SELECT {side}_id FROM {scan([state / SNAPSHOTS])} ANTI JOIN events USING ({side}_id)"
            row += f" ANTI JOIN ({same}) USING ({side}_id)"
        sides.append(row)
    return " UNION ALL BY NAME ".join(sides)


def _unchanged(users: Path, items: Path, state: Path, folder: Path) -> str:
    """SQL for the described next rows of listed users and items without new rows.

    They are those of the state, with the rate of all rows of the new state, which is in `folder`.
    """
    rates = "".join(
        f", (({side}_positives + {prior} * now.rate) / ({side}_n + {prior}))::FLOAT AS {side}_positive_rate"
        for side, prior in (("user", USER_PRIOR), ("item", ITEM_PRIOR))
    )
    chosen = " OR ".join(
        f"({side}_id IN (SELECT {side}_id FROM {scan([path])}) "
        f"AND {side}_id NOT IN (SELECT {side}_id FROM history WHERE {side}_id IS NOT NULL))"
        for side, path in (("user", users), ("item", items))
    )
    now = f"SELECT (sum(positives) + 1) / (sum(n) + 2) AS rate FROM {scan([folder / f'{ITEM_SUMS}.parquet'])}"
    return (
        f"SELECT earlier.* REPLACE (now.rate AS base_rate{rates}) "
        f"FROM {scan([state / SNAPSHOTS])} AS earlier, ({now}) AS now WHERE {chosen}"
    )


def gather_rows(
    connection: Engine, profile: Profile, rule: Rule, users: Path, items: Path, state: Path | None = None
) -> None:
    """Create the tables that `statement` reads: of the state, of the view `new_rows`, and of the `_next_rows`."""
    open_state(connection, profile, len(rule.terms), state)
    connection.execute("CREATE OR REPLACE TEMP TABLE events AS FROM new_rows")
    connection.execute(f"INSERT INTO events BY NAME {_next_rows(users, items, state)}")
    keep_rows(connection, longest_window(profile.features.terms))


def statement(profile: Profile, rule: Rule) -> str:
    """SQL that creates `history` from what was gathered, and the table `rated` for the next state."""
    text = Template((Path(__file__).parent / "sql" / "history.sql").read_text(encoding="utf-8"))
    return text.substitute(
        user_prior=USER_PRIOR,
        item_prior=ITEM_PRIOR,
        unit=rule.unit,
        window=longest_window(profile.features.terms),
        user_windows=_newest_values(profile, "user") + _term_windows(len(rule.terms)),
        item_windows=_newest_values(profile, "item"),
        columns=_own_columns(profile) + _term_columns(len(rule.terms)),
    )


def _rating_unit(connection: Engine, profile: Profile, known: str) -> float:
    """The factor that turns the known rows' ratings into whole numbers; 128 bits hold the squares of their sums."""
    if not profile.rating:
        return 1.0
    rating = f"{quote_name(profile.rating)}::DOUBLE"
    rows, largest = only_row(connection, f"SELECT count({rating}), max(abs({rating})) {known}")
    return 10.0 ** math.floor(math.log10(2**62 / (rows * largest))) if largest else 1.0


def _newest_values(profile: Profile, side: str) -> str:
    """SQL for the newest known value, in the new rows before, of each carried feature of a side."""
    return "".join(
        f", last_value(carried_{place} IGNORE NULLS) OVER {side}_past AS newest_{place}"
        for place in carried_places(profile, side)
    )


def _own_columns(profile: Profile) -> str:
    """SQL for carried features, and for the columns of the log that are features of the moment: a row has its own."""
    carried = "".join(
        f", coalesce(new.newest_{place}, of_{spec.of}.carried_{place}) AS {quote_name(name)}"
        for place, (name, spec) in enumerate(profile.carried_features.items())
    )
    moment = (f", new.moment_{place} AS {quote_name(name)}" for place, name in enumerate(columns_of_log(profile)))
    return carried + "".join(moment)


def _term_windows(number: int) -> str:
    """SQL for the counts of `number` terms: as lists over the newest rows, and one by one over all new rows.

    The counts are impressions (rows with the term) and clicks (positive ones), and over all rows also the sum of the
    labels' differences from the items' rates.
    """
    places = range(number)
    recent = {"imp": "CASE WHEN newest_label IS NOT NULL THEN t{} END", "clk": "t{} * newest_label"}
    lists = [
        f"[{', '.join(f'coalesce(sum({value.format(place)}) OVER user_recent, 0)' for place in places)}]::FLOAT[] "
        f"AS recent_term_{name}"
        for name, value in recent.items()
    ]
    past = {"imp": "CASE WHEN label IS NOT NULL THEN t{} END", "clk": "t{} * label", "bias": "t{} * above_item"}
    sums = [
        f"coalesce(sum({value.format(place)}) OVER user_past, 0) AS {name}_{place}"
        for name, value in past.items()
        for place in places
    ]
    return "".join(f", {each}" for each in [*lists, *sums])


def _term_columns(number: int) -> str:
    """SQL for the lists of `number` statistics, one per term; if there are no terms, the lists are empty."""
    columns = ", new.recent_term_imp, new.recent_term_clk"
    for name, scale in {"imp": "", "clk": "", "bias": " / 1e6"}.items():
        sums = (f"(coalesce(of_user.{name}_{k}, 0) + new.{name}_{k}){scale}" for k in range(number))
        columns += f", [{', '.join(sums)}]::FLOAT[] AS user_term_{name}"
    return columns
