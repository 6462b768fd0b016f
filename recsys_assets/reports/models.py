"""The models of a day: figures over the last days with intervals, calibration, and recall curves."""

import datetime as dt
from collections.abc import Iterable, Mapping

import pyarrow.parquet as pq

from recsys_assets.metrics import calibration
from recsys_assets.ranking.champion import Champion, read_champion
from recsys_assets.reports.day import Day
from recsys_assets.reports.expected import expected_auc
from recsys_assets.reports.figures import Section
from recsys_assets.reports.page import charts, table
from recsys_assets.reports.svg import Points, lines

PREDICTIONS = "test_predictions.parquet"
RANK, RECALL = "rank_report", "recall_report"
RANK_METRICS = ("test_auc", "test_gauc", "test_logloss", "test_calibration_error")
RECALL_METRICS = ("recall@20", "recall@50", "ndcg@20", "coverage@20", "diversity@20", "novelty@20")
CUTOFFS = (20, 50, 200)
Metrics = Mapping[str, float]


def champion_of(day: Day) -> Champion:
    """The day's champion.

    Raises:
        Absent: there is none.
    """
    return read_champion(day.open("rank_champion"))


def ranking(day: Day) -> Section:
    """Every ranking model, and the champion's expected AUC."""
    section = Section("Ranking models")
    now, names = day.metrics(RANK), names_of(day.metrics(RANK), "test_auc")
    _add(section, now, names, RANK_METRICS)
    before = day.history(RANK).get(day.yesterday, {})
    rows = [
        (
            name,
            *(now.get(f"{name}.{metric}") for metric in RANK_METRICS),
            _interval(now, f"{name}.test_auc"),
            before.get(f"{name}.test_auc"),
        )
        for name in sorted(names, key=lambda name: -now[f"{name}.test_auc"])
    ]
    columns = ["", "AUC", "GAUC", "log loss", "calibration error", "AUC, 95 % interval", "AUC of the day before"]
    section.html.append(table("On test rows", columns, rows))
    section.attention += list(_falls(now, before, names))
    models = [name for name in names if f"rank_{name}" in day.wanted]
    drawn = [
        lines("Test AUC by day", *courses(day.history(RANK), models, "test_auc"), ends(day, RANK)),
        lines("Test log loss by day", *courses(day.history(RANK), models, "test_logloss"), ends(day, RANK)),
        _calibrations(day, models),
    ]
    section.html.append(charts(drawn))
    _expect(section, day)
    return section


def recall(day: Day) -> Section:
    """Every recall method."""
    section = Section("Recall methods")
    now, names = day.metrics(RECALL), names_of(day.metrics(RECALL), "recall@20")
    _add(section, now, names, (*RECALL_METRICS, "recall@200"))
    before = day.history(RECALL).get(day.yesterday, {})
    rows = [
        (name, *(now.get(f"{name}.{metric}") for metric in RECALL_METRICS), before.get(f"{name}.recall@50"))
        for name in sorted(names, key=lambda name: -now[f"{name}.recall@20"])
    ]
    section.html.append(table("On test rows", ["", *RECALL_METRICS, "recall@50 of the day before"], rows))
    curves = {name: [(k, now[f"{name}.recall@{k}"]) for k in CUTOFFS if f"{name}.recall@{k}" in now] for name in names}
    drawn = [
        lines("Recall by the length of the list", curves, None, ("20 items", "200")),
        lines("Recall@50 by day", *courses(day.history(RECALL), names, "recall@50"), ends(day, RECALL)),
    ]
    section.html.append(charts(drawn))
    return section


def names_of(metrics: Metrics, metric: str) -> list[str]:
    """The models that have a metric in a report, in its order."""
    return [name.removesuffix(f".{metric}") for name in metrics if name.endswith(f".{metric}")]


def courses(
    history: Mapping[str, Metrics], names: Iterable[str], metric: str
) -> tuple[dict[str, Points], dict[str, list[tuple[float, float, float]]]]:
    """The lines of a metric over the days, by name, and the bands of its intervals; of one day there is no line."""
    series, bands = dict[str, Points](), dict[str, list[tuple[float, float, float]]]()
    for name in names:
        key = f"{name}.{metric}"
        there = {_place(when): each for when, each in history.items() if key in each}
        series[name] = [(place, each[key]) for place, each in there.items()] if len(there) > 1 else []
        bands[name] = [
            (place, each[f"{key}_low"], each[f"{key}_high"]) for place, each in there.items() if f"{key}_low" in each
        ]
    return series, {name: band for name, band in bands.items() if len(band) > 1}


def ends(day: Day, asset: str) -> tuple[str, str]:
    """The labels of an axis over the days of an asset's history."""
    found = list(day.history(asset))
    return (found[0], found[-1] if len(found) > 1 else "") if found else ("", "")


def _place(bizdate: str) -> float:
    return float(dt.date.fromisoformat(bizdate).toordinal())


def _add(section: Section, now: Metrics, names: Iterable[str], metrics: Iterable[str]) -> None:
    for name in names:
        for metric in metrics:
            if (key := f"{name}.{metric}") in now:
                section.add(name, metric, now[key], now.get(f"{key}_low"), now.get(f"{key}_high"))


def _falls(now: Metrics, before: Metrics, names: Iterable[str]) -> Iterable[str]:
    """A sentence for each model whose interval is wholly below that of the day before."""
    for name in names:
        high, low = now.get(f"{name}.test_auc_high"), before.get(f"{name}.test_auc_low")
        if high is not None and low is not None and high < low:
            yield (
                f"rank_{name}: the test AUC fell from {before[f'{name}.test_auc']:.4f} to "
                f"{now[f'{name}.test_auc']:.4f}, and the intervals do not meet."
            )


def _calibrations(day: Day, names: Iterable[str]) -> str:
    """The calibration curves of the models whose predictions are there."""
    curves = dict[str, Points]()
    for name in names:
        curves[name] = []
        if f"rank_{name}" in day.of_day:
            rows = pq.read_table(day.open(f"rank_{name}").path(PREDICTIONS), columns=["label", "score"])
            bins = calibration(rows["label"].to_numpy(), rows["score"].to_numpy())
            curves[name] = list(zip(bins["predicted"].tolist(), bins["observed"].tolist(), strict=True))
    return lines("Observed over predicted rate, test rows", curves, None, ("predicted 0", "highest"), diagonal=True)


def _expect(section: Section, day: Day) -> None:
    """The champion's expected AUC on its test rows, without their labels, next to the measured one."""
    champion = champion_of(day)
    rows = pq.read_table(day.open(f"rank_{champion.model}", champion.bizdate).path(PREDICTIONS), columns=["score"])
    expected = expected_auc(rows["score"].to_numpy())
    measured = day.open(f"rank_{champion.model}", champion.bizdate).manifest.metrics.get("test_auc")
    section.add(champion.model, "expected AUC without labels", expected)
    said = "" if measured is None else f"; with them it is {measured:.4f}"
    section.notes.append(
        f"The champion is {champion.model} of {champion.bizdate}. If its probabilities were right, its AUC on the test "
        f"rows would be {expected:.4f}, without a look at their labels{said}."
    )


def _interval(metrics: Metrics, name: str) -> str:
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    return "" if low is None or high is None else f"{low:.4f} to {high:.4f}"
