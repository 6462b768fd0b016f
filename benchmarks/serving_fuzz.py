"""Requests made out of the OpenAPI document of a running service, and how many had which status.

    recsys serve --port 8001 &
    python benchmarks/serving_fuzz.py http://127.0.0.1:8001 20000

It ends with the first answer that no request may get: a status from 500 on, or a refusal without a reason.
"""

import argparse
from collections import Counter

import requests

from recsys_assets_tests.helpers.serving_fuzz import fuzz


def main(address: str, wanted: int) -> None:
    """Send at least as many requests, the same number of every operation, and print a table."""
    paths = requests.get(f"{address}/openapi.json", timeout=60).json()["paths"]
    of_each = -(-wanted // sum(map(len, paths.values())))
    found: Counter[tuple[str, int]] = Counter()
    for start in range(1, 20):  # a generator ends early for an operation with few different requests
        found += fuzz(address, of_each, start)
        if found.total() >= wanted:
            break
    for (operation, status), count in sorted(found.items()):
        print(f"{operation:32} {status} {count:7,}")
    for status in sorted({status for _, status in found}):
        print(f"{'all':32} {status} {sum(count for (_, each), count in found.items() if each == status):7,}")
    print(f"{found.total():,} requests")


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("address", help="of the service")
    flags.add_argument("requests", type=int, help="how many at least")
    given = flags.parse_args()
    main(given.address, given.requests)
