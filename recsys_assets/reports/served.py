"""The releases of a day, and the answers on it: exposure and degraded answers from the service's log of requests."""

import json

import duckdb
import numpy as np
import pyarrow.parquet as pq

from recsys_assets.datasets.duck import connect, scan
from recsys_assets.reports.day import Absent, Day
from recsys_assets.reports.exposure import gini
from recsys_assets.reports.figures import Section
from recsys_assets.reports.page import charts, table
from recsys_assets.reports.svg import bars

RELEASE = "release.json"
LATENCY = "milliseconds"  # the column of the log


def published(day: Day) -> Section:
    """The collections of the day's releases, and the newest day that was released."""
    section = Section("Published")
    releases = sorted(name for name in day.wanted if name.endswith("_release"))
    if not releases:
        raise Absent("no store with releases is in use.")
    rows = []
    for asset in releases:
        if (made := day.of_day.get(asset)) is None or not made.is_usable:
            section.attention.append(f"{asset} of {day.bizdate} was not made: services see an earlier day.")
            section.notes.append(f"{asset} was not made.")
            continue
        content = json.loads(day.open(asset).path(RELEASE).read_text(encoding="utf-8"))
        for name, each in content["collections"].items():
            rows.append((f"{asset.removesuffix('_release')}_{name}", each["version"], each["rows"]))
            section.add(rows[-1][0], "rows", each["rows"])
        chosen = content["champion"]
        with_champion = f"the champion {chosen['model']} of {chosen['bizdate']}" if chosen else "no champion"
        section.notes.append(f"{asset} of {day.bizdate} has {with_champion}.")
        if later := [each for each in day.lake.bizdates(asset) if each > day.bizdate]:
            section.notes.append(f"{later[-1]} was released since.")
    section.html.append(table("Collections", ["", "version", "rows"], rows))
    return section


def requests(day: Day) -> Section:
    """The answers that the service logged on the bizdate."""
    section = Section("Requests")
    files = sorted(day.requests.glob(f"date={day.bizdate}/hour=*/[!.]*.parquet"))
    if not files:
        raise Absent(f"the service logged no request on {day.bizdate} (UTC).")
    with connect(day.requests) as connection:
        rows = scan(files)
        _answers(section, connection, rows)
        _shown(section, connection, rows)
        # Rows that a service of an earlier version logged have no time.
        if timed := [file for file in files if LATENCY in pq.read_schema(file).names]:
            _latency(section, connection, scan(timed))
    return section


def _answers(section: Section, connection: duckdb.DuckDBPyConnection, rows: str) -> None:
    """How many answers there were, by release and way, and which steps were left out."""
    found = connection.execute(
        f"SELECT release, bizdate, served_by, count(*), count(*) FILTER (len(left_out) > 0) FROM {rows} "
        "GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    total, degraded = sum(each[3] for each in found), sum(each[4] for each in found)
    section.add("answers", "all", total)
    section.add("answers", "degraded", degraded / total)
    columns = ["release", "of", "served by", "answers", "with steps left out"]
    section.html.append(table("Answers", columns, [(str(each[0]), *each[1:]) for each in found]))
    steps = connection.execute(
        f"SELECT step, count(*) FROM (SELECT unnest(left_out) AS step FROM {rows}) GROUP BY ALL ORDER BY 2 DESC, 1"
    ).fetchall()
    section.html.append(table("Steps left out", ["step", "answers"], steps))


def _latency(section: Section, connection: duckdb.DuckDBPyConnection, rows: str) -> None:
    """Add how long answers took, over the day and by hour (UTC)."""
    quantiles = f"quantile_cont({LATENCY}, 0.5), quantile_cont({LATENCY}, 0.99), max({LATENCY})"
    hours = connection.execute(
        f"SELECT hour(time), count(*), {quantiles} FROM {rows} GROUP BY ALL ORDER BY 1"
    ).fetchall()
    day = connection.execute(f"SELECT count(*), {quantiles} FROM {rows}").fetchall()
    for metric, value in zip(("p50", "p99", "max"), day[0][1:], strict=True):
        section.add("latency in ms", metric, value)
    table_rows = [*((f"{hour:02}:00", *rest) for hour, *rest in hours), ("all day", *day[0])]
    section.html.append(table("Milliseconds of an answer", ["UTC", "answers", "p50", "p99", "longest"], table_rows))


def _shown(section: Section, connection: duckdb.DuckDBPyConnection, rows: str) -> None:
    """Add what was shown: how many items, how unequally, and the probability that the ranker gave them."""
    shown = connection.execute(
        f"SELECT item.item_id::VARCHAR, count(*) AS times, avg(item.probability) FROM "
        f"(SELECT unnest(items) AS item FROM {rows}) GROUP BY ALL ORDER BY times DESC, 1"
    ).fetchall()
    if not shown:
        return
    times = np.array([each[1] for each in shown], np.float64)
    section.add("shown items", "all", len(shown))
    section.add("shown items", "gini", gini(times))
    section.add("shown items", "share of the first 10", float(times[:10].sum() / times.sum()))
    section.html.append(charts([bars("Items shown most often", {each[0]: float(each[1]) for each in shown[:10]})]))
