"""The running service of a deployment: it follows the record, and commands start it, wait for it and stop it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from filelock import FileLock, Timeout

from recsys_assets.serving.deployed.record import FILE, Deployment, Home, Version
from recsys_assets.serving.limits import Limits
from recsys_assets.serving.order import LOOK, Release
from recsys_assets.serving.releases import ANSWERS
from recsys_assets.serving.supervise import refuse_taken, supervise
from recsys_assets.serving.supervisor import Supervisor

KIND = "recsys_assets.serving.deployed.towers:KIND"
LOCK, PID = "service.lock", "service.pid"
PATIENCE = 120.0  # seconds that a version has to answer: libraries load in 3 s, on a busy machine in 30 s
_SAID = 2000  # characters of the log's end in an error


class DeploymentFailed(RuntimeError):
    """A version does not answer; the message has the end of the service's log, and what answers instead."""


class AlreadyRuns(RuntimeError):
    """The service of the deployment runs already."""


class Follower:
    """Knows the version that shall answer, from the record of a deployment, as `Lookout` knows that of a store."""

    store = ANSWERS

    def __init__(self, home: Home) -> None:
        self._home, self._file = home, home.folder / FILE
        self._seen = (0, 0)
        self.version = home.read().version

    @property
    def newest(self) -> Release:
        """The files of the version that shall answer."""
        return self.version.release

    def look(self, supervisor: Supervisor) -> None:
        """Read the record again if it was replaced; the next generation runs as its version says."""
        with contextlib.suppress(FileNotFoundError):  # the deployment is being deleted: this process is told next
            found = self._file.stat()
            if (state := (found.st_mtime_ns, found.st_ino)) != self._seen:
                self.version, self._seen = self._home.read().version, state
        supervisor.processes, supervisor.memory = self.version.config.processes, self.version.config.memory


def run(home: Home) -> None:
    """Answer until Ctrl-C or SIGTERM.

    Raises:
        NoDeployment: there is no such deployment.
        AlreadyRuns: its service runs.
        PortInUse: something else listens on its port.
    """
    deployment = home.read()
    Limits.read(os.environ)  # a wrong one is reported here
    try:
        with FileLock(home.folder / LOCK, timeout=0):
            refuse_taken(deployment.port)
            (home.folder / PID).write_text(str(os.getpid()), encoding="ascii")
            follower = Follower(home)
            supervise(follower, deployment.port, home.copies, kind=KIND, before_look=follower.look)
    except Timeout:
        raise AlreadyRuns(f"{home.name} runs already: `recsys deploy describe {home.name}`") from None


def runs(home: Home) -> bool:
    """Whether the service runs."""
    if not home.exists:
        return False
    with contextlib.suppress(Timeout), FileLock(home.folder / LOCK, timeout=0):
        return False
    return True


def start(home: Home) -> None:
    """Start the service as a process of its own, which goes on when the command has ended."""
    command = [sys.executable, "-m", "recsys_assets.cli", "deploy", "run", home.name]
    with home.log.open("ab") as log:
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def stop(home: Home) -> None:
    """End the service, if it runs, when its requests are answered."""
    if runs(home):
        os.kill(int((home.folder / PID).read_text(encoding="ascii")), signal.SIGTERM)
        FileLock(home.folder / LOCK).acquire(timeout=PATIENCE).lock.release()


def bring_up(home: Home, deployment: Deployment) -> None:
    """Write the record, and wait until its version answers; the service is started if it does not run.

    Raises:
        DeploymentFailed: it does not. The record is then as it was before, and what answered goes on.
    """
    before = home.read() if home.exists else None
    home.write(deployment)
    past = home.log.stat().st_size if home.log.exists() else 0
    started = not runs(home)
    if started:
        start(home)
    if refusal := _refusal(home, deployment, started, past):
        if before:
            home.write(before)
        else:
            stop(home)
            home.remove()
        stays = f"; version {before.current} of {before.version.release.bizdate} stays" if before else ""
        raise DeploymentFailed(f"version {deployment.current} of {home.name} does not answer{stays}: {refusal}")


def state(deployment: Deployment) -> dict[str, object] | None:
    """The service's own words on what answers; None if nothing answers at the port of the deployment."""
    token = os.environ.get("RECSYS_SERVE_TOKEN", "")
    asked = Request(  # noqa: S310  (an address of this machine)
        f"{address(deployment)}/health/ready", headers={"authorization": f"Bearer {token}"} if token else {}
    )
    try:
        with urlopen(asked, timeout=5.0) as answer:  # noqa: S310
            return dict(json.load(answer))
    except HTTPError as error:
        return dict(json.load(error))
    except (URLError, ConnectionError, TimeoutError):
        return None


def address(deployment: Deployment) -> str:
    """Where the deployment answers."""
    return f"http://127.0.0.1:{deployment.port}"


def _refusal(home: Home, deployment: Deployment, started: bool, past: int) -> str:
    """Why the version does not answer, with the log since a size; empty once it does."""
    end, begun = time.monotonic() + PATIENCE, not started
    while time.monotonic() < end:
        said = state(deployment) or {}
        if said.get("release") == deployment.current:
            return ""
        begun = begun or runs(home)
        log = _log_since(home.log, past)
        if said.get("refused") == deployment.current or f"release {deployment.current} of" in log:
            return log
        if (begun and not runs(home)) or log.startswith("Error: "):
            return log or "its service ended"
        time.sleep(LOOK)
    return f"not within {PATIENCE:.0f} s; {_log_since(home.log, past)}"


def _log_since(log: Path, past: int) -> str:
    """The end of what the log says since it had a size."""
    with contextlib.suppress(FileNotFoundError), log.open("rb") as file:
        file.seek(past)
        return file.read().decode(errors="replace").strip()[-_SAID:]
    return ""


def described(home: Home, deployment: Deployment) -> dict[str, object]:
    """The deployment as `recsys deploy describe` shows it."""
    said = state(deployment) if runs(home) else None
    return {
        "name": deployment.name,
        "address": address(deployment),
        "runs": said is not None,
        "answers": said and {"version": said.get("release"), "bizdate": said.get("bizdate")},
        "current": deployment.current,
        "versions": list(map(_version, deployment.versions)),
        "log": str(home.log),
    }


def _version(each: Version) -> dict[str, object]:
    config = each.config
    about = {"version": each.release.number, "bizdate": each.release.bizdate, "model": config.model}
    return {**about, "processes": config.processes, "memory": config.memory}
