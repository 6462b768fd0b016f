"""10 s after SIGKILL of a parent, none of our processes is left. The commands and servers are the real ones."""

import shutil
import subprocess
import sys
from pathlib import Path

from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.leftovers import Family, until

PARENT = """
import os, subprocess, sys, time
tied = [sys.executable, "-m", "recsys_assets.processes", str(os.getpid()), "{module}"]
subprocess.Popen(tied, start_new_session=True)
time.sleep(600)
"""
SERVER = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
time.sleep(600)
"""
SLEEPING = """
import time
import dagster as dg
from recsys_assets.executor import step_executor

@dg.asset
def sleeper() -> None:
    time.sleep(600)

defs = dg.Definitions(assets=[sleeper], executor=step_executor)
"""


def test_a_server_ends_with_all_its_processes_when_the_one_that_started_it_is_killed(tmp_path: Path) -> None:
    (tmp_path / "a_server.py").write_text(SERVER)
    family = Family(PYTHONPATH=f"{tmp_path}:{PROJECT}")
    parent = subprocess.Popen([sys.executable, "-c", PARENT.format(module="a_server")], env=family.environment)
    until(lambda: len(family.alive()) == 3)
    parent.kill()
    parent.wait()
    assert family.left() == []


def test_a_server_whose_parent_is_gone_already_ends_at_once(tmp_path: Path) -> None:
    (tmp_path / "a_server.py").write_text(SERVER)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    tied = [sys.executable, "-m", "recsys_assets.processes", str(gone.pid), "a_server"]
    family = Family(PYTHONPATH=f"{tmp_path}:{PROJECT}")
    subprocess.run(tied, env=family.environment, start_new_session=True, check=False, timeout=30)
    assert family.left() == []


def test_a_killed_materialization_leaves_no_step_at_work(tmp_path: Path) -> None:
    shutil.copy(PROJECT / "dagster.yaml", tmp_path)
    (tmp_path / "sleeping.py").write_text(SLEEPING)
    family = Family(PYTHONPATH=f"{tmp_path}:{PROJECT}", DAGSTER_HOME=str(tmp_path))
    words = ["asset", "materialize", "-m", "sleeping", "--select", "sleeper"]
    with (tmp_path / "log").open("wb") as log:
        started = [sys.executable, "-m", "dagster", *words]
        running = subprocess.Popen(started, env=family.environment, stdout=log, stderr=log)
    until(family.steps, 300)
    running.kill()
    running.wait()
    assert family.left() == []
