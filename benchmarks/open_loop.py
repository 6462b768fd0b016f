"""An open loop of requests: each is sent when it is due, whether earlier ones were answered or not.

Its time counts from when it was due, so that waiting counts: a server that stalls does not slow its own measurement.
`serving_load.py` and `serving_faults.py` run this file in a process of its own. A line of JSON says what to send; it
prints one for each answer.
"""

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import aiohttp
import numpy as np


@dataclass(frozen=True)
class Load:
    """Requests to send.

    Attributes:
        url: of the service.
        paths: to ask for, drawn at random.
        rate: requests a second, at random times (a Poisson process).
        seconds: for how long.
        seed: of the draws.
        limit: seconds after which a request is given up.
        bodies: JSON to send to the path at the same place; if there are none, the paths are asked for with GET.
    """

    url: str
    paths: Sequence[str]
    rate: float
    seconds: float
    seed: int = 1
    limit: float = 30.0
    bodies: Sequence[str] = ()


@dataclass(frozen=True)
class Answer:
    """An answer.

    Attributes:
        due: seconds after the start at which it was to be sent.
        late: seconds later that it was sent: the fault of this program, if it is more than a moment.
        seconds: from when it was due to its end.
        status: of HTTP; 0 if there was no answer.
        release: that it names; 0 if it names none.
        error: the kind of error, if there was no answer.
    """

    due: float
    late: float
    seconds: float
    status: int
    release: int = 0
    error: str = ""


def begin(load: Load) -> "subprocess.Popen[str]":
    """Send requests from another process; `answers` waits for it."""
    process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if process.stdin:
        process.stdin.write(json.dumps(asdict(load)) + "\n")
        process.stdin.flush()
    return process


def answers(process: "subprocess.Popen[str]") -> list[Answer]:
    """The answers to the requests of a process that `begin` started."""
    return [Answer(**json.loads(line)) for line in process.communicate()[0].splitlines()]


def milliseconds(found: Sequence[Answer]) -> dict[str, float]:
    """Percentiles of the times of answers, in milliseconds; refusals, which are faster, are not among them."""
    times = [each.seconds * 1000 for each in found if each.status == 200] or [float("nan")]
    shares = {"p50": 50, "p90": 90, "p99": 99, "p99.9": 99.9, "max": 100}
    return {name: round(float(np.percentile(times, share)), 1) for name, share in shares.items()}


async def _send_all(load: Load) -> list[Answer]:
    draw = random.Random(load.seed)
    due, tasks = 0.0, []
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(load.limit)
    async with aiohttp.ClientSession(load.url, connector=connector, timeout=timeout) as session:
        began = time.perf_counter()
        while (due := due + draw.expovariate(load.rate)) < load.seconds:
            await asyncio.sleep(max(0.0, began + due - time.perf_counter()))
            place = draw.randrange(len(load.paths))
            body = load.bodies[place] if load.bodies else None
            tasks.append(asyncio.create_task(_send(session, load.paths[place], body, began, due)))
        return list(await asyncio.gather(*tasks))


async def _send(session: aiohttp.ClientSession, path: str, body: str | None, began: float, due: float) -> Answer:
    method = "GET" if body is None else "POST"
    headers = {} if body is None else {"Content-Type": "application/json"}
    late, status, release, error = time.perf_counter() - began - due, 0, 0, ""
    try:
        async with session.request(method, path, data=body, headers=headers) as response:
            answered = await response.read()
            status = response.status
            release = json.loads(answered).get("release", 0) if status == 200 else 0
    except (aiohttp.ClientError, TimeoutError) as fault:
        error = type(fault).__name__
    return Answer(due, late, time.perf_counter() - began - due, status, release, error)


if __name__ == "__main__":
    for each in asyncio.run(_send_all(Load(**json.loads(sys.stdin.readline())))):
        sys.stdout.write(json.dumps(asdict(each)) + "\n")
    sys.stdout.flush()
