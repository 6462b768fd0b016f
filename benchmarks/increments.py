"""Proves that days built on top of earlier ones are those that all rows at once give, whatever happened to their files.

    python benchmarks/increments.py                               # 100 days of a generated log, and 20 killed builds
    python benchmarks/increments.py --source FOLDER --days 30     # the same on the busiest days of MovieLens 1M

The log is handed over day by day. Before each build something may happen to a day that was there already: rows come
late, values are corrected, rows are deleted, or the next day is skipped, so that two come at once. After each build
`recsys verify` builds the day from the first event on in a lake of its own, and compares files and rows by hash. Killed
builds get SIGKILL after a drawn time, are then run to their end, and compared too. MovieLens is split by day here:
where users keep rows online, every day describes all rows anyway.
"""

import argparse
import collections
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from splits_to_samples import SAMPLE_LAST

from recsys_assets.assets import assets_of
from recsys_assets.datasets.landing import land, landed_bizdates
from recsys_assets.datasets.profile import Profile, bundled_profiles, load_profile
from recsys_assets.io_managers import LakeIOManager
from recsys_assets.lake import Lake
from recsys_assets.partitions import span_tags
from recsys_assets.resources import resources
from recsys_assets.settings import settings
from recsys_assets.verify.rebuild import verify

COUNTED = ["users", "items", "splits", "event_features", "recall_samples", "negative_items", "recall_term"]
COUNTED += ["i2i_itemcf"]
FIRST = 10  # days of the first build
PROFILE = "proof.yaml"
SIZES = {"events": 30_000, "users": 400, "items": 300}
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
CHANGES = ["none", "none", "late", "corrected", "deleted", "skipped"]


def build(profile: Profile, first: str, last: str) -> None:
    """Ingest the days from `first` to `last`, and build the assets of `last`."""
    provided = resources()
    provided["io_manager"] = LakeIOManager(store=provided["lake"])
    job = dg.Definitions(assets=assets_of(profile), resources=provided).resolve_implicit_global_asset_job_def()
    job.execute_in_process(asset_selection=[dg.AssetKey("interactions")], tags=span_tags(first, last), run_config=QUIET)
    job.execute_in_process(
        asset_selection=[dg.AssetKey(asset) for asset in COUNTED], partition_key=last, run_config=QUIET
    )


class Log:
    """The rows of each day, which are landed one day after the other and changed afterwards."""

    def __init__(self, profile: Profile, days: list[str], seed: int) -> None:
        self.profile, self.days, self.random = profile, days, random.Random(seed)
        self.rows = {day: pq.read_table(self._files(day)[0]) for day in days}
        self.kept_back: dict[str, pa.Table] = {}
        for day in days:
            shutil.rmtree(self._files(day)[0].parent)

    def _files(self, day: str) -> list[Path]:
        return sorted((self.profile.landing / "interactions" / f"bizdate={day}").glob("*.parquet"))

    def hand_over(self, day: str) -> None:
        """Land a day; of some days one row in twenty is kept back."""
        rows = self.rows[day]
        if self.random.random() < 0.3 and len(rows) > 20:
            late = np.arange(len(rows)) % 20 == 0
            self.kept_back[day], rows = rows.filter(pa.array(late)), rows.filter(pa.array(~late))
        self._write(day, rows)

    def change(self, kind: str, known: list[str]) -> str | None:
        """Let something happen to one of the known days; returns it, or None if nothing changed."""
        if kind == "late" and self.kept_back:
            day = self.random.choice(sorted(self.kept_back))
            self._write(day, pa.concat_tables([self.landed(day), self.kept_back.pop(day)]))
        elif kind in ("corrected", "deleted"):
            day = self.random.choice(known[-8:])  # so that partitions of days before it are there to build on
            rows, chosen = self.landed(day), self.random.randrange(20)
            there = pa.array(np.arange(len(rows)) % 20 == chosen)
            self._write(day, self._corrected(rows, there) if kind == "corrected" else rows.filter(pc.invert(there)))
        else:
            return None
        return day

    @staticmethod
    def _corrected(rows: pa.Table, chosen: pa.Array) -> pa.Table:
        place, ratings = rows.column_names.index("rating"), rows["rating"].combine_chunks()
        turned = pc.subtract(pa.scalar(6, ratings.type), ratings)
        return rows.set_column(place, "rating", pc.if_else(chosen, turned, ratings))

    def landed(self, day: str) -> pa.Table:
        """The rows of a day as they are landed now."""
        return pq.read_table(self._files(day)[0])

    def _write(self, day: str, rows: pa.Table) -> None:
        folder = self.profile.landing / "interactions" / f"bizdate={day}"
        folder.mkdir(exist_ok=True)
        pq.write_table(rows, folder / ".coming")
        (folder / ".coming").rename(folder / "part-0.parquet")


def prepare(home: Path, source: str | None, days: int) -> Log:
    """Land the log that will be handed over, and point the environment to it."""
    name = "movielens-1m" if source else "sample"
    content = yaml.safe_load(bundled_profiles()[name].read_text(encoding="utf-8"))
    content |= {"split": {"strategy": "by_day", "validation_days": 2, "test_days": 3, "online_days": 2}}
    content |= {"bounds": {"max_label_rate_change": 1.0, "max_rejected_rate": 1.0}}
    (home / PROFILE).write_text(yaml.safe_dump(content), encoding="utf-8")
    profile = load_profile()
    sizes = {} if source else {**SIZES, "days": FIRST + 2 * days}
    land(profile, source, last=None if source else SAMPLE_LAST, **sizes)
    landed = landed_bizdates(profile)
    wanted = FIRST + 2 * days
    return Log(profile, landed[:wanted] if source else landed, seed=1)


def places(home: Path) -> dict[str, str]:
    """The environment in which everything is below one folder."""
    data, profile = home / "data", home / PROFILE
    named = {"PROFILE": profile, "HOME": home, "DATA": data, "LANDING": data / "landing", "LAKE": data / "lake"}
    return {f"RECSYS_{name}": str(place) for name, place in named.items()}


def prove(log: Log, steps: int) -> collections.Counter[str]:
    """Build day after day and compare each; returns how many were equal and how many were not."""
    known, coming, done = log.days[:FIRST], log.days[FIRST:], collections.Counter[str]()
    for day in known:
        log.hand_over(day)
    build(log.profile, known[0], known[-1])
    for step in range(steps):
        kind = log.random.choice(CHANGES)
        changed = log.change(kind, known)
        for _ in range(2 if kind == "skipped" else 1):
            known.append(coming.pop(0))
            log.hand_over(known[-1])
        build(log.profile, min(changed or known[-2], known[-2]), known[-1])
        report(log.profile, known[-1], kind, step + 1, done)
    return done


def report(profile: Profile, day: str, kind: str, step: int, done: collections.Counter[str]) -> None:
    """Compare a day, count the result, and print it."""
    lake = Lake.of(settings().lake, profile)
    found = verify(profile, lake, day)
    done["different" if found.differences else "equal"] += 1
    extends = sorted(lake.manifest("event_features", day).extended)
    done["built on an earlier day"] += bool(extends)
    said = "; ".join(f"{each.name}: {each.how}" for each in found.differences) or "equal"
    print(f"{step:4} {day} {kind:10} on {extends[-1] if extends else 'nothing':28} {said}", flush=True)


def kill(log: Log, times: int) -> collections.Counter[str]:
    """Kill the build of the newest day after drawn times; then build and compare it."""
    known, done, chance = landed_bizdates(log.profile), collections.Counter[str](), random.Random(2)
    before, day = known[-2:]
    command, start = [sys.executable, __file__, "--build", before, day], time.perf_counter()
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - start
    for step in range(times):
        log.change("corrected", [before])  # so that there is something to build
        child = subprocess.Popen(command)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(chance.uniform(0.3, 0.95) * seconds)
        if child.poll() is None:
            child.kill()
            done["killed"] += 1
        child.wait()
        subprocess.run(command, check=True)
        report(log.profile, day, "killed", step + 1, done)
    return done


def main() -> None:
    """Prove, and print the counts."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--source", help="unpacked MovieLens 1M folder")
    arguments.add_argument("--days", type=int, default=100)
    arguments.add_argument("--kills", type=int, default=0)
    arguments.add_argument("--build", nargs=2, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.build:
        build(load_profile(), *given.build)
        return
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, places(Path(folder))):
        log = prepare(Path(folder), given.source, given.days)
        done = {"days": prove(log, given.days)} if given.days else {}
        if given.kills:
            done["kills"] = kill(log, given.kills)
    print(json.dumps({name: dict(count) for name, count in done.items()}))


if __name__ == "__main__":
    main()
