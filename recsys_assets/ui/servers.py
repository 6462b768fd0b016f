"""The servers of `make ui`: their commands and their environment.

They are the parts that `dagster dev` starts (a code server for each location of `workspace.yaml`, the daemon and the
web server, here ours with a guard before Dagster's app), MLflow's server, and the online service. Values that may hold
a password are passed in the environment, because everybody on the machine can read a process's arguments.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from dagster._core.remote_origin import (
    CodeLocationOrigin,
    GrpcServerCodeLocationOrigin,
    ManagedGrpcPythonEnvCodeLocationOrigin,
)
from dagster._core.workspace.load_target import WorkspaceFileTarget

from recsys_assets.settings import Settings, port
from recsys_assets.ui.webserver import HOST

# A shell uses these to name a code location to Dagster's commands; here `workspace.yaml` names it.
OTHER_LOCATIONS = [f"DAGSTER_{each}" for each in ("MODULE_NAME", "PYTHON_FILE", "PACKAGE_NAME", "ATTRIBUTE")]
OTHER_LOCATIONS += ["DAGSTER_WORKING_DIRECTORY", "DAGSTER_autoload_defs_module_name"]


@dataclass(frozen=True)
class Server:
    """One server.

    Attributes:
        name: the name shown to people; the log is named after it.
        module: the module to run, as with `python -m`.
        arguments: the module's command line.
        socket: the socket on which it listens once it is ready; later servers in the list need it.
        python: the interpreter.
    """

    name: str
    module: str
    arguments: Sequence[str]
    socket: Path | None = None
    python: str = sys.executable

    @property
    def command(self) -> list[str]:
        """The command line, wrapped so that the server ends with this process.

        A server of a different interpreter ends with it only if this package is installed there too.
        """
        tied = ["recsys_assets.processes", str(os.getpid())] if self.python == sys.executable else []
        return [self.python, "-W", "ignore", "-m", *tied, self.module, *self.arguments]


def servers(place: Settings, folder: Path) -> list[Server]:
    """All servers in the order of their start; `folder` holds their sockets and a workspace file that names these."""
    origins = WorkspaceFileTarget(paths=[str(place.home / "workspace.yaml")]).create_origins()
    sockets = {origin.location_name: folder / str(number) for number, origin in enumerate(origins)}
    managed = [origin for origin in origins if isinstance(origin, ManagedGrpcPythonEnvCodeLocationOrigin)]
    workspace = folder / "workspace.yaml"
    locations = [{"grpc_server": _address(origin, sockets[origin.location_name])} for origin in origins]
    workspace.write_text(yaml.safe_dump({"load_from": locations}), encoding="utf-8")
    codes = [_code_server(origin, sockets[origin.location_name]) for origin in managed]
    daemon = Server("daemon", "dagster._daemon", ["run", "-w", str(workspace)])
    webserver = Server("webserver", "recsys_assets.ui.webserver", [str(workspace), str(port("DAGSTER_PORT"))])
    service = Server("service", "recsys_assets.cli", ["serve", "--port", str(port("SERVE_PORT")), "--processes", "1"])
    return [*([mlflow_server()] if is_local(place) else []), *codes, daemon, webserver, service]


def is_local(place: Settings) -> bool:
    """Whether trainings are tracked in a database; a tracking server has a UI of its own."""
    return not place.tracking_uri.startswith(("http://", "https://"))


def environment(place: Settings) -> dict[str, str]:
    """Environment of the servers and their runs: one home, the URLs of the UIs, no other code location."""
    return {
        **{name: value for name, value in os.environ.items() if name not in OTHER_LOCATIONS},
        "RECSYS_HOME": str(place.home),
        "DAGSTER_HOME": os.environ.get("DAGSTER_HOME") or str(place.home),
        "DAGSTER_IS_DEV_CLI": "1",  # short error messages, as `dagster dev` sets it
        "RECSYS_DAGSTER_UI": place.dagster_ui,
        "RECSYS_MLFLOW_UI": place.tracking_ui,
        "MLFLOW_TRACKING_URI": place.tracking_uri,
        "MLFLOW_BACKEND_STORE_URI": place.tracking_uri,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # without job runners it starts in 7 s instead of 27 s
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def mlflow_server() -> Server:
    """MLflow's server, which itself refuses other hosts and sites; the environment names its database."""
    return Server("mlflow", "mlflow", ["server", "--workers", "1", "--host", HOST, "--port", str(port("MLFLOW_PORT"))])


def _code_server(origin: ManagedGrpcPythonEnvCodeLocationOrigin, socket: Path) -> Server:
    """A code server, which "Reload" in the UI restarts; it also loads `.env`."""
    target, name = origin.loadable_target_origin, origin.location_name
    arguments = ["code-server", "start", "--socket", str(socket), "--location-name", name]
    arguments += ["--log-level", "warning", "--inject-env-vars-from-instance", *target.get_cli_args()]
    return Server(f"code server {name}", "dagster", arguments, socket, target.executable_path or sys.executable)


def _address(origin: CodeLocationOrigin, socket: Path) -> dict[str, Any]:
    """The address of a location's code server: ours, or the one that `workspace.yaml` names."""
    if isinstance(origin, GrpcServerCodeLocationOrigin):
        ports = {"port": origin.port, "socket": origin.socket, "ssl": origin.use_ssl}
        found = {"host": origin.host, **ports, "additional_metadata": origin.additional_metadata}
    else:
        found = {"socket": str(socket), "additional_metadata": origin.loadable_target_origin.as_dict}
    return {"location_name": origin.location_name, **{name: value for name, value in found.items() if value}}
