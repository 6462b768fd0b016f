"""A failed command ends with one line; an unexpected traceback is kept in a file."""

import errno
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import click
import duckdb
import pytest
from click.testing import CliRunner, Result

from recsys_assets.cli import Commands
from recsys_assets.cli.errors import LOG
from recsys_assets.manifest import PartitionMissing
from recsys_assets_tests.helpers.dagster_dev import heed_interrupts

ERRORS = {
    "no right": (
        PermissionError(errno.EACCES, "Permission denied", "/x"),
        "Permission denied.*correct the permissions",
    ),
    "DuckDB": (duckdb.BinderException("Binder Error: no such column\n\nLINE 1: SELECT"), "no such column LINE 1"),
    "a plain one": (KeyError("splits"), "KeyError: 'splits'"),
}


def failing(error: BaseException) -> Result:
    """The result of `recsys work` when its command raises."""

    @click.command()
    def work() -> None:
        raise error

    return CliRunner().invoke(Commands("recsys", commands={"work": work}), ["work"])


def test_a_full_disk_is_one_line_that_says_to_make_room() -> None:
    result = failing(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x/y"))
    (line,) = result.output.splitlines()
    assert result.exit_code == 1
    assert re.search("is full: .*make room.*No space left on device", line)


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(("error", "says"), ERRORS.values(), ids=ERRORS)
def test_an_unexpected_error_is_one_line_that_says_what_was_done_and_where_the_traceback_is(
    error: Exception, says: str, data: Path
) -> None:
    result = failing(error)
    assert result.exit_code == 1
    (line,) = result.output.splitlines()
    assert line.startswith("Error: recsys work failed: ")
    assert line.endswith(f"the traceback is at the end of {data / LOG}")
    assert re.search(says, line)
    log = (data / LOG).read_text()
    assert "recsys work" in log and log.count("Traceback (most recent call last)") == 1 and "raise error" in log
    assert stat.S_IMODE((data / LOG).stat().st_mode) == 0o600


def test_the_traceback_goes_elsewhere_where_there_is_no_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path / "nowhere"))
    place = Path(failing(KeyError("x")).output.split()[-1])
    assert "KeyError" in place.read_text()
    place.unlink()


def test_the_traceback_keeps_no_secret(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGO_URI", "mongodb://me:sesame@h")
    result = failing(ConnectionError("mongodb://me:sesame@h is away"))
    assert "sesame" not in result.output + (data / LOG).read_text()
    assert "ConnectionError" in result.output


def test_an_error_of_the_package_says_what_it_says(data: Path) -> None:
    result = failing(PartitionMissing("users has no partition"))
    assert (result.exit_code, result.output) == (1, "Error: users has no partition\n")
    assert not (data / LOG).exists()


def test_an_interrupted_command_says_so_and_has_the_status_that_shells_give_it() -> None:
    result = failing(KeyboardInterrupt())
    assert (result.exit_code, result.output) == (130, "Error: recsys work was interrupted: run it again to continue\n")


def test_ctrl_c_in_a_run_ends_in_one_line(tmp_path: Path) -> None:
    code = (
        "import click, time; from recsys_assets.cli import main\n"
        "@main.command()\ndef wait(): print('here', flush=True); time.sleep(60)\nmain()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        preexec_fn=heed_interrupts,  # noqa: PLW1509 -- it acquires no lock that a thread could hold
    )
    assert process.stdout
    assert process.stdout.readline() == "here\n"
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said.count("\n")) == (130, 1)
    assert time.monotonic() - start < 10
