"""Event features of many rows: blocks of whole days are described one after the other, each on the state before it.

The values are the same to the last bit (`history_table.py`). All rows of a log of 10^8 at once spilled more than 46 GB.
"""

import shutil
from pathlib import Path

from recsys_assets.datasets.duck import quote, scan, write_parquet
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import Profile
from recsys_assets.engines.engine import Engine
from recsys_assets.features.history_table import Rule, extend_history, offer_rows

ROWS_AT_ONCE = 10_000_000  # they spilled about 4 GB


def describe_blocks(
    connection: Engine,
    profile: Profile,
    rule: Rule,
    users: Path,
    items: Path,
    known: str,
    state: Path | None,
    folder: Path,
) -> int:
    """Describe rows in blocks of days with up to `ROWS_AT_ONCE` rows; a day with more is a block of its own.

    Args:
        connection: may read all paths.
        profile: of the data set.
        rule: of the state.
        users: all users.
        items: all items.
        known: SQL for the rows, from `FROM` on, with a condition in the end.
        state: the folder that an earlier call wrote; None: there are no earlier rows.
        folder: for the files of `extend_history`, as if all rows had been described at once.

    Returns:
        The number of rows.
    """
    offer_rows(connection, profile, rule, items, known)
    blocks = _blocks(connection)
    folders = [folder / f"block_{place}" for place in range(len(blocks))] if len(blocks) > 1 else [folder]
    rows = 0
    for block, into in zip(blocks, folders, strict=True):
        into.mkdir(exist_ok=True)
        offer_rows(connection, profile, rule, items, f"{known} AND {block}")
        rows += extend_history(connection, profile, rule, users, items, state, into)
        state = into
    if len(blocks) > 1:
        _join(connection, folders, folder)
    return rows


def _blocks(connection: Engine) -> list[str]:
    """SQL for whether a row of the view `new_rows` is in each block; one block if there are no rows."""
    found = connection.execute(
        "SELECT timestamp::DATE::VARCHAR AS day, count(*) FROM new_rows GROUP BY day ORDER BY day"
    ).fetchall()
    blocks, total = list[list[str]](), 0
    for day, rows in found:
        total += rows
        if not blocks or total > ROWS_AT_ONCE:
            blocks, total = [*blocks, []], rows
        blocks[-1].append(day)
    return [f"timestamp::DATE BETWEEN DATE {quote(days[0])} AND DATE {quote(days[-1])}" for days in blocks] or ["true"]


def _join(connection: Engine, folders: list[Path], folder: Path) -> None:
    """Write the rows of all blocks to one file, and take the state and the snapshots of the last block."""
    write_parquet(connection, f"FROM {scan([each / ROWS for each in folders])}", folder / ROWS)
    for file in folders[-1].iterdir():
        if file.name != ROWS:
            file.rename(folder / file.name)
    for each in folders:
        shutil.rmtree(each)
