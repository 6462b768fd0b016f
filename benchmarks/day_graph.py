"""Measures what one more day costs in the graph, compared with the same day built from all of history.

    python benchmarks/day_graph.py                    # a generated log of 10^6 events in 100 days
    python benchmarks/day_graph.py --events 10000000
    python benchmarks/day_graph.py --events 100000000 --assets splits,event_features,recall_samples --day-only

The day before is built in one lake, and the newest day on top of it; a second lake has the newest day alone, with all
rows, unless `--day-only` leaves it out. `factors`, which samples and snapshots read, is built in both and is no part of
the sums, because it is fitted each day.
Seconds are those that all threads of an asset's process computed, and `clock` those that passed: other programs change
the former less. Peak memory is that of the process that built all assets of the day.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dagster as dg
from splits_to_samples import SAMPLE_LAST

from recsys_assets.assets import assets_of
from recsys_assets.datasets.landing import land, landed_bizdates
from recsys_assets.datasets.profile import load_profile
from recsys_assets.io_managers import LakeIOManager
from recsys_assets.partitions import span_tags
from recsys_assets.resources import resources

COUNTED = ["splits", "event_features", "rank_samples", "touch_samples", "recall_samples", "user_features"]
COUNTED += ["item_features", "negative_items", "recall_term", "i2i_itemcf"]
NEEDED = ["users", "items"]
FITTED = "factors"
READS_FITTED = {"rank_samples", "touch_samples", "user_features", "item_features"}
ORDER = [*NEEDED, "splits", "event_features", FITTED, *COUNTED[2:]]
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def build(first: str, last: str, counted: list[str]) -> dict[str, list[float]]:
    """Build the days of events up to `last` from `first` on, and the assets of `last`; seconds by asset."""
    wanted = {*NEEDED, *counted, *([FITTED] if READS_FITTED.intersection(counted) else [])}
    provided = resources()
    provided["io_manager"] = LakeIOManager(store=provided["lake"])
    definitions = dg.Definitions(assets=assets_of(load_profile()), resources=provided)
    job = definitions.resolve_implicit_global_asset_job_def()

    def run(asset: str, tags: dict[str, str] | None = None) -> list[float]:
        start, processor = time.perf_counter(), time.process_time()
        key = None if tags else last
        job.execute_in_process(asset_selection=[dg.AssetKey(asset)], partition_key=key, tags=tags, run_config=QUIET)
        return [time.process_time() - processor, time.perf_counter() - start]

    run("interactions", span_tags(first, last))
    done = {asset: run(asset) for asset in ORDER if asset in wanted}
    return done | {"peak GB": [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]}


def in_a_process(home: Path, lake: str, first: str, last: str, counted: list[str]) -> dict[str, list[float]]:
    """`build` in a process of its own, in one of the lakes."""
    places = {"RECSYS_PROFILE": "sample", "RECSYS_HOME": str(home), "RECSYS_LAKE": str(home / lake)}
    command = [sys.executable, __file__, "--build", first, last, "--assets", ",".join(counted)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=os.environ | places).stdout
    return dict(json.loads(printed.splitlines()[-1]))


def prepare(home: Path, events: int, days: int) -> list[str]:
    """Land a generated log where the processes look for it; returns its bizdates."""
    sizes = {"events": events, "users": max(600, events // 150), "items": max(400, events // 1000), "days": days}
    profile = load_profile("sample").model_copy(update={"landing": home / "data" / "landing" / "sample"})
    land(profile, None, last=SAMPLE_LAST, **sizes)
    return landed_bizdates(profile)


def main() -> None:
    """Measure and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--events", type=int, default=10**6)
    arguments.add_argument("--days", type=int, default=100, help="days of the log")
    arguments.add_argument("--assets", default=",".join(COUNTED), help="those that count, and that are built")
    arguments.add_argument("--day-only", action="store_true", help="do not build all rows at once")
    arguments.add_argument("--build", nargs=2, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    counted = given.assets.split(",")
    if given.build:
        print(json.dumps(build(*given.build, counted)))
        return
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        days = prepare(home, given.events, given.days)
        in_a_process(home, "daily", days[0], days[-2], counted)
        runs = {"day": in_a_process(home, "daily", days[-1], days[-1], counted)}
        if not given.day_only:
            runs["all rows"] = in_a_process(home, "once", days[0], days[-1], counted)
    show(runs, counted)


def show(runs: dict[str, dict[str, list[float]]], counted: list[str]) -> None:
    """Print the table: processor seconds of each run, then those that passed; the last column compares the former."""
    for run in runs.values():
        run["together"] = [sum(run[asset][k] for asset in counted) for k in (0, 1)]
    print("asset".ljust(16) + "".join(name.rjust(12) for name in (*runs, *("clock" for _ in runs), "times")))
    for asset in [*counted, "together"]:
        seconds = [run[asset][k] for k in (0, 1) for run in runs.values()]
        times = f"{seconds[1] / seconds[0]:12.1f}" if len(runs) > 1 else ""
        print(f"{asset:16}" + "".join(f"{each:12.2f}" for each in seconds) + times)
    print(f"{'peak GB':16}" + "".join(f"{run['peak GB'][0]:12.2f}" for run in runs.values()))


if __name__ == "__main__":
    main()
