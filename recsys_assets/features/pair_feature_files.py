"""Files of the user-item features: a row for each offline event, and the columns of users and items for serving."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_assets.arrays import Bools, Floats, Ints, blocks
from recsys_assets.datasets.duck import quote_name, scan
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.names import ITEM_FACTORS, WEIGHT
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import Affinity
from recsys_assets.datasets.splits import ONLINE, before
from recsys_assets.features.draw_rows import DrawRows, draw_columns, draw_rows
from recsys_assets.features.draws import Drawn
from recsys_assets.features.factor_model import Events
from recsys_assets.features.pair_data import Fitted, Log, read_factors
from recsys_assets.features.pair_features import ITEM_COLUMNS, MODEL_INPUTS, USER_COLUMNS
from recsys_assets.features.shown_rows import place_impressions

VALUE = "value_"  # begins the names of columns of values
USER_FILE, ITEM_FILE = "users.parquet", "items.parquet"
EVENT_BLOCK = 2**17  # rows: 100 MB of recent items at a length of 50


@dataclass(frozen=True)
class Sources:
    """The files that user-item features are made from.

    Attributes:
        splits, users, items: the tables.
        arrivals: has the days of dated items, if there are any.
        impressions: labelled, if the profile has any: they are the rows, and events are history alone.
        fitted: items that were written before, whose factors are taken; None: items are fitted on train rows.
    """

    splits: Path
    users: Path
    items: Path
    arrivals: Path | None = None
    impressions: Path | None = None
    fitted: Path | None = None

    def ids(self, connection: duckdb.DuckDBPyConnection) -> dict[str, pa.Array]:
        """The ids of users and items in ascending order; the model's numbers are positions in it."""
        return {
            side: connection.sql(f"SELECT {side}_id FROM {scan([path])} ORDER BY {side}_id")
            .to_arrow_table()[f"{side}_id"]
            .combine_chunks()
            for side, path in {"user": self.users, "item": self.items}.items()
        }


def write_pair_features(
    connection: duckdb.DuckDBPyConnection, profile: Profile, files: Sources, folder: Path
) -> dict[str, int]:
    """Write the features of the rows, and the columns of users and of items; returns the rows of each file.

    Rows are the offline events and, if the profile draws negatives, the drawn ones. Nothing is fitted on rows that were
    drawn for the touch model. Values are the profile's rating, if it has one, the weight of the event's kind, if it has
    kinds, and the label. A row without a rating has no value of that kind; it is NaN among the recent values.
    """
    ids, rows = files.ids(connection), _events(connection, profile, files.splits, ONLINE)
    shown = place_impressions(files.impressions, rows, ids) if files.impressions else None
    draws = DrawRows(shown.drawn) if shown else draw_rows(profile, rows, ids, files.arrivals)
    rows, learned = (shown.events, shown.negative) if shown else (rows, None)
    if profile.touch:
        learned = np.zeros(len(draws.drawn.events), bool)
    kinds, drawn_values = _kinds(rows, ids, draws.drawn, learned)
    rule, labels = profile.features.affinity, rows["label"].to_numpy()
    known = fitted_factors(files.fitted, ids["item"], rule) if files.fitted else None
    log = Log(kinds, labels, ids["user"], ids["item"], rule, draws.drawn, drawn_values, learned, known)
    features = {feature.name: feature.fit(log) for feature in MODEL_INPUTS}
    of_item = {column: values for each in features.values() for column, values in each.of_item.items()}
    if shown:
        _write_shown(folder / ROWS, shown.table, rows.num_rows, features)
    else:
        _write_rows(folder / ROWS, log, rows.select([*profile.pair_keys, "part"]), draws.columns, features)
    tables = {
        USER_FILE: _user_table(log, features, draws),
        ITEM_FILE: pa.table(
            {"item_id": log.item_ids, **{column: of_item[column] for column in ITEM_COLUMNS}, **draws.of_item}
        ),
    }
    for file_name, table in tables.items():
        pq.write_table(table, folder / file_name, compression="zstd")
    counts = {ROWS: shown.table.num_rows if shown else len(log.row_events)}
    return counts | {file_name: table.num_rows for file_name, table in tables.items()}


def users_before_test(
    connection: duckdb.DuckDBPyConnection, profile: Profile, files: Sources, written: Path
) -> pa.Table:
    """The columns of users as they were before the test rows.

    Items were fitted on train rows alone, so theirs are those of the file `written` by `write_pair_features`.
    """
    ids, rule = files.ids(connection), profile.features.affinity
    rows = _events(connection, profile, files.splits, "test")
    draws = draw_rows(profile, rows, ids, files.arrivals) if profile.draws else DrawRows()
    kinds, _ = _kinds(rows, ids, draws.drawn)
    fitted = fitted_factors(written, ids["item"], rule)
    log = Log(kinds, rows["label"].to_numpy(), ids["user"], ids["item"], rule, fitted=fitted)
    return _user_table(log, {feature.name: feature.fit(log) for feature in MODEL_INPUTS}, draws)


def fitted_factors(written: Path, item_ids: pa.Array, rule: Affinity) -> Floats:
    """(I, V, folds, D) the factors of I items in a file of items; one that it does not have is at the prior's mean."""
    table = pq.read_table(written, columns=["item_id", ITEM_FACTORS])
    factors, place = read_factors(table[ITEM_FACTORS], rule), pc.index_in(item_ids, table["item_id"].combine_chunks())
    prior = np.zeros_like(factors[:1])
    prior[..., 1] = factors[..., 1].mean(axis=0)  # how strongly a user's own level affects an item's values
    # -1, of an unknown item, is the last row
    everything: Floats = np.concatenate([factors, prior])[place.fill_null(-1).to_numpy()]
    return everything


def _user_table(log: Log, fitted: Mapping[str, Fitted], draws: DrawRows) -> pa.Table:
    of_user = {column: values for each in fitted.values() for column, values in each.of_user.items()}
    return pa.table({"user_id": log.user_ids, **{column: of_user[column] for column in USER_COLUMNS}, **draws.of_user})


def _write_rows(
    path: Path, log: Log, keys: pa.Table, marks: Mapping[str, pa.Array], fitted: Mapping[str, Fitted]
) -> None:
    """Write the keys, marks and features of the rows, block by block."""

    def table(block: Ints) -> pa.Table:
        columns = {key: keys[key].take(pa.array(log.row_events[block])) for key in keys.column_names}
        if marks:
            columns["item_id"] = log.item_ids.take(pa.array(log.row_items[block]))
        columns |= {name: column.take(pa.array(block)) for name, column in marks.items()}
        return pa.table({**columns, **{feature: each.column(block) for feature, each in fitted.items()}})

    # In the order of time, so that a reader of the newest days skips the groups of earlier rows.
    everything = np.argsort(keys["timestamp"].to_numpy()[log.row_events], kind="stable")
    with pq.ParquetWriter(path, table(everything[:0]).schema, compression="zstd") as file:
        for block in blocks(everything, EVENT_BLOCK):
            file.write_table(table(block))


def _write_shown(path: Path, shown: pa.Table, first: int, fitted: Mapping[str, Fitted]) -> None:
    """Write impressions with their features, block by block; `first` is the row of the first one."""

    def table(block: Ints) -> pa.Table:
        return pa.table(
            {name: shown[name].take(pa.array(block)) for name in shown.column_names}
            | {feature: each.column(first + block) for feature, each in fitted.items()}
        )

    everything = np.arange(shown.num_rows)
    with pq.ParquetWriter(path, table(everything[:0]).schema, compression="zstd") as file:
        for block in blocks(everything, EVENT_BLOCK):
            file.write_table(table(block))


def _events(connection: duckdb.DuckDBPyConnection, profile: Profile, splits: Path, until: str) -> pa.Table:
    """The events of the parts before `until` in order, each kind of values, and what draws of negatives need."""
    columns = ", ".join(f"{value}::DOUBLE AS {VALUE}{kind}" for kind, value in value_columns(profile).items())
    return connection.sql(
        f"SELECT user_id, item_id, timestamp, seq, label, part, {columns}{draw_columns(profile)} "
        f"FROM {scan([splits])} WHERE {before(until)} ORDER BY user_id, timestamp, seq"
    ).to_arrow_table()


def value_columns(profile: Profile) -> dict[str, str]:
    """The kinds of values that an event has, each with the name of its column as SQL."""
    rating = {"rating": quote_name(profile.rating)} if profile.rating else {}
    return {**rating, **({"weight": WEIGHT} if profile.events else {}), "label": "label"}


def _kinds(
    rows: pa.Table, ids: Mapping[str, pa.Array], drawn: Drawn, learned: Bools | None = None
) -> tuple[list[Events], list[float]]:
    """The events, once for each kind of values, and for each kind the value of a drawn row.

    Values are centred and scaled by the mean and deviation of the train rows, drawn ones included: those that are
    `learned` from, by default the ones at the moments of train rows. A drawn row has weight and label 0, and no rating.
    """
    user, item = (pc.index_in(rows[f"{side}_id"], value_set=known).to_numpy() for side, known in ids.items())
    train, kinds, blanks = pc.equal(rows["part"], "train").to_numpy(), [], []
    for column in [column for column in rows.column_names if column.startswith(VALUE)]:
        values, blank = rows[column].to_numpy(), np.nan if column == f"{VALUE}rating" else 0.0
        fitted = np.concatenate(
            [values[train], np.full((train[drawn.events] if learned is None else learned).sum(), blank)]
        )
        known = fitted[~np.isnan(fitted)]
        mean, deviation = (known.mean(), known.std() or 1.0) if len(known) else (0.0, 1.0)
        centred = ((values - mean) / deviation).astype(np.float32)
        kinds.append(Events(user.astype(np.int64), item.astype(np.int64), centred, train))
        blanks.append((blank - mean) / deviation)
    return kinds, blanks
