"""Point-in-time features: statistics of user and item just before each event, in SQL on DuckDB.

Training and serving share one statement (`sql/history.sql`): the snapshot of a user or item, which serving reads, is
the history of the row that would come next, so the two cannot drift apart. The features are those of recsys_pipeline
(user and item ids, side features, genres, impressions and clicks by genre over the user's last 10 rows) and running
statistics of user and item. A column of the log that belongs to a user or an item is taken from the rows before, too:
it is the newest known value at that moment. The paths `splits`, `users` and `items` are the tables of the assets of
that name, and `pairs` is one of the files that `factors` writes: of events, of users or of items.
"""

from collections.abc import Sequence
from pathlib import Path

from recsys_assets.datasets.duck import quote, quote_name, scan
from recsys_assets.datasets.impression_rules import POSITION
from recsys_assets.datasets.moments import moment_columns
from recsys_assets.datasets.names import (
    DRAW_LOG_LEFT,
    DRAW_LOG_RATE,
    DRAWN,
    ITEM_EVENTS,
    ITEM_STATISTICS,
    RATING_STATISTICS,
    SHOWN_POSITION,
    TERM_STATISTICS,
    USER_EVENTS,
    USER_STATISTICS,
)
from recsys_assets.datasets.profile import Profile
from recsys_assets.features.history_table import ITEM_PRIOR, USER_PRIOR
from recsys_assets.features.pair_features import ITEM_COLUMNS, MODEL_INPUTS, USER_COLUMNS


def user_columns(profile: Profile) -> list[str]:
    """Columns of `user_features` that feed models, `user_id` aside, in order."""
    return [
        *_table_columns(profile, "users"),
        *_statistics(profile, USER_STATISTICS),
        *(TERM_STATISTICS if profile.features.terms else ()),
    ]


def item_columns(profile: Profile) -> list[str]:
    """Columns of `item_features` that feed models, `item_id` aside, in order."""
    position = [SHOWN_POSITION] if has_positions(profile) else []
    return [*_table_columns(profile, "items"), *_statistics(profile, ITEM_STATISTICS), *position]


def has_positions(profile: Profile) -> bool:
    """Whether ranking models read where an item was shown."""
    return bool(profile.impressions) and POSITION in profile.tables["impressions"]


def sample_query(profile: Profile, users: Path, items: Path, pairs: Path, part: str, only: str = "true") -> str:
    """SQL for the rows of one part with all their features, ordered by user_id and time; drawn rows after their event.

    `only` is a condition (SQL) on the rows of `pairs`. A row of an item that was not known at its moment is left out if
    negatives are drawn: see `draws.py`. In a profile with impressions these are the rows.
    """
    rows = f"(SELECT * FROM {scan([pairs])} WHERE part = {quote(part)} AND {only})"
    if profile.impressions:
        return _sample_query_of_impressions(profile, users, items, rows)
    if profile.draws:
        label = f"CASE WHEN pairs.{DRAWN} THEN 0 ELSE history.label END"
        return _sample_query_with_draws(profile, users, items, rows, label)
    oracle = f", history.oracle AS {quote_name(profile.oracle)}" if profile.oracle else ""
    keys = ", ".join(profile.event_keys)
    return (
        f"SELECT {_columns_of('history', profile.event_keys)}, history.label, "
        f"{_side_columns(profile, 'users')}, {_side_columns(profile, 'items')}, "
        f"{_columns_of('pairs', [feature.name for feature in MODEL_INPUTS])}"
        f"{moment_columns(profile, 'history')}{oracle} "
        f"FROM history JOIN {rows} AS pairs USING ({keys}) "
        f"JOIN {scan([users])} AS users ON users.user_id = history.user_id "
        f"JOIN {scan([items])} AS items ON items.item_id = history.item_id "
        f"{f'WHERE NOT pairs.{DRAWN} ' if profile.touch else ''}"
        "ORDER BY history.user_id, history.timestamp, history.seq"
    )


def touch_query(profile: Profile, users: Path, items: Path, pairs: Path, part: str, only: str = "true") -> str:
    """SQL for the rows of one part that tell events, the positives, from drawn items; otherwise like `sample_query`."""
    rows = f"(SELECT * FROM {scan([pairs])} WHERE part = {quote(part)} AND {only})"
    return _sample_query_with_draws(profile, users, items, rows, f"NOT pairs.{DRAWN}")


def _sample_query_with_draws(profile: Profile, users: Path, items: Path, pairs: str, label: str) -> str:
    """A row has the user's side of its event, and the item's side as of the item's events before that moment.

    These are the statistics of the item's next row, except for the shrunk rate: it is computed for the moment.
    """
    drawn, own = f"pairs.{DRAWN}", _side_columns(profile, "items", "next_row")
    rate = f"(next_row.item_positives + {ITEM_PRIOR} * history.base_rate) / (next_row.item_n + {ITEM_PRIOR})"
    own = own.replace('next_row."item_positive_rate"', f"({rate})::FLOAT AS item_positive_rate")
    truth = f"CASE WHEN NOT {drawn} THEN history.oracle END"
    oracle = f", {truth} AS {quote_name(profile.oracle)}" if profile.oracle else ""
    return (
        f"SELECT {_columns_of('pairs', profile.pair_keys)}, ({label})::TINYINT AS label, "
        f"{_side_columns(profile, 'users')}, {own}, "
        f"{_columns_of('pairs', [feature.name for feature in MODEL_INPUTS])}{moment_columns(profile, 'history')}, "
        f"{_columns_of('pairs', (DRAWN, DRAW_LOG_RATE))}{oracle} "
        f"FROM {pairs} AS pairs JOIN history USING (user_id, timestamp, seq) "
        f"JOIN history AS next_row ON next_row.item_id = pairs.item_id AND next_row.item_n = pairs.{ITEM_EVENTS} "
        f"JOIN {scan([users])} AS users ON users.user_id = pairs.user_id "
        f"JOIN {scan([items])} AS items ON items.item_id = pairs.item_id "
        f"WHERE isfinite(pairs.{DRAW_LOG_RATE}) "
        f"ORDER BY pairs.user_id, pairs.timestamp, pairs.seq, {drawn}, pairs.item_id"
    )


def _sample_query_of_impressions(profile: Profile, users: Path, items: Path, pairs: str) -> str:
    """A row has both sides as of the events of its user, and of its item, before the moment.

    These are the statistics of the user's and the item's next rows, except for the shrunk rates, which are computed for
    the moment.
    """
    theirs, its = _side_columns(profile, "users", "of_user"), _side_columns(profile, "items", "of_item")
    for side, prior in (("user", USER_PRIOR), ("item", ITEM_PRIOR)):
        rate = f"(of_{side}.{side}_positives + {prior} * pairs.base_rate) / (of_{side}.{side}_n + {prior})"
        column, now = f'of_{side}."{side}_positive_rate"', f"({rate})::FLOAT AS {side}_positive_rate"
        theirs, its = theirs.replace(column, now), its.replace(column, now)
    its = its.replace(_served_position(profile), f"pairs.{SHOWN_POSITION}")
    return (
        f"SELECT {_columns_of('pairs', profile.event_keys)}, pairs.label, {theirs}, {its}, "
        f"{_columns_of('pairs', [feature.name for feature in MODEL_INPUTS])}{moment_columns(profile, 'pairs')} "
        f"FROM {pairs} AS pairs "
        f"JOIN history AS of_user ON of_user.user_id = pairs.user_id AND of_user.user_n = pairs.{USER_EVENTS} "
        f"JOIN history AS of_item ON of_item.item_id = pairs.item_id AND of_item.item_n = pairs.{ITEM_EVENTS} "
        f"JOIN {scan([users])} AS users ON users.user_id = pairs.user_id "
        f"JOIN {scan([items])} AS items ON items.item_id = pairs.item_id "
        "ORDER BY pairs.user_id, pairs.timestamp, pairs.item_id"
    )


def _served_position(profile: Profile) -> str:
    """SQL for the column of the position that every item has when models serve."""
    return f"{profile.impressions.served_position if profile.impressions else 'NULL'}::FLOAT AS {SHOWN_POSITION}"


def user_query(profile: Profile, users: Path, pairs: Path) -> str:
    """SQL for the snapshot of every user, ordered by user_id."""
    pair_columns = (*USER_COLUMNS, DRAW_LOG_LEFT) if profile.draws_all else USER_COLUMNS
    return (
        f"SELECT history.user_id, {_side_columns(profile, 'users')}, {_columns_of('pairs', pair_columns)} FROM history "
        f"JOIN {scan([users])} AS users ON users.user_id = history.user_id "
        f"JOIN {scan([pairs])} AS pairs ON pairs.user_id = history.user_id "
        "WHERE history.item_id IS NULL ORDER BY history.user_id"
    )


def item_query(profile: Profile, items: Path, pairs: Path) -> str:
    """SQL for the snapshot of every item, ordered by item_id."""
    pair_columns = (*ITEM_COLUMNS, DRAW_LOG_RATE) if profile.draws_all else ITEM_COLUMNS
    return (
        f"SELECT history.item_id, {_side_columns(profile, 'items')}, {_columns_of('pairs', pair_columns)} FROM history "
        f"JOIN {scan([items])} AS items ON items.item_id = history.item_id "
        f"JOIN {scan([pairs])} AS pairs ON pairs.item_id = history.item_id "
        "WHERE history.user_id IS NULL ORDER BY history.item_id"
    )


def _side_columns(profile: Profile, table: str, statistics: str = "history") -> str:
    """SQL for `user_columns` or `item_columns`, each with its table: other tables may have columns of the same name."""
    own = [column for column in _table_columns(profile, table) if column not in profile.carried_features]
    columns = user_columns(profile) if table == "users" else item_columns(profile)
    chosen = [f"{table if column in own else statistics}.{quote_name(column)}" for column in columns]
    place = {SHOWN_POSITION: _served_position(profile)}
    return ", ".join(place.get(column, each) for column, each in zip(columns, chosen, strict=True))


def _columns_of(table: str, columns: Sequence[str]) -> str:
    return ", ".join(f"{table}.{quote_name(column)}" for column in columns)


def _table_columns(profile: Profile, table: str) -> list[str]:
    """Feature columns that the users or items table has."""
    own = profile.columns_of("users" if table == "users" else "items")
    return [column for column in profile.features.columns if column in own and column not in ("user_id", "item_id")]


def _statistics(profile: Profile, statistics: tuple[str, ...]) -> list[str]:
    """The running statistics; those of ratings only if the profile has a rating."""
    return [column for column in statistics if profile.rating or column not in RATING_STATISTICS]
