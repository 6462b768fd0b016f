"""Builds MovieLens 1M rows for rankers under three protocols, with the functions behind the platform's assets.

As in the platform, a row's features use only earlier events, of any part. These include ratings of 3 even if a protocol
drops them as rows, because they are known when the row is served. A random split has no order in time, so there
held-out rows get the features that serving would use: the snapshots of their user and item after all train rows and
ratings of 3. No feature of any row uses the label of a held-out row.
"""

from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from ml1m import Ratings

from recsys_assets.arrays import Ints
from recsys_assets.datasets.duck import connect, scan, write_parquet
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.datasets.profile_parts import Split
from recsys_assets.datasets.splits import split
from recsys_assets.features.fit import fit_schema
from recsys_assets.features.history import item_query, sample_query, user_query
from recsys_assets.features.history_table import build_history
from recsys_assets.features.pair_data import ItemSnapshot
from recsys_assets.features.pair_feature_files import ITEM_FILE, USER_FILE, Sources, write_pair_features
from recsys_assets.features.pair_features import candidate_rows
from recsys_assets.features.schema import FeatureSchema

LAST_DAY = "2003-02-28"
HELD_OUT = ("validation", "test")
LEAVE_ONE_OUT = Split(strategy="leave_last_n", test_last_n=1, validation_ratio=0.1)
EASYREC_TRAIN = 0.9  # share of train rows: 665,110, as EasyRec's script cuts them; the other 73,902 test
VALIDATION = 0.1  # share of the random split's train rows


@dataclass(frozen=True)
class Protocol:
    """How ratings become rows.

    Attributes:
        rule: the rule of the split; None means the profile's.
        neutral: whether ratings of 3 are rows.
        shuffled: whether rows are then assigned to parts at random.
    """

    rule: Split | None = None
    neutral: bool = False
    shuffled: bool = False


PROTOCOLS = {
    "recsys_pipeline": Protocol(neutral=True),
    "metaspore_ctr": Protocol(LEAVE_ONE_OUT),
    "easyrec_random": Protocol(LEAVE_ONE_OUT, shuffled=True),
}


def prepared(name: str, ratings: Ratings, work: Path) -> Path:
    """The folder of a protocol's rows, one Parquet file per part, and their `schema.json`; created only once."""
    folder = work / name
    if not (folder / "schema.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        protocol, profile = PROTOCOLS[name], load_profile("movielens-1m")
        profile = profile.model_copy(update={"split": protocol.rule or profile.split})
        write_tables(ratings, folder)
        with connect(folder) as connection:
            _write_splits(connection, profile, protocol, folder)
            schema = _write_rows(connection, profile, protocol, folder)
        (folder / "schema.json").write_text(
            schema.to_json(), encoding="utf-8"
        )  # written last: it marks the folder as complete
    return folder


def write_tables(ratings: Ratings, folder: Path) -> None:
    """Write events in their order, users and items, as ingest would write them."""
    events = ratings.table.append_column("seq", pa.array(np.arange(ratings.table.num_rows)))
    times = events["timestamp"].cast(pa.timestamp("s")).cast(pa.timestamp("us"))
    events = events.set_column(events.schema.get_field_index("timestamp"), "timestamp", times)
    for file, table in {"events": events, "users": ratings.users, "items": ratings.items}.items():
        pq.write_table(table, folder / f"{file}.parquet")


def _write_splits(connection: duckdb.DuckDBPyConnection, profile: Profile, protocol: Protocol, folder: Path) -> None:
    """Write `splits.parquet`, and `known.parquet`: the same rows with the parts that histories may use.

    Under a random split held-out rows become online rows there, which no history uses.
    """
    split(connection, profile, [folder / "events.parquet"], LAST_DAY)
    rows = connection.sql("SELECT * FROM splits ORDER BY user_id, position").to_arrow_table()
    known = rows
    if protocol.shuffled:
        place = rows.schema.get_field_index("part")
        parts = _random_parts(pc.not_equal(rows["rating"], 3).to_numpy())
        rows = rows.set_column(place, "part", pa.array(parts))
        known = rows.set_column(place, "part", pa.array(np.where(np.isin(parts, HELD_OUT), "online", parts)))
    pq.write_table(rows, folder / "splits.parquet")
    pq.write_table(known, folder / "known.parquet")


def _random_parts(drawn: np.ndarray) -> np.ndarray:
    """The part of each row; rows that are not drawn count as train rows in histories."""
    parts, places = np.full(len(drawn), "train", object), np.flatnonzero(drawn)
    places = np.random.default_rng(1).permutation(places)
    train = int(EASYREC_TRAIN * len(places))
    parts[places[train:]] = "test"
    parts[places[: int(VALIDATION * train)]] = "validation"
    return parts


def _write_rows(
    connection: duckdb.DuckDBPyConnection, profile: Profile, protocol: Protocol, folder: Path
) -> FeatureSchema:
    """Write the rows of each part with their features; returns their schema."""
    known, users, items = (folder / f"{file}.parquet" for file in ("known", "users", "items"))
    factors = folder / "factors"
    factors.mkdir(exist_ok=True)
    write_pair_features(connection, profile, Sources(known, users, items), factors)
    terms = build_history(connection, profile, known, users, items)
    if not protocol.neutral:  # ratings of 3 stay in histories but are not rows
        dropped = f"SELECT user_id, item_id, timestamp FROM {scan([known])} WHERE rating = 3"
        connection.execute(f"DELETE FROM history WHERE (user_id, item_id, timestamp) IN ({dropped})")
    for part in ("train", *HELD_OUT):
        path = folder / f"{part}.parquet"
        if protocol.shuffled and part in HELD_OUT:
            pq.write_table(_as_served(connection, profile, folder, part), path)
        else:
            write_parquet(connection, sample_query(profile, users, items, factors / ROWS, part), path)
    return fit_schema(connection, profile, folder / "train.parquet", terms)


def _as_served(connection: duckdb.DuckDBPyConnection, profile: Profile, folder: Path, part: str) -> pa.Table:
    """Rows of a part with the features that serving would use for their users and items, as of all known rows."""
    rows = connection.sql(
        f"SELECT user_id, item_id, timestamp, label FROM {scan([folder / 'splits.parquet'])} "
        f"WHERE part = '{part}' ORDER BY user_id, timestamp, seq"
    ).to_arrow_table()
    user_rows = user_query(profile, folder / "users.parquet", folder / "factors" / USER_FILE)
    item_rows = item_query(profile, folder / "items.parquet", folder / "factors" / ITEM_FILE)
    users, items = (connection.sql(query).to_arrow_table() for query in (user_rows, item_rows))
    user, item = _places(rows["user_id"], users["user_id"]), _places(rows["item_id"], items["item_id"])
    features = candidate_rows(users, ItemSnapshot(items, profile.features.affinity), user, item)
    return features.append_column("timestamp", rows["timestamp"]).append_column("label", rows["label"])


def _places(ids: pa.ChunkedArray, known: pa.ChunkedArray) -> Ints:
    places: Ints = pc.index_in(ids, value_set=known.combine_chunks()).to_numpy().astype(np.int64)
    return places
