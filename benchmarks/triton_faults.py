"""Measures what clients of the service see while Triton, through which it ranks, is slow, refuses, hangs or is gone.

    RECSYS_TRITON_URI=… RECSYS_SERVE_TRITON_MS=20 python benchmarks/triton_faults.py [--rate 20] [--seconds 6]

`recsys triton serve` must run, and the current release's champion must be published to it. The service finds Triton
through a proxy, which causes the faults. The table is that of `serving_faults.py`, and has the share of lists that were
ranked by Triton.
"""

import argparse
import os
import re
from urllib.parse import urlsplit

import httpx
from open_loop import Load
from serving_faults import STALL, Proxy, row, store
from serving_load import service, users_of_current_release

from recsys_assets.serving.by_triton import LIMIT
from recsys_assets.stores.registry import STORES
from recsys_assets.stores.triton.store import CHAMPION


def scored(address: str) -> int:
    """The requests that the champion has answered, all versions together."""
    found = httpx.get(f"{address}/v2/models/{CHAMPION}/stats").json()["model_stats"]
    return sum(int(each["inference_stats"]["success"]["count"]) for each in found)


def answered(line: str) -> int:
    """The answers that a line of the table counts."""
    return sum(map(int, re.findall(r"(\d+) ×", line)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=20)
    parser.add_argument("--seconds", type=float, default=6, help="that a fault lasts")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    variable = STORES["triton"].variable
    address = os.environ[variable]
    proxy = Proxy("127.0.0.1", urlsplit(address).port or 80)
    os.environ[variable] = f"http://127.0.0.1:{proxy.port}"
    os.environ.setdefault(LIMIT, "20")
    with service(given.processes) as (url, _):
        load = Load(url, users_of_current_release(), given.rate, 2 * given.seconds)
        faults = {
            "none": "pass",
            "Triton refuses connections": "refuse",
            f"Triton is slow: {STALL:g} s for whatever it says": "stall",
            "Triton does not answer": "hang",
        }
        print("| fault | answers | longest, ms | well again after, s | ranked by Triton |")
        for name, mode in faults.items():
            before = scored(address)
            line = row(name, url, store(proxy, mode), load)
            print(f"{line} {(scored(address) - before) / answered(line):.0%} |", flush=True)


if __name__ == "__main__":
    main()
