"""Checks of features: statistics of samples and sums of a state, counted again in another way from the rows."""

from collections.abc import Sequence
from pathlib import Path

from recsys_assets.datasets.duck import only_row, scan
from recsys_assets.datasets.profile import KEYS
from recsys_assets.engines.engine import Engine
from recsys_assets.features.history_state import ITEM_SUMS, USER_SUMS
from recsys_assets.features.history_table import ITEM_PRIOR, USER_PRIOR


def count_leaking_rows(
    connection: Engine,
    splits: Path,
    samples: str,
    keys: Sequence[str] = KEYS["interactions"],
    users: int = 50,
    impressions: bool = False,
) -> int:
    """Count rows with leakage: rows whose user or item statistics are not those of the rows before them.

    The statistics are counted again with plain joins, not with the window frames that made the features. For each row
    of `users` users of the samples (spread over the ids), these are the earlier offline rows of the user and of the
    item, and the positives among them. The samples may begin later than the offline rows. If `seq` is among the keys,
    rows that only the samples have, drawn ones, are counted too, and events that the samples leave out are not.
    `impressions`: the samples are impressions instead of events.
    """
    of_samples = f"SELECT DISTINCT {', '.join(keys)} FROM {samples}"
    asked = f"({of_samples}) JOIN moments USING (user_id, timestamp, seq)" if "seq" in keys else "running"
    if impressions:
        asked = f"""(
            SELECT shown.*, -1 AS seq, coalesce(all_n, before.n) AS all_n, coalesce(all_p, before.p) AS all_p
            FROM before, ({of_samples}) AS shown ASOF LEFT JOIN (
                SELECT timestamp, max(all_n) + 1 AS all_n, max(all_p + label) AS all_p FROM running GROUP BY timestamp
            ) AS earlier ON shown.timestamp > earlier.timestamp)"""
    expected = f"""
        WITH offline AS (
            SELECT user_id, item_id, timestamp, seq, label FROM {scan([splits])} WHERE part <> 'online'
        ),
        ids AS (SELECT DISTINCT user_id FROM {samples} SEMI JOIN offline USING (user_id)),
        first AS (SELECT min(timestamp) AS moment FROM {samples}),
        before AS (
            SELECT count(*) AS n, coalesce(sum(label), 0) AS p FROM offline, first WHERE timestamp < moment
        ),
        chosen AS (SELECT user_id FROM ids ORDER BY hash(user_id), user_id LIMIT {users}),
        running AS (
            SELECT offline.*, before.n - 1 + row_number() OVER everyone AS all_n,
                before.p - label + sum(label) OVER everyone AS all_p
            FROM offline, before, first WHERE timestamp >= moment WINDOW everyone AS (ORDER BY timestamp, seq)
        ),
        moments AS (SELECT * EXCLUDE (item_id) FROM running),
        asked AS (SELECT *, (all_p + 1) / (all_n + 2) AS base_rate FROM {asked} JOIN chosen USING (user_id)),
        of_user AS ({_counts_before("user")}), of_item AS ({_counts_before("item")})
        SELECT *, (user_p + {USER_PRIOR} * base_rate) / (user_n + {USER_PRIOR}) AS user_rate,
            (item_p + {ITEM_PRIOR} * base_rate) / (item_n + {ITEM_PRIOR}) AS item_rate
        FROM of_user JOIN of_item USING (user_id, item_id, timestamp, seq, base_rate)
    """
    differing = f"""
        SELECT count(*) FROM ({expected}) AS expected LEFT JOIN {samples} AS found USING ({", ".join(keys)})
        WHERE found.user_id IS NULL
            OR abs(found.user_count - ln(1 + expected.user_n)) > 1e-4
            OR abs(found.user_positive_rate - expected.user_rate) > 1e-4
            OR abs(found.item_count - ln(1 + expected.item_n)) > 1e-4
            OR abs(found.item_positive_rate - expected.item_rate) > 1e-4
    """
    return int(only_row(connection, differing)[0])


def count_wrong_sums(connection: Engine, rows: str, state: Path, drawn: int = 50) -> int:
    """Count users and items whose sums in a state are not those of their rows.

    Args:
        connection: may read all paths.
        rows: a relation with the rows of `extend_history`, those of all days.
        state: the folder that it wrote last.
        drawn: how many users and how many items are counted again, spread over the ids.
    """
    sums = "n, positives, above, rates, counts"
    wrong = 0
    for side, table, of_other, prior in (
        ("user", USER_SUMS, "item", ITEM_PRIOR),
        ("item", ITEM_SUMS, "user", USER_PRIOR),
    ):
        wrong += only_row(
            connection,
            f"""
            WITH chosen AS (
                SELECT {side}_id, {sums} FROM {scan([state / f"{table}.parquet"])}
                ORDER BY hash({side}_id), {side}_id LIMIT {drawn}
            ),
            theirs AS (
                SELECT {side}_id, label, {of_other}_n AS n,
                    ({of_other}_positives + {prior} * base_rate) / ({of_other}_n + {prior}) AS rate
                FROM {rows} SEMI JOIN chosen USING ({side}_id)
            ),
            counted AS (
                SELECT {side}_id, count(*) AS n, sum(label) AS positives,
                    sum(CAST(1e6 * (label - rate) AS BIGINT)) AS above, sum(CAST(1e6 * rate AS BIGINT)) AS rates,
                    sum(CAST(1e6 * ln(1 + n) AS BIGINT)) AS counts
                FROM theirs GROUP BY {side}_id
            )
            SELECT count(*) FROM (SELECT {side}_id, {sums} FROM chosen EXCEPT SELECT {side}_id, {sums} FROM counted)
        """,
        )[0]
    return int(wrong)


def _counts_before(side: str) -> str:
    """SQL that counts, for each row in `asked`, the earlier rows of its user or item, and the positives among them."""
    return f"""
        SELECT asked.user_id, asked.item_id, asked.timestamp, asked.seq, asked.base_rate,
            count(earlier.label) AS {side}_n, coalesce(sum(earlier.label), 0) AS {side}_p
        FROM asked LEFT JOIN offline AS earlier ON earlier.{side}_id = asked.{side}_id
            AND (earlier.timestamp, earlier.seq) < (asked.timestamp, asked.seq)
        GROUP BY ALL
    """
