"""Compares models that continue from the day before with models that are trained from nothing, on days of the sample.

    python benchmarks/warm_start.py [--days 14] [--seeds 5] [--models widedeep dssm sasrec] [--plot FILE] [--json]

The first day is trained from nothing; each of the next `--days` days continues from the day before it. On each of them
the same data also train one model from nothing per seed. The figures are the metric of the validation rows that chooses
the epoch, and of the test rows: the AUC of a ranking model, NDCG@20 of a two-tower model. An epoch has as many steps
for both, so a share of epochs is a share of steps. `begin` is how often the checkpoint of the day before was already at
the validation figure of the training from nothing (of the same seed), before any step.
"""

import argparse
import datetime as dt
import os
import statistics
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
from ml1m import finish, show

from recsys_assets.assets.data.features import SCHEMA
from recsys_assets.assets.recall.towers import features_of, inputs_of, source
from recsys_assets.datasets.landing import land, landed_bizdates
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.features.schema import FeatureSchema, encode
from recsys_assets.lake import Lake
from recsys_assets.manifest import Partition
from recsys_assets.metrics import auc
from recsys_assets.models.catalogue import RANKERS, TOWERS, configure
from recsys_assets.ranking.sample_parts import RANKED_PARTS, part_files
from recsys_assets.retrieval.interactions import queries
from recsys_assets.retrieval.lists import evaluate
from recsys_assets.training import checkpoint, rankers, recall, tower_data
from recsys_assets.training.loop import Fitted
from recsys_assets.training.warm_start import Start

LAST, BEFORE = dt.date(2026, 6, 30), 16  # the last day; days that land before the first one that continues
RANKED = ("rank_samples", "feature_schema")
READ = sorted({*RANKED, *(asset for model in TOWERS for asset in inputs_of(model))})


@dataclass(frozen=True)
class Trained:
    """One training: its day, its metrics, and the validation metric after each epoch."""

    day: str
    validation: float
    test: float
    course: Sequence[float]

    @property
    def best(self) -> int:
        """The epoch that was kept; where the training continues, epoch 0 is its checkpoint."""
        return self.course.index(max(self.course))

    def reached(self, value: float) -> int | None:
        """The first epoch whose validation metric is at least the value."""
        return next((epoch for epoch, found in enumerate(self.course) if found >= value), None)


class Days:
    """Days of the sample, landed and built up to what models are trained on: all of them, or those of some places."""

    def __init__(self, home: Path, days: int, world: dict[str, int], places: Collection[int] | None = None) -> None:
        os.environ |= {"RECSYS_DATA": str(home), "RECSYS_PROFILE": "sample"}
        self.profile: Profile = load_profile()
        self.lake = Lake(str(home / "lake"), self.profile.name)
        land(self.profile, last=LAST, days=days + BEFORE, **world)
        landed = landed_bizdates(self.profile)
        self.days = landed[BEFORE - 1 :]
        self._build(["interactions"], landed[0], landed[-1])
        wanted = [key for key in READ if key != "interactions"]
        for place in range(len(self.days)) if places is None else sorted(places):
            day = self.days[place]
            self._build([f'+key:"{asset}"' for asset in wanted], day)

    def _build(self, selection: list[str], first: str, last: str | None = None) -> None:
        """Materialize assets for a day, or in one run for a range of days; the events are not ingested again."""
        from recsys_assets.definitions import build_defs

        job = build_defs().resolve_implicit_global_asset_job_def()
        found = dg.AssetSelection.from_coercible(selection).resolve(job.asset_layer.asset_graph)
        span = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last or first}
        job.execute_in_process(
            asset_selection=list(found if last else found - {dg.AssetKey("interactions")}),
            partition_key=None if last else first,
            tags=span if last else None,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )

    def inputs(self, model: str, day: str) -> dict[str, Partition]:
        """The partitions of a day that a model is trained on."""
        return {asset: self.lake.read(asset, day) for asset in (RANKED if model in RANKERS else inputs_of(model))}

    def train(self, model: str, day: str, seed: int, start: Start | None = None) -> tuple[Trained, Fitted]:
        """Train a model with its default settings on the rows of a day."""
        judge = _rank if model in RANKERS else _recall
        fitted, test = judge(model, self.inputs(model, day), self.profile, seed, start)
        course = [epoch[fitted.metric] for epoch in fitted.history]
        return Trained(day, fitted.best[fitted.metric], test, course), fitted


def _rank(model: str, inputs: dict[str, Partition], _: Profile, seed: int, start: Start | None) -> tuple[Fitted, float]:
    """A ranking model and its AUC on the test rows."""
    train, validation = (part_files(inputs["rank_samples"], part) for part in RANKED_PARTS[:2])
    schema = FeatureSchema.read(inputs["feature_schema"].path(SCHEMA))
    ranker = rankers.fit(model, schema, train, validation, *configure(model, {}, {}), seed, start=start)
    return ranker.fitted, judge_ranker(ranker, inputs)


def judge_ranker(ranker: rankers.Ranker, inputs: dict[str, Partition]) -> float:
    """The AUC of a ranking model on the test rows of a day, which may be a later one than that of its fit."""
    rows = pq.read_table(part_files(inputs["rank_samples"], RANKED_PARTS[2]))
    return auc(rows["label"].to_numpy(), ranker.predict(encode(ranker.fitted.schema, rows)))


def _recall(
    model: str, inputs: dict[str, Partition], profile: Profile, seed: int, start: Start | None
) -> tuple[Fitted, float]:
    """A two-tower model and its NDCG@20 on the test rows."""
    data = source(model, profile, inputs)
    fitted = recall.fit(model, features_of(inputs), data, *configure(model, {}, {}), seed, start=start)
    return fitted, judge_towers(fitted, data)


def judge_towers(fitted: Fitted, data: recall.Source) -> float:
    """The NDCG@20 of a two-tower model on the test rows of a day, which may be a later one than that of its fit."""
    towers = recall.two_tower(fitted)
    asked = queries(data.interactions, "test", data.filter_seen)
    loaded = tower_data.load(towers, data.interactions, data.users, data.items)
    lists = recall.lists(towers, loaded, asked, recall.VALIDATION_K, data.filter_seen)
    return evaluate(lists.items, asked, [recall.VALIDATION_K])[f"ndcg@{recall.VALIDATION_K}"]


def chain(days: Days, model: str, home: Path) -> Iterator[Trained]:
    """Trainings that each continue from the day before, after one from nothing, which is left out."""
    start = None
    for day in days.days:
        found, fitted = days.train(model, day, 1, start)
        checkpoint.save(home / day, fitted)
        start = Start.read(home / day, day, {})
        if fitted.started_from:
            yield found


def summary(warm: Sequence[Trained], cold: Sequence[Sequence[Trained]]) -> dict[str, float]:
    """Figures of one model: `cold` has the trainings from nothing of each day, by seed."""
    reached = [one.reached(others[0].validation) for one, others in zip(warm, cold, strict=True)]
    shares = [epochs / (others[0].best + 1) for epochs, others in zip(reached, cold, strict=True) if epochs is not None]
    tests = [[other.test for other in others] for others in cold]
    return {
        "days": len(warm),
        "reached": len(shares),
        "begin": reached.count(0),
        "steps": statistics.mean(shares) if shares else float("nan"),
        "most_steps": max(shares, default=float("nan")),
        "below": sum(one.test < min(others) for one, others in zip(warm, tests, strict=True)),
        "above": sum(one.test > max(others) for one, others in zip(warm, tests, strict=True)),
        "warm_test": statistics.mean(one.test for one in warm),
        "cold_test": statistics.mean(value for others in tests for value in others),
        "warm_epochs": statistics.mean(len(one.course) - 1 for one in warm),
        "cold_epochs": statistics.mean(len(other.course) for others in cold for other in others),
    }


def print_days(model: str, warm: Sequence[Trained], cold: Sequence[Sequence[Trained]]) -> None:
    """Print one row per day."""
    rows = {}
    for one, others in zip(warm, cold, strict=True):
        tests, reached = [other.test for other in others], one.reached(others[0].validation)
        rows[one.day] = {
            "warm": one.test,
            "least": min(tests),
            "most": max(tests),
            "valid.": one.validation,
            "cold valid.": others[0].validation,
            "epochs": float("nan") if reached is None else reached,
            "of": others[0].best + 1,
        }
    show(f"{model}: test figure, the least and the most of the seeds; epochs to the cold validation figure", rows)


def plot(file: Path, found: dict[str, tuple[Sequence[Trained], Sequence[Sequence[Trained]]]]) -> None:
    """Write a plot with one panel per model: the band of the seeds from nothing, and the line that continues."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(found), 3.2), dpi=110, layout="constrained")
    for panel, (model, (warm, cold)) in zip(
        figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True
    ):
        tests: list[list[float]] = [[other.test for other in others] for others in cold]
        places = range(1, len(warm) + 1)
        panel.fill_between(places, [min(t) for t in tests], [max(t) for t in tests], alpha=0.3, label="from nothing")
        panel.plot(places, [one.test for one in warm], marker="o", color="tab:orange", label="continued")
        metric = "AUC" if model in RANKERS else "NDCG@20"
        panel.set(title=model, xlabel="days since the training from nothing", ylabel=f"test {metric}")
        panel.legend()
    figure.savefig(file)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=14, help="days that continue from the day before")
    parser.add_argument("--seeds", type=int, default=5, help="trainings from nothing on each day")
    parser.add_argument("--models", nargs="+", default=["widedeep", "dssm", "sasrec"])
    parser.add_argument("--users", type=int, default=600)
    parser.add_argument("--items", type=int, default=800)
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--plot", type=Path, help="PNG file")
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    given: Any = parser.parse_args()
    found, figures = {}, {}
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        days = Days(home, given.days, {name: getattr(given, name) for name in ("users", "items", "events")})
        for model in given.models:
            warm = list(chain(days, model, home / model))
            cold = [[days.train(model, one.day, seed)[0] for seed in range(1, given.seeds + 1)] for one in warm]
            found[model], figures[model] = (warm, cold), summary(warm, cold)
            print_days(model, warm, cold)
    show("shares of the steps to the validation figure from nothing; days of the test figure, the seeds", figures)
    if given.plot:
        plot(given.plot, found)
    finish(figures, as_json=given.json)


if __name__ == "__main__":
    main()
