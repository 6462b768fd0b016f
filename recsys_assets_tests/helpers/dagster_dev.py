"""Runs `dagster dev` of this project in its own folder, and uses it as its UI does: through GraphQL."""

import contextlib
import dataclasses
import datetime as dt
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import requests
import yaml

from recsys_assets.datasets.landing import land
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.lake import Lake
from recsys_assets.partitions import days
from recsys_assets.settings import settings
from recsys_assets_tests.conftest import PROJECT

REPOSITORY = {"repositoryLocationName": "recsys_assets", "repositoryName": "__repository__"}
QUICK_SENSORS = "recsys_assets_tests.helpers.quick_sensors"
QUICK_DAEMON = "recsys_assets_tests.helpers.quick_daemon"
OUR_PLACES = ("RECSYS_LANDING", "RECSYS_LAKE", "RECSYS_PROFILE", "MLFLOW_TRACKING_URI", "RECSYS_HOME")
ENDED = ("SUCCESS", "FAILURE", "CANCELED")
# The assets that are backfilled: one recall method from landing files to hit rate. The sensor's run builds all assets.
LINE = [
    "hitrate_itemcf",
    "i2i_itemcf",
    "interactions",
    "items",
    "recall_samples",
    "splits",
    "users",
]
T = TypeVar("T")


class DagsterDev:
    """The servers, their home, and their data."""

    def __init__(self, folder: Path) -> None:
        """Prepare a home and data under `folder` without starting anything."""
        self.home, self.data = folder / "home", folder / "data"
        self.home.mkdir()
        instance = yaml.safe_load((PROJECT / "dagster.yaml").read_text(encoding="utf-8"))
        instance["instance_class"]["module"] = QUICK_DAEMON
        (self.home / "dagster.yaml").write_text(yaml.safe_dump(instance), encoding="utf-8")
        workspace = yaml.safe_load((PROJECT / "workspace.yaml").read_text(encoding="utf-8"))
        (location,) = workspace["load_from"]
        location["python_module"] |= {"module_name": QUICK_SENSORS, "working_directory": str(PROJECT)}
        (self.home / "workspace.yaml").write_text(yaml.safe_dump(workspace), encoding="utf-8")
        self.lake = Lake(str(self.data / "lake"), "sample")
        self.port = free_port()
        kept = {name: value for name, value in os.environ.items() if name not in OUR_PLACES}
        self.environment = {**kept, "DAGSTER_HOME": str(self.home), "RECSYS_DATA": str(self.data)}

    @property
    def profile(self) -> Profile:
        """The sample's profile, with its landing folder under `data`."""
        return load_profile("sample", dataclasses.replace(settings(), landing=self.data / "landing"))

    def land(self, first: str, last: str) -> None:
        """Land days of a small generated data set, as `recsys land sample --users 200 …` does."""
        span = dt.date.fromisoformat(first), dt.date.fromisoformat(last)
        land(self.profile, None, *span, users=200, items=150, events=6_000)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start `dagster dev` and wait until it has loaded the definitions; stop all its processes at the end."""
        command = [sys.executable, "-m", "dagster", "dev", "-w", str(self.home / "workspace.yaml")]
        command += ["-h", "127.0.0.1", "-p", str(self.port), "--log-level", "warning"]
        with (self.home / "dev.log").open("w") as log:
            process = subprocess.Popen(
                command,
                cwd=PROJECT,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=heed_interrupts,  # noqa: PLW1509 -- it acquires no lock that a thread could hold
            )
        try:
            self.until("the definitions are loaded", 180, self._loaded)
            yield
        finally:
            stop(process)

    def ask(self, query: str, **variables: Any) -> Any:
        """The value of the only field that the query requests."""
        answer = requests.post(
            f"http://127.0.0.1:{self.port}/graphql", json={"query": query, "variables": variables}, timeout=60
        ).json()
        assert not answer.get("errors"), answer["errors"]
        (content,) = answer["data"].values()
        return content

    def until(self, what: str, seconds: float, found: Callable[[], T | None]) -> T:
        """Wait until `found` returns something true, and return that.

        `seconds` is what it takes at most on two idle cores; a busy machine is given five times as long.
        """
        end = time.monotonic() + 5 * seconds
        while (result := found()) is None:
            assert time.monotonic() < end, f"not within {5 * seconds:.0f} s: {what}\n{self.log()}"
            time.sleep(1)
        return result

    def log(self) -> str:
        """The end of the servers' log."""
        return (self.home / "dev.log").read_text(encoding="utf-8")[-5000:]

    def assets(self) -> list[str]:
        """Every asset of the code location."""
        return [node["assetKey"]["path"][0] for node in self.ask("{ assetNodes { assetKey { path } } }")]

    def backfill(self, assets: Sequence[str], days: Sequence[str]) -> str:
        """Launch a backfill as the UI's "Materialize" does for several partitions; returns its id."""
        launched = self.ask(
            """mutation ($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
                __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }""",
            params={"assetSelection": [{"path": [asset]} for asset in assets], "partitionNames": list(days)},
        )
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        return str(launched["backfillId"])

    def backfill_ended(self, backfill: str) -> str | None:
        """The status with which the backfill ended; None while it is running."""
        found = self.ask(
            """query ($id: String!) { partitionBackfillOrError(backfillId: $id) {
                ... on PartitionBackfill { status } } }""",
            id=backfill,
        )
        return None if found["status"] == "REQUESTED" else str(found["status"])

    def runs(self, tag: str, value: str) -> list[dict[str, Any]]:
        """Runs with the tag, oldest first; their tags as a mapping, and their `days` and `assets`."""
        found = self.ask(
            """query ($tags: [ExecutionTag!]) { runsOrError(filter: {tags: $tags}) { ... on Runs { results {
                runId status startTime endTime jobName tags { key value } assetSelection { path } } } } }""",
            tags=[{"key": tag, "value": value}],
        )["results"]
        return [_described(run) for run in reversed(found)]

    def runs_ended(self, tag: str, value: str) -> list[dict[str, Any]] | None:
        """Wait until there are runs with the tag and all of them have ended; returns them."""
        runs = self.runs(tag, value)
        return runs if runs and all(run["status"] in ENDED for run in runs) else None

    def cancel(self, runs: Sequence[dict[str, Any]]) -> None:
        """Terminate runs and wait for their end."""
        for run in runs:
            self.ask("mutation ($id: String!) { terminateRun(runId: $id) { __typename } }", id=run["runId"])
        for run in runs:
            self.until("the run is cancelled", 60, partial(self._ended, run["runId"]))

    def _ended(self, run_id: str) -> bool | None:
        run = self.ask("query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }", id=run_id)
        return run["status"] in ENDED or None

    def _loaded(self) -> bool | None:
        with contextlib.suppress(requests.ConnectionError):
            workspace = self.ask(
                "{ workspaceOrError { ... on Workspace { locationEntries { loadStatus locationOrLoadError {"
                "__typename ... on PythonError { message } } } } } }"
            )
            states = [(entry["loadStatus"], entry["locationOrLoadError"]) for entry in workspace["locationEntries"]]
            if all(status == "LOADED" for status, _ in states):
                wrong = [location for _, location in states if location["__typename"] != "RepositoryLocation"]
                assert not wrong, wrong
                return True
        return None


def _described(run: dict[str, Any]) -> dict[str, Any]:
    tags = {tag["key"]: tag["value"] for tag in run["tags"]}
    first = tags.get("dagster/asset_partition_range_start") or tags["dagster/partition"]
    last = tags.get("dagster/asset_partition_range_end") or tags["dagster/partition"]
    assets = [key["path"][0] for key in run["assetSelection"] or []]
    return {
        **run,
        "tags": tags,
        "assets": assets,
        "days": days(dt.date.fromisoformat(first), dt.date.fromisoformat(last)),
    }


@dataclass(frozen=True)
class Backfilled:
    """A platform on which two backfills have run.

    Attributes:
        dev: the running servers.
        ingested: days for which only `interactions` was backfilled, with the id of that backfill.
        days: the two days after them, for which `LINE` was backfilled, with the id of that backfill.
        coming: the two days after them, which have not landed; the last is yesterday.
    """

    dev: DagsterDev
    ingested: list[str]
    ingestion: str
    days: list[str]
    backfill: str
    coming: list[str]


def backfilled(dev: DagsterDev) -> Backfilled:
    """Land all days but the last two, backfill `interactions` for the first ones and `LINE` for the next two."""
    today = dt.datetime.now(dt.UTC).date()
    known = days(today - dt.timedelta(days=30), today - dt.timedelta(days=1))
    ingested, two, coming = known[:-4], known[-4:-2], known[-2:]
    dev.land(known[0], two[-1])
    ingestion = dev.backfill(["interactions"], ingested)
    dev.until("the days before are ingested", 120, lambda: dev.runs_ended("dagster/backfill", ingestion))
    backfill = dev.backfill(LINE, two)
    dev.until("two days are backfilled", 900, lambda: dev.backfill_ended(backfill))
    return Backfilled(dev, ingested, ingestion, two, backfill, coming)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask the servers to end, then kill what is left of their session."""
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=60)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def heed_interrupts() -> None:
    """Restore SIGINT, which a shell makes its background commands and their children ignore."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def free_port() -> int:
    """A port on which no process listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
