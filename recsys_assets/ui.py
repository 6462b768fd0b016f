"""`python -m recsys_assets.ui` (`make ui`): Dagster's UI and daemon, and MLflow's UI beside it, until Ctrl-C.

Both listen on 127.0.0.1 only; `DAGSTER_PORT` and `MLFLOW_PORT` move them. When one ends, so does the other.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from recsys_assets.settings import Settings, settings, sqlite_file

HOST = "127.0.0.1"
PORTS = {"DAGSTER_PORT": 3000, "MLFLOW_PORT": 5000}
PATIENCE = 15.0  # seconds a server has to stop by itself; Dagster takes 1 to 5


def main() -> None:
    """Start both, wait for either to end or for Ctrl-C, stop both."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    ports = {name: int(os.environ.get(name) or default) for name, default in PORTS.items()}
    for variable, port in ports.items():
        if taken(port):
            sys.exit(f"port {port} is in use: stop what listens there, or pick another: make ui {variable}=...")
    place = settings()
    environment = _environment(place, ports)
    _prepare(place, environment)
    commands = {
        f"Dagster   http://{HOST}:{ports['DAGSTER_PORT']}": _dagster(place, ports["DAGSTER_PORT"]),
        f"MLflow    http://{HOST}:{ports['MLFLOW_PORT']}": _mlflow(place, ports["MLFLOW_PORT"]),
    }
    print("\n".join(["", *commands, "", "Ready in about 10 seconds; Ctrl-C stops both.", ""]), flush=True)  # noqa: T201
    with contextlib.suppress(KeyboardInterrupt), _running(list(commands.values()), place, environment) as servers:
        while all(server.poll() is None for server in servers):
            time.sleep(0.5)


def taken(port: int) -> bool:
    """Whether something listens on the port."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _environment(place: Settings, ports: dict[str, int]) -> dict[str, str]:
    """What the servers and the runs they start see: one home, and links to where the UIs are."""
    return {
        **os.environ,
        "RECSYS_HOME": str(place.home),
        "DAGSTER_HOME": os.environ.get("DAGSTER_HOME") or str(place.home),
        "RECSYS_DAGSTER_UI": f"http://{HOST}:{ports['DAGSTER_PORT']}",
        "RECSYS_MLFLOW_UI": f"http://{HOST}:{ports['MLFLOW_PORT']}",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # no job runners: up in 7 s instead of 27
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def _prepare(place: Settings, environment: dict[str, str]) -> None:
    """Create MLflow's database before anyone uses it: two processes that initialise it at once break it."""
    place.data.mkdir(parents=True, exist_ok=True)
    database = sqlite_file(place.tracking_uri)
    if database and not database.exists():
        upgrade = [sys.executable, "-m", "mlflow", "db", "upgrade", place.tracking_uri]
        subprocess.run(upgrade, env=environment, check=True, capture_output=True)


def _dagster(place: Settings, port: int) -> list[str]:
    workspace = str(place.home / "workspace.yaml")
    return [sys.executable, "-W", "ignore", "-m", "dagster", "dev", "-w", workspace, "-h", HOST, "-p", str(port)]


def _mlflow(place: Settings, port: int) -> list[str]:
    serve = ["server", "--workers", "1", "--host", HOST, "--port", str(port)]
    return [sys.executable, "-m", "mlflow", *serve, "--backend-store-uri", place.tracking_uri]


@contextlib.contextmanager
def _running(
    commands: list[list[str]], place: Settings, environment: dict[str, str]
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The servers, each in a session of its own, so that Ctrl-C reaches them once: from here."""
    servers = [subprocess.Popen(each, cwd=place.home, env=environment, start_new_session=True) for each in commands]
    try:
        yield servers
    finally:
        for server in servers:
            server.send_signal(signal.SIGINT)
        for server in servers:
            _end(server)


def _end(server: subprocess.Popen[bytes]) -> None:
    """Wait for a server that was told to stop; then make sure of all its processes."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(PATIENCE)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
