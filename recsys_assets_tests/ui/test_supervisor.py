import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from recsys_assets.ui import supervisor
from recsys_assets.ui.servers import Server
from recsys_assets.ui.supervisor import ServerEnded, Supervisor
from recsys_assets_tests.helpers.leftovers import Family, until

# A code server's proxy, which listens once the process that holds the code is running.
PROXY = """
import subprocess, sys, time
from pathlib import Path
code = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
Path(sys.argv[1]).touch()
time.sleep(600)
"""
CLOCK = Server("clock", "http.server", ["--bind", "127.0.0.1", "0"])


@pytest.fixture
def family(tmp_path: Path) -> Family:
    (tmp_path / "proxy.py").write_text(PROXY)
    return Family(PYTHONPATH=f"{tmp_path}:{':'.join(sys.path)}")


@pytest.fixture
def supervised(tmp_path: Path, family: Family) -> Iterator[Supervisor]:
    with Supervisor(tmp_path / "logs", tmp_path, family.environment) as supervised:
        yield supervised
    assert family.left(5) == []  # a child that was killed takes a moment to end


def test_a_server_that_ends_soon_after_its_start_is_named_with_its_end_and_its_log(supervised: Supervisor) -> None:
    supervised.start(CLOCK)
    supervised.running[0].process.kill()
    with pytest.raises(ServerEnded, match=r"^clock was killed by SIGKILL \(log: .*/logs/clock\.log\)$"):
        supervised.keep_running()


def test_a_server_that_cannot_start_is_named_with_its_last_words(supervised: Supervisor) -> None:
    supervised.start(Server("no server", "recsys_assets.not_there", []))
    words = r"^no server ended with status 1, saying: .*recsys_assets\.not_there.*/logs/no-server\.log\)$"
    with pytest.raises(ServerEnded, match=words):
        supervised.keep_running()


def test_a_server_that_ran_for_a_while_is_started_again_with_a_note(
    supervised: Supervisor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(supervisor, "STEADY", 0.0)
    supervised.start(CLOCK)
    first = supervised.running[0].process
    assert until(lambda: psutil.Process(first.pid).net_connections())  # it has started, and so handles signals
    first.send_signal(signal.SIGTERM)
    first.wait(timeout=30)
    supervised.look_after()
    assert supervised.running[0].process.pid != first.pid
    assert supervised.running[0].process.poll() is None
    assert re.match(r"\d\d:\d\d:\d\d clock was ended by SIGTERM.*; it is started again\n", capsys.readouterr().out)


def test_a_code_server_is_started_again_when_only_its_inner_process_died(
    supervised: Supervisor, family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "STEADY", 0.0)
    supervised.start(Server("code server", "proxy", [str(tmp_path / "socket")], tmp_path / "socket"))
    outer = supervised.running[0].process
    (inner,) = [each for each in family.alive() if each.ppid() == outer.pid]
    inner.kill()
    supervised.look_after()
    assert supervised.running[0].process.pid != outer.pid
    assert until(lambda: len(family.alive()) == 2)  # the new proxy and its code, and no earlier process


def test_the_log_of_the_time_before_is_kept_once(tmp_path: Path) -> None:
    (tmp_path / "clock.log").write_text("before")
    (tmp_path / "clock.log.1").write_text("long ago")
    Supervisor(tmp_path, tmp_path, {})
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("clock.log.1", "before")]
