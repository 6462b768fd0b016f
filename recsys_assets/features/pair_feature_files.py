"""Files of the user-item features: a row for each offline event, and the columns of users and items for serving."""

from collections.abc import Mapping
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_assets.arrays import Bools, Ints, blocks
from recsys_assets.datasets.duck import quote_name, scan
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.names import ITEM_FACTORS, WEIGHT
from recsys_assets.datasets.profile import Profile
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


def write_pair_features(
    connection: duckdb.DuckDBPyConnection,
    profile: Profile,
    splits: Path,
    users: Path,
    items: Path,
    folder: Path,
    arrivals: Path | None = None,
    impressions: Path | None = None,
) -> dict[str, int]:
    """Write the features of the rows, and the columns of users and of items; returns the rows of each file.

    Rows are the offline events and, if the profile draws negatives, the drawn ones; `arrivals` has the days of dated
    items, if there are any. Nothing is fitted on rows that were drawn for the touch model. Values are the profile's
    rating, if it has one, the weight of the event's kind, if it has kinds, and the label. Items are fitted on train
    rows. A row without a rating has no value of that kind; it is NaN among the recent values. With a file of labelled
    `impressions`, these are the rows, and events are history alone.
    """
    ids = {side: _ids(connection, side, path) for side, path in {"user": users, "item": items}.items()}
    rows = _events(connection, profile, splits, ONLINE)
    shown = place_impressions(impressions, rows, ids) if impressions else None
    draws = DrawRows(shown.drawn) if shown else draw_rows(profile, rows, ids, arrivals)
    rows, learned = (shown.events, shown.negative) if shown else (rows, None)
    if profile.touch:
        learned = np.zeros(len(draws.drawn.events), bool)
    kinds, drawn_values = _kinds(rows, ids, draws.drawn, learned)
    rule, labels = profile.features.affinity, rows["label"].to_numpy()
    log = Log(kinds, labels, ids["user"], ids["item"], rule, draws.drawn, drawn_values, learned)
    fitted = {feature.name: feature.fit(log) for feature in MODEL_INPUTS}
    of_item = {column: values for each in fitted.values() for column, values in each.of_item.items()}
    if shown:
        _write_shown(folder / ROWS, shown.table, rows.num_rows, fitted)
    else:
        _write_rows(folder / ROWS, log, rows.select([*profile.pair_keys, "part"]), draws.columns, fitted)
    tables = {
        USER_FILE: _user_table(log, fitted, draws),
        ITEM_FILE: pa.table(
            {"item_id": log.item_ids, **{column: of_item[column] for column in ITEM_COLUMNS}, **draws.of_item}
        ),
    }
    for file_name, table in tables.items():
        pq.write_table(table, folder / file_name, compression="zstd")
    counts = {ROWS: shown.table.num_rows if shown else len(log.row_events)}
    return counts | {file_name: table.num_rows for file_name, table in tables.items()}


def users_before_test(
    connection: duckdb.DuckDBPyConnection,
    profile: Profile,
    splits: Path,
    users: Path,
    items: Path,
    written: Path,
    arrivals: Path | None = None,
) -> pa.Table:
    """The columns of users as they were before the test rows.

    Items were fitted on train rows alone, so theirs are those of the file `written` by `write_pair_features`.
    """
    ids = {side: _ids(connection, side, path) for side, path in {"user": users, "item": items}.items()}
    rows, rule = _events(connection, profile, splits, "test"), profile.features.affinity
    draws = draw_rows(profile, rows, ids, arrivals) if profile.draws else DrawRows()
    kinds, _ = _kinds(rows, ids, draws.drawn)
    fitted = read_factors(pq.read_table(written, columns=[ITEM_FACTORS])[ITEM_FACTORS], rule)
    log = Log(kinds, rows["label"].to_numpy(), ids["user"], ids["item"], rule, fitted=fitted)
    return _user_table(log, {feature.name: feature.fit(log) for feature in MODEL_INPUTS}, draws)


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


def _ids(connection: duckdb.DuckDBPyConnection, side: str, path: Path) -> pa.Array:
    """The ids of a table in ascending order; the model's numbers are positions in it."""
    query = f"SELECT {side}_id FROM {scan([path])} ORDER BY {side}_id"
    return connection.sql(query).to_arrow_table()[f"{side}_id"].combine_chunks()


def _events(connection: duckdb.DuckDBPyConnection, profile: Profile, splits: Path, until: str) -> pa.Table:
    """The events of the parts before `until` in order, each kind of values, and what draws of negatives need."""
    rating = {"rating": quote_name(profile.rating)} if profile.rating else {}
    values = {**rating, **({"weight": WEIGHT} if profile.events else {}), "label": "label"}
    columns = ", ".join(f"{value}::DOUBLE AS {VALUE}{kind}" for kind, value in values.items())
    return connection.sql(
        f"SELECT user_id, item_id, timestamp, seq, label, part, {columns}{draw_columns(profile)} "
        f"FROM {scan([splits])} WHERE {before(until)} ORDER BY user_id, timestamp, seq"
    ).to_arrow_table()


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
