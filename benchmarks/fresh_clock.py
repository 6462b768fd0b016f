"""Measures the clock of fresh items: from a new row to the first served list that holds the item, and back.

    python benchmarks/fresh_clock.py [--items 1000] [--files 100] [--rate 200] [--processes 2]

`recsys serve` runs on the current release of this installation. One new item after another is told, by `POST /items` or
as a file of its own, with the genres that a probe user has liked most, and the user's list is asked for until it holds
the item. Then the item is withdrawn, and the list is asked for until it does not. This is done at rest, while an open
loop asks for lists of other users, and while one of the processes that answer is killed. At the end all items are
there at once, and the share of listed fresh items with a genre that the probe likes is compared with that of all.
"""

import argparse
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import httpx
import numpy as np
import psutil
import pyarrow.parquet as pq
from open_loop import Load, answers, begin, milliseconds
from serving_load import service, users_of_current_release

from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import load_profile
from recsys_assets.lake import Lake
from recsys_assets.serving.releases import release_store
from recsys_assets.settings import settings

FIRST = 10**9  # the id of the first new item
PATIENCE = 60.0  # seconds after which an item is lost


def probes(count: int) -> list[tuple[int, str]]:
    """Users with many positives, and the genre that each liked most, ascending by user."""
    profile = load_profile()
    lake = Lake.of(settings().lake, profile)
    with release_store(profile, lake) as store:
        day = (store.release() or {})["bizdate"]
    events = pq.read_table(lake.read("splits", day).path(ROWS), columns=["user_id", "item_id", "label"]).to_pandas()
    items = pq.read_table(lake.read("items", day).path(ROWS), columns=["item_id", "genres"]).to_pandas()
    liked = events[events.label > 0].merge(items, on="item_id").explode("genres")
    counts = liked.groupby(["user_id", "genres"]).size().reset_index(name="n")
    best = counts.sort_values(["n", "user_id"], ascending=[False, True]).drop_duplicates("user_id").head(count)
    return [(int(user), str(genre)) for user, genre in zip(best.user_id, best.genres, strict=True)]


class Client:
    """A client that tries again when a process that answered was killed."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=30)

    def ask(self, method: str, path: str, **content: Any) -> Any:
        """The content of an answer."""
        for _ in range(50):
            with suppress(httpx.TransportError):
                found = self._client.request(method, path, **content)
                found.raise_for_status()
                return found.json()
            time.sleep(0.02)
        raise SystemExit(f"{path} does not answer")

    def listed(self, user: int) -> set[int]:
        """The items of a user's list."""
        return {row["item_id"] for row in self.ask("GET", f"/recommend/{user}?size=50")["items"]}


def by_post(client: Client, row: dict[str, Any]) -> None:
    """Tell a row by HTTP."""
    client.ask("POST", "/items", json={"items": [row]})


def by_file(_: Client, row: dict[str, Any]) -> None:
    """Tell a row as a file."""
    folder = load_profile().landing / "fresh" / "items"
    folder.mkdir(parents=True, exist_ok=True)
    hidden = folder / f"{row['item_id']}-{row['update_time']}.jsonl.tmp"
    hidden.write_text(json.dumps(row) + "\n", encoding="utf-8")
    hidden.rename(hidden.with_suffix(""))


def seconds_until(holds: Callable[[], bool], began: float) -> float:
    """Seconds until something holds; infinite if it never does."""
    while not holds():
        if time.perf_counter() - began > PATIENCE:
            return float("inf")
    return time.perf_counter() - began


def clock(client: Client, tell: Callable[[Client, dict[str, Any]], None], items: Iterator[dict[str, Any]]) -> str:
    """Tell items one after another, and withdraw them; the percentiles of both times in milliseconds."""
    there, gone = list[float](), list[float]()
    for row, user in ((each, each.pop("probe")) for each in items):
        began = time.perf_counter()
        tell(client, {**row, "withdrawn": False, "update_time": time.time()})
        there.append(seconds_until(lambda: row["item_id"] in client.listed(user), began))  # noqa: B023
        began = time.perf_counter()
        tell(client, {"item_id": row["item_id"], "withdrawn": True, "update_time": time.time()})
        gone.append(seconds_until(lambda: row["item_id"] not in client.listed(user), began))  # noqa: B023
    return " | ".join(" ".join(_shown(each)) for each in (there, gone))


def _shown(times: Sequence[float]) -> Iterator[str]:
    lost = sum(np.isinf(times))
    for share in (50, 95, 100):
        yield f"{np.percentile(times, share) * 1000:.1f}"
    yield f"({len(times)}, {lost} lost)"


def killing(items: Iterator[dict[str, Any]], process: "subprocess.Popen[bytes]", at: int) -> Iterator[dict[str, Any]]:
    """The items; before one of them, a process that answers is killed."""
    for number, each in enumerate(items):
        if number == at:
            keeper = next(
                one for one in psutil.Process(process.pid).children() if "generation" in " ".join(one.cmdline())
            )
            keeper.children()[0].kill()
        yield each


def fit(client: Client, users: Sequence[tuple[int, str]], rows: Sequence[dict[str, Any]]) -> str:
    """The share of listed fresh items that have the genre that the user likes most, and that of all fresh items."""
    for block in (rows[first : first + 500] for first in range(0, len(rows), 500)):
        client.ask("POST", "/items", json={"items": [{**each, "withdrawn": False} for each in block]})
    genre_of = {each["item_id"]: each["genres"][0] for each in rows}
    hits = [genre_of[item] == genre for user, genre in users for item in client.listed(user) if item in genre_of]
    base = np.mean([genre == other for _, genre in users for other in genre_of.values()])
    gone = [{"item_id": each["item_id"], "withdrawn": True} for each in rows]
    for block in (gone[first : first + 500] for first in range(0, len(gone), 500)):
        client.ask("POST", "/items", json={"items": block})
    return f"{np.mean(hits):.3f} of {len(hits)} listed fresh items have the probe's genre; of all {base:.3f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    users, numbers = probes(50), itertools.count(FIRST)
    probe = itertools.cycle(users)

    def items(count: int) -> Iterator[dict[str, Any]]:
        for number in itertools.islice(numbers, count):
            user, genre = next(probe)
            yield {"item_id": number, "title": f"New {number}", "genres": [genre], "year": 2026, "probe": user}

    with service(given.processes) as (url, process):
        client = Client(url)
        sys.stdout.write("| case | served after p50 p95 max, ms | gone after p50 p95 max, ms |\n")
        for name, tell, count in (("POST", by_post, given.items), ("files", by_file, given.files)):
            sys.stdout.write(f"| {name}, at rest | {clock(client, tell, items(count))} |\n")
            load = begin(Load(url, users_of_current_release(), given.rate, 20 if tell is by_post else 60))
            sys.stdout.write(f"| {name}, {given.rate:g} a second | {clock(client, tell, items(count))} |\n")
            sys.stdout.write(f"lists of others meanwhile: {milliseconds(answers(load))}\n")
            killed = killing(items(count), process, count // 2)
            sys.stdout.write(f"| {name}, one kill | {clock(client, tell, killed)} |\n")
            sys.stdout.flush()
        rows = [{key: value for key, value in each.items() if key != "probe"} for each in items(given.items)]
        sys.stdout.write(fit(client, users, rows) + "\n")


if __name__ == "__main__":
    main()
