"""Sends SIGKILL at random moments, and reports the processes that are left 10 s later.

    python -m recsys_assets_tests.kill_parents FOLDER ui 45        processes of `make ui` while its sensor runs days
    python -m recsys_assets_tests.kill_parents FOLDER commands 15  `recsys materialize`, `dagster asset materialize`

A process is left over when neither `make ui` nor the command is among its ancestors.
"""

import datetime as dt
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil

from recsys_assets.processes import is_alive
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.dagster_dev import free_port
from recsys_assets_tests.helpers.leftovers import Family, command, until

DAYS, WORLD = 6, ["--users", "100", "--items", "100", "--events", "3000"]
ROLES = {
    "recsys_assets.ui.webserver": "webserver",
    "dagster._daemon": "daemon",
    "code-server": "code server",
    "api grpc": "code server's process",
    "uvicorn": "mlflow's server",
    "mlflow": "mlflow",
    "multiprocessing.spawn": "run worker",
    "resource_tracker": "tracker",
    "multiprocessing.forkserver": "fork server or step",
    "recsys_assets.training": "torchrun or training",
}


def role(process: psutil.Process) -> str:
    """The role of a process, judged by its command line."""
    line = command(process)
    return next((name for part, name in ROLES.items() if part in line), "parent")


class Killing:
    """A folder with data, and the processes that work on it."""

    def __init__(self, folder: Path) -> None:
        """Land some days."""
        shutil.copy(PROJECT / "dagster.yaml", folder)
        places = {"DAGSTER_HOME": str(folder), "RECSYS_DATA": str(folder / "data"), "RECSYS_PROFILE": "sample"}
        ports = {each: str(free_port()) for each in ("SERVE_PORT", "DAGSTER_PORT", "MLFLOW_PORT")}
        pointer = {"DAGSTER_CLI_SENSOR_START_WORKSPACE": str(PROJECT / "workspace.yaml")}
        self.folder, self.family = folder, Family(**places, **ports, **pointer)
        self.chance, self.counts, self.roots = random.Random(20261128), Counter[str](), set[int]()
        self._do("recsys_assets.cli", "land", "sample", "--days", str(DAYS), *WORLD)
        self._do("dagster", "sensor", "start", "new_data_sensor")

    def _do(self, *words: str) -> None:
        subprocess.run([sys.executable, "-m", *words], env=self.family.environment, check=True, capture_output=True)

    def start(self, *words: str) -> "subprocess.Popen[bytes]":
        """Start a module whose processes will be killed."""
        with (self.folder / "terminal").open("ab") as log:
            started = subprocess.Popen(
                [sys.executable, "-m", *words], cwd=self.folder, env=self.family.environment, stdout=log, stderr=log
            )
        self.roots = {started.pid}
        return started

    def left_over(self) -> list[psutil.Process]:
        """Our processes whose ancestors do not include the started module."""
        return [each for each in self.family.alive() if not self.roots & {each.pid, *_ancestors(each)}]

    def kill(self, candidates: list[psutil.Process]) -> None:
        """Kill one of them, and count the processes that are left over 10 s later."""
        victim = self.chance.choice(candidates)
        name = role(victim)
        victim.kill()
        until(lambda: not is_alive(victim))  # until then it has children
        end = time.monotonic() + 10
        while (left := self.left_over()) and time.monotonic() < end:
            time.sleep(0.2)
        self.counts[f"{name}: {'left over' if left else 'nothing left'}"] += 1
        print(name, [command(each)[:200] for each in left], flush=True)  # noqa: T201


def _ancestors(process: psutil.Process) -> set[int]:
    try:
        return {parent.pid for parent in process.parents()}
    except psutil.NoSuchProcess:
        return set()


def kill_ui(killing: Killing, times: int) -> None:
    """Kill processes of `make ui`, and start it again whenever it has ended."""
    ui = None
    for _ in range(times):
        if ui is None or ui.poll() is not None:
            ui = killing.start("recsys_assets.ui")
            until(lambda: any(role(each) == "run worker" for each in killing.family.alive()), 300)
        time.sleep(killing.chance.uniform(0, 15))
        if ui.poll() is None:
            by_role: dict[str, list[psutil.Process]] = {}
            for each in killing.family.alive():
                by_role.setdefault(role(each), []).append(each)
            killing.kill(by_role[killing.chance.choice(sorted(by_role.keys() - {"tracker"}))])
    if ui is not None and ui.poll() is None:
        killing.kill([psutil.Process(ui.pid)])


def kill_commands(killing: Killing, times: int) -> None:
    """Kill commands, or one of their processes, some time after they have begun to work."""
    yesterday = (dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)).isoformat()
    dagster = ["dagster", "asset", "materialize", "-m", "recsys_assets.definitions", "--select", "users"]
    for number in range(times):
        words = ["recsys_assets.cli", "materialize", "+splits"] if number % 2 else [*dagster, "--partition", yesterday]
        started = killing.start(*words)
        until(lambda started=started: killing.family.steps() or started.poll() is not None, 300)  # type: ignore[misc]
        time.sleep(killing.chance.uniform(0, 3))
        victims = [each for each in killing.family.alive() if role(each) != "tracker"]
        if killing.chance.random() < 0.5:
            victims = [each for each in victims if each.pid == started.pid]
        if victims:
            killing.kill(victims)
        started.kill()
        started.wait()
        assert killing.family.left() == []


def main(folder: Path, what: str, times: int) -> None:
    """Kill processes, and print how often each role was hit and which processes were left over."""
    folder.mkdir(parents=True)
    killing = Killing(folder)
    {"ui": kill_ui, "commands": kill_commands}[what](killing, times)
    for line, count in sorted(killing.counts.items()):
        print(f"{count:3d} {line}")  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
