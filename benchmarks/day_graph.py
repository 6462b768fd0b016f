"""Measures what one more day costs in the graph, compared with the same day built from all of history.

    python benchmarks/day_graph.py                    # a generated log of 10^6 events in 100 days
    python benchmarks/day_graph.py --events 10000000

The day before is built in one lake, and the newest day on top of it; a second lake has the newest day alone, with all
rows. `factors`, which samples read, is built in both and is no part of the sums, because it is fitted each day.
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
ORDER = [*NEEDED, "splits", "event_features", FITTED, *COUNTED[2:]]
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def build(first: str, last: str) -> dict[str, list[float]]:
    """Build the days of events up to `last` from `first` on, and the assets of `last`; seconds by asset."""
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
    done = {asset: run(asset) for asset in ORDER}
    return done | {"peak GB": [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]}


def in_a_process(home: Path, lake: str, first: str, last: str) -> dict[str, list[float]]:
    """`build` in a process of its own, in one of the lakes."""
    places = {"RECSYS_PROFILE": "sample", "RECSYS_HOME": str(home), "RECSYS_LAKE": str(home / lake)}
    command = [sys.executable, __file__, "--build", first, last]
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
    arguments.add_argument("--build", nargs=2, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.build:
        print(json.dumps(build(*given.build)))
        return
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        days = prepare(home, given.events, given.days)
        in_a_process(home, "daily", days[0], days[-2])
        day, at_once = in_a_process(home, "daily", days[-1], days[-1]), in_a_process(home, "once", days[0], days[-1])
    print("asset".ljust(16) + "".join(name.rjust(12) for name in ("day", "all rows", "times", "clock", "clock")))
    sums = {
        name: [sum(found[asset][k] for asset in COUNTED) for k in (0, 1)]
        for name, found in (("day", day), ("all", at_once))
    }
    rows = [(asset, day[asset], at_once[asset]) for asset in COUNTED] + [("together", sums["day"], sums["all"])]
    for name, (one, clock), (all_rows, all_clock) in rows:
        print(f"{name:16}{one:12.2f}{all_rows:12.2f}{all_rows / one:12.1f}{clock:12.2f}{all_clock:12.2f}")
    print(f"{'peak GB':16}{day['peak GB'][0]:12.2f}{at_once['peak GB'][0]:12.2f}")


if __name__ == "__main__":
    main()
