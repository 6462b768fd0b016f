"""Features: the schema that training, ONNX and serving share, and the snapshots that serving reads."""

import math

from recsys_assets.assets.data.samples import IMPRESSIONS, draws_config, ranked_impressions
from recsys_assets.assets.lake_asset import Check, lake_asset
from recsys_assets.assets.refit import find_kept
from recsys_assets.assets.reports import show
from recsys_assets.checks import check_no_nulls, check_unique
from recsys_assets.datasets.duck import connect, only_row, scan, write_parquet
from recsys_assets.datasets.ingest import ARRIVALS, ROWS
from recsys_assets.datasets.names import AFFINITY, DRAWN, FEATURES_VERSION
from recsys_assets.datasets.profile import Profile
from recsys_assets.engines.chosen import open_engine
from recsys_assets.features.fit import fit_schema
from recsys_assets.features.history import item_query, user_query
from recsys_assets.features.history_table import SNAPSHOTS, open_history
from recsys_assets.features.pair_feature_files import ITEM_FILE, USER_FILE, Sources, value_columns, write_pair_features
from recsys_assets.io_managers import Output
from recsys_assets.manifest import Partition
from recsys_assets.ranking.sample_parts import part_files
from recsys_assets.resources import Dataset, LakeStore

SCHEMA = "schema.json"


@lake_asset(
    kinds={"json"},
    checks=[Check("statistics_are_finite", "every mean is finite, every deviation positive")],
)
def feature_schema(output: Output, dataset: Dataset, rank_samples: Partition) -> None:
    """The features of ranking models: names, types, vocabularies, means and deviations, fitted on train rows."""
    profile = dataset.load()
    output.manifest.config = {"features": profile.features.model_dump()}
    with connect() as connection:
        train = part_files(rank_samples, "train")
        schema = fit_schema(connection, profile, train, rank_samples.manifest.config["terms"])
    output.path(SCHEMA).write_text(schema.to_json(), encoding="utf-8")
    output.manifest.metrics = {"features": float(len(schema.features))}
    statistics = [pair for f in schema.features for pair in zip(f.mean, f.std, strict=True)]
    sound = all(math.isfinite(mean) and 0 < std < math.inf for mean, std in statistics)
    output.check("statistics_are_finite", sound, statistics=len(statistics))
    rows = [(f.name, f.kind, f.side, f.type, len(f.vocabulary) or "", f.length) for f in schema.features]
    output.metadata["features"] = show.table(["name", "kind", "side", "type", "vocabulary", "length"], rows)


@lake_asset(
    kinds={"numpy", "parquet"},
    checks=[
        Check("rows_match_splits", "every offline event has an affinity, every user and item its factors"),
        Check("numbers_are_finite", "no affinity is missing or infinite"),
    ],
    code_version=f"{FEATURES_VERSION}.2",  # there are rows of drawn items for the touch model; folds are by hash
)
def factors(
    output: Output, lake: LakeStore, dataset: Dataset, splits: Partition, users: Partition, items: Partition
) -> None:
    """User-item features: for each event as they were before it, and for any pair at serving time.

    They are the preference that a factor model predicts, with items fitted on other users' train rows (`user_factors`
    times `item_factors`); the user's opinion of the nearest items; and the items that the user liked and did not like.
    Negatives are drawn here, those of ranking models or those of the touch model, and their rows follow those of the
    events. In a profile with impressions, these are the rows, and the events are history. With `refit`, items may be
    those of an earlier day's fit.
    """
    profile = dataset.load()
    affinity, drawn = profile.features.affinity.model_dump(), draws_config(profile, profile.draws_any)
    output.manifest.config = {"affinity": affinity, "values": list(value_columns(profile)), **drawn}
    kept = find_kept(output, lake.lake, profile, output.manifest.config)
    events, user_rows, item_rows = (partition.path(ROWS) for partition in (splits, users, items))
    arrivals = items.path(ARRIVALS) if ARRIVALS in items.manifest.files else None
    shown = splits.path(IMPRESSIONS) if profile.impressions else None
    with connect() as connection:
        files = Sources(events, user_rows, item_rows, arrivals, shown, kept.path(ITEM_FILE) if kept else None)
        rows = write_pair_features(connection, profile, files, output.draft.folder)
        output.manifest.rows = rows[ROWS]
        rankable = (
            ranked_impressions(shown, user_rows, item_rows) if shown else f"{scan([events])} WHERE part <> 'online'"
        )
        (offline,) = only_row(connection, f"SELECT count(*) FROM {rankable}")
        if profile.draws_any:
            (drawn,) = only_row(connection, f"SELECT count(*) FROM {scan([output.path(ROWS)])} WHERE {DRAWN}")
            output.manifest.metrics["drawn_rows"] = float(drawn)
            rows[ROWS] -= drawn
        expected = {ROWS: offline, USER_FILE: users.manifest.rows, ITEM_FILE: items.manifest.rows}
        output.check("rows_match_splits", rows == expected, expected=expected, found=rows)
        (odd,) = only_row(
            connection, f"SELECT count(*) FROM {scan([output.path(ROWS)])} WHERE NOT isfinite(list_sum({AFFINITY}))"
        )
        output.check("numbers_are_finite", odd == 0, rows=int(odd))


@lake_asset(
    kinds={"duckdb", "parquet"},
    checks=[
        Check("no_nulls", "no key is null"),
        Check("unique_keys", "one row per user"),
    ],
    code_version=FEATURES_VERSION,
)
def user_features(
    output: Output, dataset: Dataset, users: Partition, factors: Partition, event_features: Partition
) -> None:
    """The features of each user for serving: those that a row after their last offline event would have."""
    profile = dataset.load()
    rows = user_query(profile, users.path(ROWS), factors.path(USER_FILE))
    _write_snapshot(output, profile, event_features, rows, "user_id")


@lake_asset(
    kinds={"duckdb", "parquet"},
    checks=[
        Check("no_nulls", "no key is null"),
        Check("unique_keys", "one row per item"),
    ],
    code_version=FEATURES_VERSION,
)
def item_features(
    output: Output, dataset: Dataset, items: Partition, factors: Partition, event_features: Partition
) -> None:
    """The features of each item for serving: those that a row after its last offline event would have."""
    profile = dataset.load()
    rows = item_query(profile, items.path(ROWS), factors.path(ITEM_FILE))
    _write_snapshot(output, profile, event_features, rows, "item_id")


def _write_snapshot(output: Output, profile: Profile, event_features: Partition, rows: str, key: str) -> None:
    """Write the rows of a query over the next rows of users and items, with the checks that both snapshots share."""
    output.manifest.config = {"features": profile.features.model_dump()}
    with open_engine() as connection:
        open_history(connection, [], event_features.path(SNAPSHOTS))
        output.manifest.rows = write_parquet(connection, rows, output.path(ROWS))
        written = scan([output.path(ROWS)])
        check_no_nulls(output, connection, written, [key])
        check_unique(output, connection, written, [key])
    with connect() as connection:
        output.metadata["preview"] = show.preview(connection, f"FROM {written}", 5)
