"""Measures calibration on an implicit log with known rates: corrected probabilities of a ranker, by decile.

    python benchmarks/implicit_calibration.py
    python benchmarks/implicit_calibration.py --users 4000 --items 2000 --visits 200000 --draw uniform --rate 8

A generated shop (`recsys_assets_tests/helpers/shop_log.py`) has views only, all of them positives: the first view of
each item by each user, or with `--repeats` all. Each user's last visits are kept as the online part. The ranker learns
from drawn negatives; its ONNX file scores every user with every item from the snapshots, and the scores are corrected
(`ranking/correction.py`). Pairs are sorted by the corrected probability and cut into ten groups with the same expected
number of visits. For each group:

* expected: the sum of the corrected probabilities, times the user's number of online visits;
* true: the same sum of the generator's own probabilities;
* observed: online visits to the pairs of the group;
* error: the relative difference of expected from true, and what is allowed: 5 %, or two standard errors of a number of
  visits whose mean is true.
"""

import argparse
import tempfile
from pathlib import Path

from recsys_assets_tests.helpers.calibration import Calibration, calibrate
from recsys_assets_tests.helpers.shop_log import generate


def show(found: Calibration) -> None:
    """Print a line for each group."""
    print(f"{'expected':>10} {'true':>10} {'observed':>10} {'error':>8} {'allowed':>8}")
    columns = (found.expected, found.true, found.observed, found.errors, found.allowed)
    for expected, true, observed, error, allowed in zip(*columns, strict=True):
        print(f"{expected:10.1f} {true:10.1f} {observed:10.0f} {error:+8.3f} {allowed:8.3f}")
    for name in ("test_auc", "correction_slope", "correction_shift"):
        print(f"{name} {found.metrics[name]:.4f}")


def main() -> None:
    """Generate a shop, build its ranker and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--users", type=int, default=1500)
    parser.add_argument("--items", type=int, default=600)
    parser.add_argument("--visits", type=int, default=60_000)
    parser.add_argument("--focus", type=float, default=0.4, help="how much users keep to few items")
    parser.add_argument("--rate", type=int, default=4)
    parser.add_argument("--draw", choices=("popularity", "uniform"), default="popularity")
    parser.add_argument("--power", type=float, default=0.75)
    parser.add_argument("--repeats", action="store_true", help="people view items again")
    parser.add_argument("--model", default="lgbm")
    given = parser.parse_args()
    made = generate(given.users, given.items, given.visits, days=20, focus=given.focus)
    shop = made.views() if given.repeats else made.first_views()
    negatives = {"rate": given.rate, "draw": given.draw, "power": given.power}
    with tempfile.TemporaryDirectory() as folder:
        show(calibrate(Path(folder), shop, negatives, given.model, given.repeats))


if __name__ == "__main__":
    main()
