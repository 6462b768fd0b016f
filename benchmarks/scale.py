"""Measures what each kind of asset costs as a log grows, and what 10^9 and 10^10 events would need by these curves.

    python benchmarks/scale.py                                        # logs of 10^5, 3 * 10^5 and 10^6 events
    python benchmarks/scale.py --sizes 100000 300000 1000000 10000000      # the same, and hours for 10^7

A generated log has a user for 150 events and an item for 250, so that all three grow together. At the middle size
there are also a log with three times the users, and one with three times the items. Every step runs in a process of its
own, which materializes assets through Dagster. What a step costs with 2,000 events is its fixed cost (the libraries,
Dagster, tables of any size): it is taken off before exponents are fitted, as slopes of logarithms.

Seconds are those of all processors together, without those of MongoDB's server. Models train one epoch. The figures of
10^9 and 10^10 events are extrapolated from the largest log and the fitted exponents, or in proportion to the events
where these are below 1; nobody has measured them. The peak of memory is an upper bound there: buffers that a step needs
at any size count as if they grew.
"""

import argparse
import datetime as dt
import json
import math
import os
import resource
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np

from recsys_assets.datasets import landing
from recsys_assets.datasets.profile import load_profile
from recsys_assets.definitions import build_defs
from recsys_assets.lake import Lake
from recsys_assets.models.catalogue import TOWERS
from recsys_assets.settings import settings
from recsys_assets.stores.publish import stage, version_name
from recsys_assets.stores.registry import STORES, open_store

LAST, DAYS = dt.date(2026, 6, 30), 30
EVENTS_A_USER, EVENTS_AN_ITEM = 150, 250
FIXED = 2000  # events of the log that shows the fixed costs
TIMES = 3  # the users, and the items, of the two logs that differ in one of them
LEAST = 0.2  # seconds, and GB / 10, above the fixed cost: below, a slope would be noise
FAR = (10**9, 10**10)
# Assumptions: on-demand prices of large clouds are about these, spot prices a third of them.
USD_A_CORE_HOUR, USD_A_GB_MONTH = 0.05, 0.023
HOURS = 4  # within which a whole day is to be built
EPOCH = {"training": {"epochs": 1}}
ONE_EPOCH = {
    **dict.fromkeys(("recall_sasrec", "recall_dssm", "rank_widedeep"), EPOCH),
    "rank_lgbm": {"model": {"epochs": 1}},
}
FORKS = get_context("forkserver")  # forks of a process that has imported the libraries, and has done nothing else
FORKS.set_forkserver_preload(["recsys_assets.definitions", "faiss", "lightgbm", "mlflow", "torch"])
LAND, LAKE = "land", "lake"
PUBLISHED = ("user", "emb_sasrec_user")
STEPS: dict[str, Sequence[str]] = {
    "ingest": ("interactions", "users", "items"),
    "splits": ("splits",),
    "factors": ("factors",),
    "event_features": ("event_features",),
    "snapshots": ("user_features", "item_features"),
    "rank_samples": ("rank_samples", "feature_schema"),
    "recall_samples": ("recall_samples", "negative_items"),
    "popularity": ("hitrate_popularity",),
    "term": ("recall_term",),
    "ItemCF": ("i2i_itemcf",),
    "Swing": ("i2i_swing",),
    "SASRec, one epoch": ("recall_sasrec",),
    "DSSM, one epoch": ("recall_dssm",),
    "Wide & Deep, one epoch": ("rank_widedeep",),
    "LightGBM, one epoch": ("rank_lgbm",),
    "embeddings": ("emb_sasrec_user", "emb_sasrec_item"),
    "index": ("index_sasrec",),
    "lists of one method": ("hitrate_sasrec",),
    "lists of the funnel": ("funnel_model", "funnel_report"),
    "publication": (),
}


@dataclass(frozen=True)
class World:
    """The size of a generated log."""

    events: int
    users: int
    items: int

    @classmethod
    def of(cls, events: int) -> "World":
        """A log of that many events."""
        return cls(events, max(100, events // EVENTS_A_USER), max(100, events // EVENTS_AN_ITEM))


Costs = dict[str, dict[str, float]]  # by step: `seconds` and `gb`; the step `lake` has the `gb` on disk


def measure(world: World, steps: Sequence[str] = tuple(STEPS)) -> Costs:
    """Build the steps of a log, each in its own process; returns what they cost."""
    found: Costs = {}
    with tempfile.TemporaryDirectory() as folder:
        for step in (LAND, *steps):
            with ProcessPoolExecutor(1, mp_context=FORKS) as alone:
                found[step] = alone.submit(run, step, world, folder).result()
            print(f"{world.events:12,} {world.users:9,} {world.items:7,}  {step:24}", found[step], file=sys.stderr)
        sizes = [path.stat().st_size for path in (Path(folder) / LAKE).rglob("*") if path.is_file()]
    return {**found, LAKE: {"seconds": 0.0, "gb": sum(sizes) / 1e9}}


def run(step: str, world: World, folder: str) -> dict[str, float]:
    """Run a step under a folder, in a process that runs nothing else."""
    os.environ |= {"RECSYS_DATA": folder, "RECSYS_PROFILE": "sample", "DAGSTER_HOME": folder}
    os.environ.pop("MONGO_URI", None)
    job = build_defs().resolve_implicit_global_asset_job_def() if STEPS.get(step) else None
    before = _seconds()
    if step == LAND:
        landing.land(load_profile(), last=LAST, days=DAYS, **vars(world))
    elif job:
        materialize(job, STEPS[step])
    else:
        publish()
    return {"seconds": _seconds() - before, "gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def _seconds() -> float:
    """Processor seconds of this process and of those that it waited for."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def materialize(job: Any, assets: Sequence[str]) -> None:
    """Build assets of the last day; the events of every day."""
    for asset in assets:
        first = LAST - dt.timedelta(days=DAYS - 1) if asset == "interactions" else LAST
        span = {"dagster/asset_partition_range_start": str(first), "dagster/asset_partition_range_end": str(LAST)}
        job.execute_in_process(
            asset_selection=[dg.AssetKey(asset)],
            partition_key=None if asset == "interactions" else str(LAST),
            tags=span if asset == "interactions" else None,
            run_config={
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                "ops": {asset: {"config": ONE_EPOCH[asset]}} if asset in ONE_EPOCH else {},
            },
        )


def publish() -> None:
    """Write collections of users to a MongoDB and verify them."""
    profile, day = load_profile(), str(LAST)
    lake = Lake.of(settings().lake, profile)
    family = STORES["mongo"].collections(list(TOWERS), profile.publishing.vectors)
    with open_store("mongo", profile.name) as store:
        for name in PUBLISHED:
            table = family[name].table(profile, {asset: lake.read(asset, day) for asset in family[name].reads})
            stage(store, name, version_name(day, name), table, lambda: None, keep=1)


def slope(sizes: Sequence[float], costs: Sequence[float], least: float) -> float:
    """The exponent of costs by size; not a number if one of the costs is too small to tell."""
    if min(costs) < least or len(costs) < 2:
        return math.nan
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


@dataclass(frozen=True)
class Curve:
    """Costs of a step above its fixed cost, at several numbers of events, and their exponent."""

    fixed: float
    sizes: Sequence[int]
    costs: Sequence[float]
    least: float

    @property
    def exponent(self) -> float:
        """The fitted slope of logarithms."""
        return slope(self.sizes, self.costs, self.least)

    def at(self, events: int) -> float:
        """The cost extrapolated from the largest log, at least in proportion to the events.

        An exponent below 1 means that costs of every day or file still count: it would not hold for larger logs.
        """
        grows = 1.0 if math.isnan(self.exponent) else max(1.0, self.exponent)
        return float(self.fixed + max(self.costs[-1], 0.0) * (events / self.sizes[-1]) ** grows)


def curve(logs: Mapping[World, Costs], fixed: Costs, step: str, what: str) -> Curve:
    """The curve of a step over the logs that grow in everything."""
    costs = [found[step][what] - fixed[step][what] for found in logs.values()]
    return Curve(fixed[step][what], [world.events for world in logs], costs, LEAST if what == "seconds" else LEAST / 10)


def show(logs: Mapping[World, Costs], fixed: Costs, alone: Mapping[str, Costs], middle: Costs) -> None:
    """Print a line for each step: seconds and GB at each size, and the exponents."""
    names = [_events(world.events) for world in logs]
    head = ["fixed s", *(f"{name} s" for name in names), "exponent", *(f"by {each}" for each in alone)]
    print("| step | " + " | ".join([*head, "fixed GB", *(f"{name} GB" for name in names), "exponent"]) + " |")
    print("|---|" + "---:|" * (2 * len(names) + 4 + len(alone)))
    for step in (each for each in fixed if each != LAKE):
        seconds, gb = (curve(logs, fixed, step, what) for what in ("seconds", "gb"))
        base = middle[step]["seconds"] - seconds.fixed
        grown = [slope((1, TIMES), (base, each[step]["seconds"] - seconds.fixed), LEAST) for each in alone.values()]
        cells = [f"{each:.1f}" for each in (seconds.fixed, *(found[step]["seconds"] for found in logs.values()))]
        cells += [_figure(each) for each in (seconds.exponent, *grown)]
        cells += [f"{each:.2f}" for each in (gb.fixed, *(found[step]["gb"] for found in logs.values()))]
        print(f"| {step} | " + " | ".join([*cells, _figure(gb.exponent)]) + " |")


def _events(count: int) -> str:
    return f"{count:.0e}".replace("e+0", "e").replace("e+", "e")


def _figure(exponent: float) -> str:
    return "–" if math.isnan(exponent) else f"{exponent:.2f}"


def extrapolate(logs: Mapping[World, Costs], fixed: Costs, epochs: int) -> None:
    """Print what each far size would need: core-hours, cores, memory, disk and money."""
    print(f"\nExtrapolated, {epochs} epochs a model, {USD_A_CORE_HOUR} USD a core-hour, {USD_A_GB_MONTH} a GB-month:\n")
    print(f"| events | core-hours | cores for {HOURS} hours | most memory | lake, GB | USD a build | USD a month |")
    print("|---:|---:|---:|---|---:|---:|---:|")
    steps = [each for each in fixed if each not in (LAND, LAKE)]
    for events in FAR:
        times = {step: epochs if step.endswith("epoch") else 1 for step in steps}
        hours = sum(curve(logs, fixed, step, "seconds").at(events) * times[step] for step in steps) / 3600
        memory, most = max((curve(logs, fixed, step, "gb").at(events), step) for step in steps)
        disk = curve(logs, fixed, LAKE, "gb").at(events)
        cells = [_events(events), f"{hours:,.0f}", f"{hours / HOURS:,.0f}", f"{memory:,.0f} GB, {most}", f"{disk:,.0f}"]
        money = [f"{hours * USD_A_CORE_HOUR:,.0f}", f"{disk * USD_A_GB_MONTH:,.0f}"]
        print(f"| {' | '.join([*cells, *money])} |")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10**5, 3 * 10**5, 10**6], help="events of the logs")
    parser.add_argument("--epochs", type=int, default=10, help="for every model, in what is extrapolated")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS), help="each needs those before it")
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    given = parser.parse_args()
    fixed = measure(World.of(FIXED), given.steps)
    logs = {world: measure(world, given.steps) for world in map(World.of, given.sizes)}
    world = World.of(sorted(given.sizes)[len(given.sizes) // 2])
    wider = {each: replace(world, **{each: TIMES * vars(world)[each]}) for each in ("users", "items")}
    alone = {each: measure(changed, given.steps) for each, changed in wider.items()}
    show(logs, fixed, alone, logs[world])
    extrapolate(logs, fixed, given.epochs)
    if given.json:
        print(json.dumps({"fixed": fixed, **{str(world.events): found for world, found in logs.items()}, **alone}))


if __name__ == "__main__":
    main()
