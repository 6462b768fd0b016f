"""Event features: statistics of user and item just before each event, computed once, and what the next day needs.

A partition has the rows that its bizdate adds to an earlier one, which it extends; its manifest names that one, and all
that this one extends. Assets that need the rows of all days read this chain with `rows_of_all_days`.
"""

from dataclasses import asdict

from recsys_assets.assets.lake_asset import Check, lake_asset
from recsys_assets.assets.ranges import BY_MONTH
from recsys_assets.checks import check_no_nulls
from recsys_assets.datasets.duck import only_row, scan
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.names import FEATURES_VERSION
from recsys_assets.engines.chosen import open_engine
from recsys_assets.engines.engine import Engine
from recsys_assets.features.history_blocks import describe_blocks
from recsys_assets.features.history_table import known_rows, offer_rows, read_rule
from recsys_assets.features.known_rows import Known, count_known, newest_moment, only_after
from recsys_assets.features.leakage import count_wrong_sums
from recsys_assets.io_managers import Output
from recsys_assets.lake import Lake
from recsys_assets.manifest import Manifest, Partition
from recsys_assets.resources import Dataset, LakeStore


@lake_asset(
    backfill_policy=BY_MONTH,
    kinds={"duckdb", "parquet"},
    checks=[
        Check("no_nulls", "no key or label is null"),
        Check("rows_match_splits", "the rows of the partition and of those that it extends are the offline rows"),
        Check("sums_are_of_all_rows", "counted again, the sums of some users and items are those of all their rows"),
    ],
    code_version=FEATURES_VERSION,
)
def event_features(
    output: Output, lake: LakeStore, dataset: Dataset, splits: Partition, users: Partition, items: Partition
) -> None:
    """Offline events with the statistics of user and item just before each, and the snapshots after the newest.

    A partition has the rows that are not in the newest earlier partition whose rows are
    still the oldest offline ones, as they are where parts go by time; it has all rows if there is no such partition.
    """
    profile = dataset.load()
    with open_engine() as connection:
        rule = read_rule(connection, profile, splits.path(ROWS), items.path(ROWS))
        config = {"features": profile.features.model_dump(mode="json"), **asdict(rule)}
        rows = known_rows(splits.path(ROWS))
        offer_rows(connection, profile, rule, items.path(ROWS), rows)
        known, base = _known_and_base(connection, lake.lake, output.manifest, config)
        output.manifest.config = {**config, "known": asdict(known)}
        earlier = [*_extended(lake.lake, base), lake.lake.read(base.asset, base.bizdate)] if base else []
        output.add_inputs(earlier)
        new = f"{rows} AND {only_after(base.config['known']['until'])}" if base else rows
        state = earlier[-1].folder if earlier else None
        tables = users.path(ROWS), items.path(ROWS)
        output.manifest.rows = describe_blocks(connection, profile, rule, *tables, new, state, output.draft.folder)
        output.metadata["extends"] = base.name if base else "nothing: all rows were described"
        _check_rows(output, connection, earlier, known)


def rows_of_all_days(output: Output, lake: LakeStore, newest: Partition) -> list[Partition]:
    """A partition of event features and those that it extends, the oldest first, as inputs of the output."""
    earlier = _extended(lake.lake, newest.manifest)
    output.add_inputs(earlier)
    return [*earlier, newest]


def _extended(lake: Lake, made: Manifest) -> list[Partition]:
    """The partitions that one extends, the oldest first."""
    return [lake.read(made.asset, name.partition("/")[2]) for name in sorted(made.extended)]


def _known_and_base(
    connection: Engine, lake: Lake, made: Manifest, config: dict[str, object]
) -> tuple[Known, Manifest | None]:
    """The offline rows of a partition that is being made, and the newest earlier partition that it can extend."""
    days = [day for day in lake.bizdates(made.asset) if day < made.bizdate]
    found = lake.manifests(f"{made.asset}/{day}" for day in days).values()
    alike = [
        each
        for each in found
        if each.is_usable
        and each.code_version == made.code_version
        and all(each.config.get(name) == value for name, value in config.items())
    ]
    newest = newest_moment(connection)
    moments = sorted({newest, *(each.config["known"]["until"] for each in alike)})
    counted = {known.until: known for known in count_known(connection, moments)}
    same = [each for each in alike if counted[each.config["known"]["until"]] == Known(**each.config["known"])]
    there = (each for each in reversed(same) if not lake.changed_partitions(each.extended))
    return counted[newest], next(there, None)


def _check_rows(output: Output, connection: Engine, earlier: list[Partition], known: Known) -> None:
    """Check the new rows, and the state against the rows of all days."""
    check_no_nulls(output, connection, scan([output.path(ROWS)]), ["user_id", "item_id", "timestamp", "seq", "label"])
    everything = scan([*(each.path(ROWS) for each in earlier), output.path(ROWS)])
    (rows,) = only_row(connection, f"SELECT count(*) FROM {everything}")
    output.check("rows_match_splits", rows == known.rows, expected=known.rows, found=int(rows))
    wrong = count_wrong_sums(connection, everything, output.draft.folder)
    output.check("sums_are_of_all_rows", wrong == 0, wrong=wrong)
