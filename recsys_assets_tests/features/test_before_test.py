"""Snapshots from before the test rows, compared with the ordinary ones of a log that has no test rows."""

from pathlib import Path

from recsys_assets.datasets.duck import connect
from recsys_assets.features.before_test import Snapshots, snapshots_before_test
from recsys_assets.features.history import item_query, user_query
from recsys_assets.features.history_table import build_history
from recsys_assets.features.pair_feature_files import ITEM_FILE, USER_FILE
from recsys_assets_tests.features.test_history import Log, write_files, write_log


def write_parts(folder: Path, later: str) -> Log:
    """A log in which each user's last rows are online, and the ones before them of the part `later`."""
    folder.mkdir()
    log = write_log(folder, seed=3)
    for user in range(1, 5):
        own = [row for row in log.rows if row["user_id"] == user]
        for row in own[-8:-2]:
            row["part"] = later
        own[-9]["part"] = "validation"
    return Log(log.profile, *write_files(folder, log.rows), log.rows)


def ordinary(log: Log) -> Snapshots:
    folder = log.factors
    with connect(log.splits.parent) as connection:
        build_history(connection, log.profile, log.splits, log.users, log.items)
        queries = (
            user_query(log.profile, log.users, folder / USER_FILE),
            item_query(log.profile, log.items, folder / ITEM_FILE),
        )
        return Snapshots(*(connection.sql(query).to_arrow_table() for query in queries))


def test_they_are_the_snapshots_of_a_log_that_has_no_test_rows(tmp_path: Path) -> None:
    log, without = write_parts(tmp_path / "log", "test"), write_parts(tmp_path / "without", "online")
    folder, scratch = log.factors, tmp_path / "log" / "scratch"
    scratch.mkdir()
    with connect(tmp_path / "log") as connection:
        paths = log.splits, log.users, log.items, folder / ITEM_FILE
        found = snapshots_before_test(connection, log.profile, *paths, scratch)
    expected = ordinary(without)
    assert found == expected
    assert found != ordinary(log)
    assert not list(scratch.iterdir())
