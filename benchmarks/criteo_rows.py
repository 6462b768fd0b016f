"""Measures time and memory from Criteo's lines to the arrays that models train on, as the file grows.

    python benchmarks/criteo_rows.py                          # 10^6 and 10^7 generated lines
    python benchmarks/criteo_rows.py --source train.txt       # the original file

Each step runs in its own process, so that peak memory is measured per step; about 0.3 GB of it are libraries.
DuckDB spills to disk above `RECSYS_MEMORY`; `load` holds the encoded train rows, 160 bytes per row.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from recsys_assets.datasets.duck import connect, write_parquet
from recsys_assets.datasets.ingest import ROWS, ingest_events, load_known_ids
from recsys_assets.datasets.landing import land, landed_bizdates
from recsys_assets.datasets.profile import load_profile
from recsys_assets.datasets.splits import sample_rows, split_rows
from recsys_assets.features.fit import fit_schema
from recsys_assets.features.schema import FeatureSchema
from recsys_assets_tests.helpers.criteo_sample import write_lines

PROFILE = load_profile("criteo")


def days_of(home: Path) -> tuple[list[Path], str]:
    """The ingested files in order, and the last day."""
    profile = PROFILE.model_copy(update={"landing": home / "landing"})
    days = landed_bizdates(profile)
    return [home / day / ROWS for day in days], days[-1]


def do_land(home: Path, source: Path) -> None:
    """Turn lines into landing files."""
    land(PROFILE.model_copy(update={"landing": home / "landing"}), source)


def do_ingest(home: Path, _: Path) -> None:
    """Turn landing files into valid rows, day by day."""
    profile = PROFILE.model_copy(update={"landing": home / "landing"})
    files, last = days_of(home)
    with connect(home) as connection:
        load_known_ids(connection, profile, last)
        for file in files:
            file.parent.mkdir()
            ingest_events(connection, profile, file.parent.name, file.parent)


def do_splits(home: Path, _: Path) -> None:
    """Assign each row to a part."""
    with connect(home) as connection:
        split_rows(connection, PROFILE, *days_of(home))
        write_parquet(connection, "FROM splits", home / "splits.parquet")


def do_rank_samples(home: Path, _: Path) -> None:
    """Write the rows of each part."""
    for part in ("train", "validation", "test"):
        with connect(home) as connection:
            write_parquet(connection, sample_rows(PROFILE, *days_of(home), part), home / f"{part}.parquet")


def do_feature_schema(home: Path, _: Path) -> None:
    """Compute vocabularies and statistics of the train rows."""
    with connect(home) as connection:
        schema = fit_schema(connection, PROFILE, home / "train.parquet", [])
    (home / "schema.json").write_text(schema.to_json(), encoding="utf-8")


def do_load(home: Path, _: Path) -> None:
    """Load and encode the train rows."""
    from recsys_assets.training.data import encode_rows

    encode_rows(FeatureSchema.read(home / "schema.json"), home / "train.parquet")


STEPS: dict[str, Callable[[Path, Path], None]] = {
    "land": do_land,
    "ingest": do_ingest,
    "splits": do_splits,
    "rank_samples": do_rank_samples,
    "feature_schema": do_feature_schema,
    "load": do_load,
}


def in_a_process(step: str, home: Path, source: Path) -> dict[str, float]:
    """Run one step in its own process; returns its seconds and peak memory in GB."""
    command = [sys.executable, __file__, "--step", step, "--home", str(home), "--source", str(source)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return dict(json.loads(printed.splitlines()[-1]))


def run_step(step: str, home: Path, source: Path) -> None:
    """Run a step and print its seconds and peak memory."""
    start = time.perf_counter()
    STEPS[step](home, source)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))


def measure(source: Path | None, rows: int) -> None:
    """Run all steps on a file, or on that many generated lines, and print one line of the table, seconds / GB."""
    with tempfile.TemporaryDirectory() as home:
        file = source or Path(home) / "train.txt"
        if source is None:
            write_lines(file, rows)
        print(f"{'file' if source else f'{rows:,}':>12}{file.stat().st_size / 2**30:9.2f}", end="", flush=True)
        for step in STEPS:
            took = in_a_process(step, Path(home), file)
            print(f"{took['seconds']:10.1f} /{took['gb']:5.2f}", end="", flush=True)
        schema = FeatureSchema.read(Path(home) / "schema.json")
        print(f"{schema.index_rows:12,}", flush=True)


def main() -> None:
    """Measure every size and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--source", type=Path, help="Criteo's train.txt instead of generated lines")
    arguments.add_argument("--sizes", type=int, nargs="*", default=[10**6, 10**7])
    arguments.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    arguments.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.step:
        run_step(given.step, given.home, given.source)
        return
    steps = "".join(step.rjust(17) for step in STEPS)
    print(f"{'lines':>12}{'GB':>9}{steps}{'index rows':>12}   (seconds / peak GB)")
    for rows in [0] if given.source else given.sizes:
        measure(given.source, rows)


if __name__ == "__main__":
    main()
