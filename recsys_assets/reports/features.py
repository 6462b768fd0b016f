"""Drift of the features that ranking models read, on the newest day of their rows."""

import datetime as dt

import duckdb
import pyarrow as pa

from recsys_assets.datasets.duck import connect, only_row, quote, quote_name, scan
from recsys_assets.features.schema import Feature, FeatureSchema
from recsys_assets.ranking.sample_parts import RANKED_PARTS, part_files
from recsys_assets.reports.data import SCHEMA_FILE, feature_bins
from recsys_assets.reports.day import Day
from recsys_assets.reports.day_rows import MOST_ROWS
from recsys_assets.reports.drift import HISTORY, measure
from recsys_assets.reports.drift_section import show_drift
from recsys_assets.reports.figures import Section

IDS = ("user_id", "item_id")


def features(day: Day) -> Section:
    """The features of the newest rows of `rank_samples`, compared with those of the days before.

    Rows of the online part have no features, so the newest day may be earlier than the bizdate. What is unusual here is
    shown and is not an alarm: the columns that features are made from were judged on their own day.
    """
    section = Section("Features of models")
    schema = FeatureSchema.read(day.open("feature_schema").path(SCHEMA_FILE))
    samples = day.open("rank_samples")
    rows = scan([file for part in RANKED_PARTS for file in part_files(samples, part)])
    when = day.profile.files.day_sql()
    with connect() as connection:
        found = connection.execute(f"SELECT DISTINCT {when}::VARCHAR AS day FROM {rows} ORDER BY day").fetchall()
        days = [each for (each,) in found]
        chosen = [each for each in schema.features if each.kind != "sequence" and each.name not in IDS]
        read = {each: _read(connection, rows, when, each, chosen) for each in days[-HISTORY - 1 :]}
    drift = measure(read.__getitem__, days[-1], days[:-1], feature_bins(day))
    lag = (dt.date.fromisoformat(day.bizdate) - dt.date.fromisoformat(days[-1])).days
    ago = "1 day" if lag == 1 else f"{lag} days"
    section.notes.append(
        f"The newest rows with features are of {days[-1]}, {ago} before the bizdate. Of a feature of several numbers, "
        "their mean is counted. What is unusual is marked, and is not an alarm."
    )
    show_drift(section, drift)
    return section


def _read(connection: duckdb.DuckDBPyConnection, rows: str, when: str, day: str, chosen: list[Feature]) -> pa.Table:
    """The features of the rows of a day, or of each n-th pair of user and item if there are many."""
    of_day = f"FROM {rows} WHERE {when} = DATE {quote(day)}"
    (count,) = only_row(connection, f"SELECT count(*) {of_day}")
    step = max(-(-int(count) // MOST_ROWS), 1)
    columns = ", ".join(f"{_sql(each)} AS {quote_name(each.name)}" for each in chosen)
    return connection.sql(f"SELECT {columns} {of_day} AND hash(timestamp) % {step} = 0").to_arrow_table()


def _sql(feature: Feature) -> str:
    name = quote_name(feature.name)
    return f"list_avg({name}::FLOAT[])" if feature.kind == "numeric" and feature.length > 1 else name
