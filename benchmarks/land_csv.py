"""Measures `recsys land --source` on a generated CSV: rows, seconds, peak memory and processor seconds.

    python benchmarks/land_csv.py                  # 10^7 events of a year
    python benchmarks/land_csv.py --events 100000

The command runs in a process of its own. On a busy machine its processor seconds say more than its seconds.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pv

PROFILE = """
name: generated
first_bizdate: 2025-01-01
last_bizdate: 2025-12-31
landing: {home}/landing
tables:
  interactions: {{user_id: int64, item_id: int64, kind: string, price: float32, timestamp: timestamp}}
  users: {{user_id: int64}}
  items: {{item_id: int64}}
label: kind = 'cart'
split: {{strategy: by_day}}
"""
START, SECONDS = 1_735_689_600, 365 * 86_400


def write_log(path: Path, events: int, *, ordered: bool) -> None:
    """Write events of a year, in the order of time or in no order."""
    rng = np.random.default_rng(1)
    times = START + rng.integers(0, SECONDS, events)
    kinds = np.array(["view", "cart", "order"])[rng.choice(3, events, p=[0.9, 0.07, 0.03])]
    columns = {
        "user_id": rng.integers(0, max(1, events // 10), events),
        "item_id": (rng.pareto(1.1, events) * 1000).astype(np.int64) % 200_000,
        "kind": kinds,
        "price": np.round(rng.gamma(2, 20, events), 2),
        "timestamp": np.sort(times) if ordered else times,
    }
    pv.write_csv(pa.table(columns), path)


def measure(home: Path, log: Path) -> tuple[float, float, float]:
    """Seconds, processor seconds and peak memory (GB) of landing a log."""
    profile = home / "generated.yaml"
    profile.write_text(PROFILE.format(home=home))
    command = [sys.executable, "-m", "recsys_assets.cli", "land", str(profile), "--source", str(log)]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, env={**os.environ, "RECSYS_LAKE": str(home / "lake")})
    seconds, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    return seconds, processor, used.ru_maxrss / 2**20


def main() -> None:
    """Generate the log, land it and print the figures."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--events", type=int, default=10**7)
    arguments.add_argument("--shuffled", action="store_true", help="events in no order")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.csv"
        write_log(log, given.events, ordered=not given.shuffled)
        size = log.stat().st_size / 2**30
        seconds, processor, memory = measure(Path(folder), log)
    print(f"{given.events:,} rows, {size:.2f} GB: {seconds:.1f} s, {processor:.1f} processor seconds, {memory:.2f} GB")


if __name__ == "__main__":
    main()
