"""Measures what clients see of faults: stores that stop, stall or refuse, a lost lake, and processes that are killed.

    python benchmarks/serving_faults.py [--rate 20] [--seconds 6] [--processes 2]

`recsys serve` runs on the current release of this installation and finds MongoDB through a proxy, which causes the
faults. During each, and after it, an open loop of requests goes on. The table has the answers by their status, the
longest one, and how long after the end of the fault the service said that all is well.
"""

import argparse
import asyncio
import contextlib
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
from open_loop import Load, answers, begin
from serving_load import service, users_of_current_release

from recsys_assets.settings import settings
from recsys_assets.stores.mongo.embedded import run_server

STALL = 1.0  # seconds by which a slow store delays whatever it says
WELL = 60.0  # seconds that a service has to be well again


class Proxy:
    """A proxy in front of MongoDB, in a thread of its own; `mode` is pass, stall, refuse or hang."""

    def __init__(self, host: str, port: int) -> None:
        self._target, self.mode, self.port = (host, port), "pass", 0
        self._open: set[asyncio.StreamWriter] = set()
        self._loop, self._ready = asyncio.new_event_loop(), threading.Event()
        threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True).start()
        self._ready.wait()

    def set(self, mode: str) -> None:
        """Go over to a mode; connections that are open end if it refuses them."""
        self.mode = mode
        if mode == "refuse":
            for each in list(self._open):
                self._loop.call_soon_threadsafe(each.close)

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await server.serve_forever()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode == "refuse":
            return writer.close()
        other_reader, other_writer = await asyncio.open_connection(*self._target)
        self._open |= {writer, other_writer}
        with contextlib.suppress(OSError):
            await asyncio.gather(self._pass(reader, other_writer), self._pass(other_reader, writer))
        return None

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            while self.mode == "hang":
                await asyncio.sleep(0.1)
            await asyncio.sleep(STALL if self.mode == "stall" else 0)
            writer.write(data)
            await writer.drain()
        writer.close()


@contextlib.contextmanager
def moved(place: Path) -> Iterator[None]:
    """A folder is away during the block."""
    elsewhere = place.rename(place.with_name(f"{place.name}.away"))
    try:
        yield
    finally:
        elsewhere.rename(place)


@contextlib.contextmanager
def store(proxy: Proxy, mode: str) -> Iterator[None]:
    """The store is in a mode during the block."""
    proxy.set(mode)
    try:
        yield
    finally:
        proxy.set("pass")


@contextlib.contextmanager
def killed(process: Callable[[], psutil.Process]) -> Iterator[None]:
    """A process is killed when the block begins."""
    process().kill()
    yield


def is_well(url: str) -> bool:
    """Whether a release answers, and the store too."""
    with contextlib.suppress(httpx.TransportError):
        found = httpx.get(f"{url}/health/ready", timeout=5)
        return found.status_code == 200 and found.json()["store"] == "answers"
    return False


def row(name: str, url: str, fault: "contextlib.AbstractContextManager[None]", load: Load) -> str:
    """A line of the table: the fault lasts for a half of the load."""
    sending = begin(load)
    time.sleep(load.seconds / 4)
    with fault:
        time.sleep(load.seconds / 2)
    began = time.monotonic()
    while not is_well(url):
        if time.monotonic() - began > WELL:
            break
        time.sleep(0.02)
    recovery, found = time.monotonic() - began, answers(sending)
    counts = Counter(each.error or str(each.status) for each in found)
    said = ", ".join(f"{count} × {status}" for status, count in counts.most_common())
    return f"| {name} | {said} | {max(each.seconds for each in found) * 1000:.0f} | {recovery:.1f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=20)
    parser.add_argument("--seconds", type=float, default=6, help="that a fault lasts")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    place = settings()
    with contextlib.ExitStack() as stack:
        uri = os.environ.get("MONGO_URI") or stack.enter_context(run_server(place.data / "mongo"))
        host, port = re.findall(r"(?<=[/@])([\w.]+):(\d+)(?=/)", uri)[0]
        proxy = Proxy(host, int(port))
        os.environ["MONGO_URI"] = uri.replace(f"{host}:{port}", f"127.0.0.1:{proxy.port}")
        paths = users_of_current_release()
        url, process = stack.enter_context(service(given.processes))
        load = Load(url, paths, given.rate, 2 * given.seconds)

        def first() -> psutil.Process:
            return next(iter(psutil.Process(process.pid).children()))

        faults = {
            "none": contextlib.nullcontext(),
            "MongoDB refuses connections": store(proxy, "refuse"),
            f"MongoDB is slow: {STALL:g} s for whatever it says": store(proxy, "stall"),
            "MongoDB does not answer": store(proxy, "hang"),
            "the lake is away": moved(Path(place.lake)),
            "a process that answers is killed": killed(lambda: first().children()[0]),
            "the process that looks after these is killed": killed(first),
        }
        print("| fault | answers | longest, ms | well again after, s |")
        for name, fault in faults.items():
            print(row(name, url, fault, load), flush=True)
        proxy.set("refuse")
        with service(given.processes) as (url, _):
            load = Load(url, paths, given.rate, 2 * given.seconds)
            print(row("MongoDB is away at the start", url, store(proxy, "refuse"), load))


if __name__ == "__main__":
    main()
