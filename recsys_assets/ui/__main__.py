"""`make ui`: start all servers, keep them running, stop them together.

They listen on 127.0.0.1 only; `SERVE_PORT`, `DAGSTER_PORT` and `MLFLOW_PORT` choose other ports. Each server writes its
own log; the terminal shows only starts and failures.
"""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from recsys_assets.datasets.disk import DAGSTER_HISTORY, keep_private, private_folder
from recsys_assets.guard import LOCAL, is_taken
from recsys_assets.settings import PORTS, NoPort, Settings, port, settings, sqlite_file
from recsys_assets.ui.servers import environment, is_local, servers
from recsys_assets.ui.supervisor import ServerEnded, Supervisor, say


def main() -> None:
    """Run until Ctrl-C, or until a server cannot be kept running."""
    keep_private()
    for stop in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, lambda *_: sys.exit(0))
    try:
        _run(settings())
    except KeyboardInterrupt:
        return
    except (NoPort, ServerEnded) as error:
        sys.exit(str(error))


def _run(place: Settings) -> None:
    ports = {variable: port(variable) for variable in PORTS if variable != "MLFLOW_PORT" or is_local(place)}
    for variable, number in ports.items():
        if is_taken(number):
            sys.exit(f"port {number} is in use: stop what listens there, or pick another: make ui {variable}=...")
    seen = environment(place)
    private_folder(place.data)
    _create_database(place, seen)
    logs = Path(seen["DAGSTER_HOME"]) / DAGSTER_HISTORY / "ui"
    with tempfile.TemporaryDirectory(prefix="recsys-ui-") as folder, Supervisor(logs, place.home, seen) as supervisor:
        for server in servers(place, Path(folder)):
            supervisor.start(server)
        mlflow = place.tracking_ui if is_local(place) else "the server that MLFLOW_TRACKING_URI names"
        lists = f"http://{LOCAL[0]}:{ports['SERVE_PORT']} (once there is a release)"
        say(f"\nLists     {lists}\nDagster   {place.dagster_ui}\nMLflow    {mlflow}")
        say(f"logs      {logs}\n\nCtrl-C stops them.\n")
        supervisor.keep_running()


def _create_database(place: Settings, seen: dict[str, str]) -> None:
    """Create MLflow's database before any server uses it: two processes that create it at the same time break it."""
    database = sqlite_file(place.tracking_uri)
    if database is None or database.exists():
        return
    first_use = [sys.executable, "-c", "import mlflow; mlflow.search_experiments()"]
    made = subprocess.run(first_use, env=seen, check=False, capture_output=True, text=True)
    if made.returncode != 0:
        said = made.stderr.strip().rpartition("\n")[2]
        raise ServerEnded(f"MLflow's database {database} cannot be created: {said}")


if __name__ == "__main__":
    main()
