"""Measures what a fit of an earlier day costs, on days of the sample: each model is judged on days after its own.

    python benchmarks/refit.py [--models ridge dssm lgbm] [--ages 1 3 7 14] [--targets 3] [--seeds 2]

The targets are days a week apart, of 30 days. For each of them a model is fitted on that day and on the days that are
as old as the ages say, and all of these are judged on the test rows of the target: the AUC of a ranking model, NDCG@20
of a two-tower model. The samples and features are the target's own, as they are where a day keeps a fit. `new` is the
figure of the fit of the day, `-7` the mean difference of the fit of 7 days before, and `+-7` twice its standard error
over targets and seeds, in which the noise of a training has its part. `seconds` is processor time of one fit.
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml1m import finish, show
from warm_start import Days, judge_ranker, judge_towers

from recsys_assets.assets.data.features import SCHEMA
from recsys_assets.assets.recall.towers import features_of, source
from recsys_assets.features.schema import FeatureSchema
from recsys_assets.models.catalogue import RANKERS, configure
from recsys_assets.ranking.sample_parts import RANKED_PARTS, part_files
from recsys_assets.training import rankers, recall

DAYS, APART = 30, 7  # between the first day and the last target; between two targets
Figures = dict[tuple[int, int, int], float]  # by target, age and seed


def targets_of(count: int, ages: Sequence[int]) -> list[int]:
    """The places of the targets among the days, the newest last.

    Raises:
        SystemExit: the oldest fit would be of a day before the first one.
    """
    found = [DAYS - APART * place for place in reversed(range(count))]
    if found[0] < max(ages):
        raise SystemExit(f"--targets {count} and an age of {max(ages)} need more than {DAYS} days: give less of one")
    return found


def fit(days: Days, model: str, day: str, seed: int) -> Any:
    """A model with its default settings, trained from nothing on the rows of a day."""
    inputs, settings = days.inputs(model, day), configure(model, {}, {})
    if model in RANKERS:
        schema = FeatureSchema.read(inputs["feature_schema"].path(SCHEMA))
        train, validation = (part_files(inputs["rank_samples"], part) for part in RANKED_PARTS[:2])
        return rankers.fit(model, schema, train, validation, *settings, seed)
    return recall.fit(model, features_of(inputs), source(model, days.profile, inputs), *settings, seed)


def judge(days: Days, model: str, fitted: Any, day: str) -> float:
    """The figure of a fit on the test rows of a day."""
    inputs = days.inputs(model, day)
    if model in RANKERS:
        return judge_ranker(fitted, inputs)
    return judge_towers(fitted, source(model, days.profile, inputs))


def measure(days: Days, model: str, targets: Sequence[int], ages: Sequence[int], seeds: int) -> tuple[Figures, float]:
    """The figures of fits of all ages on all targets, and the mean processor seconds of a fit."""
    found, seconds = Figures(), list[float]()
    for seed in range(1, seeds + 1):
        for place in sorted({target - age for target in targets for age in ages}):
            begun = time.process_time()
            fitted = fit(days, model, days.days[place], seed)
            seconds.append(time.process_time() - begun)
            for target in targets:
                if target - place in ages:
                    found[target, target - place, seed] = judge(days, model, fitted, days.days[target])
    return found, statistics.mean(seconds)


def summary(found: Figures, ages: Sequence[int], seconds: float) -> dict[str, float]:
    """The row of a model: the figure of a fit of the day, and how much each age differs from it."""
    row = {"new": statistics.mean(value for (_, age, _), value in found.items() if age == 0)}
    for age in ages:
        if age:
            differences = [value - found[target, 0, seed] for (target, of, seed), value in found.items() if of == age]
            spread = statistics.stdev(differences) if len(differences) > 1 else math.nan
            row |= {f"-{age}": statistics.mean(differences), f"+-{age}": 2 * spread / math.sqrt(len(differences))}
    return row | {"seconds": seconds}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["ridge", "fm", "dssm", "simplex", "lgbm", "widedeep"])
    parser.add_argument("--ages", nargs="+", type=int, default=[1, 3, 7, 14], help="in days")
    parser.add_argument("--targets", type=int, default=3, help="days on which fits are judged")
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each model on each day")
    parser.add_argument("--users", type=int, default=600)
    parser.add_argument("--items", type=int, default=800)
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    given: Any = parser.parse_args()
    ages, figures = [0, *given.ages], {}
    targets = targets_of(given.targets, ages)
    with tempfile.TemporaryDirectory() as temporary:
        world = {name: getattr(given, name) for name in ("users", "items", "events")}
        days = Days(Path(temporary), DAYS, world, {target - age for target in targets for age in ages})
        for model in given.models:
            found, seconds = measure(days, model, targets, ages, given.seeds)
            figures[model] = summary(found, ages, seconds)
            show(model, {model: figures[model]})
    show("test figure of a fit of the day, and the differences of older fits", figures)
    finish(figures, as_json=given.json)


if __name__ == "__main__":
    main()
