"""The tritonserver of `recsys triton serve`: its environment, and the command that starts it.

It has an environment of its own, `.triton` in the project's folder, because it needs numpy < 2: about 0.4 GB.
"""

import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock

from recsys_assets.stores.store import StoreError
from recsys_assets.uris import safe_uri

ADDRESS = "http://127.0.0.1:8500"
_REQUIREMENTS = Path(__file__).with_name("requirements.txt")
_INSTALLED = "installed.txt"  # the requirements that are installed, written last
_STUB = "triton_python_backend_stub"
_FINISH = 3  # seconds that requests have when the server ends


class NotInstalled(StoreError):
    """The server's environment could not be made; the message has pip's last line."""


def environment(home: Path) -> Path:
    """The place of the environment in the project's folder."""
    return home / ".triton"


def is_installed(place: Path) -> bool:
    """Whether the environment has what this version asks for."""
    marker = place / _INSTALLED
    return marker.exists() and marker.read_text(encoding="utf-8") == _REQUIREMENTS.read_text(encoding="utf-8")


def install(place: Path, say: Callable[[str], None]) -> None:
    """Make the environment, unless it is there; what an interrupted call left is made again.

    Raises:
        NotInstalled: pip failed.
    """
    with FileLock(place.with_name(f"{place.name}.lock")):
        if is_installed(place):
            return
        say(f"Installing Triton into {place}: 0.4 GB, about a minute")
        shutil.rmtree(place, ignore_errors=True)
        venv.create(place)
        # The project's own pip installs into it: a second pip would take longer than Triton's libraries.
        pip = [sys.executable, "-m", "pip", "--python", str(place / "bin" / "python"), "install", "--quiet"]
        options = ["--disable-pip-version-check", "--no-compile", "--requirement", str(_REQUIREMENTS)]
        done = subprocess.run([*pip, *options], capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotInstalled(f"Triton cannot be installed into {place}: {done.stderr.strip().splitlines()[-1]}")
        server = _server(place)
        stub = server / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}" / _STUB
        shutil.copy(stub, server / "backends" / "python")
        shutil.copy(_REQUIREMENTS, place / _INSTALLED)


def port_of(address: str) -> int:
    """The port of an address of this machine.

    Raises:
        StoreError: it is the address of another machine, or none.
    """
    try:
        found = urlsplit(address)
        port = found.port
    except ValueError:
        port = None
    if port is None or found.hostname not in ("127.0.0.1", "localhost"):
        raise StoreError(f"RECSYS_TRITON_URI is {safe_uri(address)}: `recsys triton serve` needs http://127.0.0.1:PORT")
    return port


def command(place: Path, repository: Path, models: list[str], port: int) -> list[str]:
    """The server's command line: it serves the models of a repository, on this machine only.

    HTTP has the port, gRPC and the metrics the two after it.
    """
    server, ports = _server(place), {"http": port, "grpc": port + 1, "metrics": port + 2}
    listen = [
        f"--{what}-{key}={value}" for what, n in ports.items() for key, value in (("address", "127.0.0.1"), ("port", n))
    ]
    return [
        str(server / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={server / 'backends'}",
        *listen,
        "--model-control-mode=explicit",
        *(f"--load-model={name}" for name in models),
        "--exit-on-error=false",  # one model that cannot be loaded must not take the others away
        "--disable-auto-complete-config",  # the configurations are complete; else each load starts another process
        f"--exit-timeout-secs={_FINISH}",
    ]


def variables(place: Path, inherited: dict[str, str]) -> dict[str, str]:
    """The server's environment variables.

    Its Python backend starts the first `python3` of PATH, and loads libpython: without the folder of this Python's own,
    it may find another build of it, whose standard library is different.
    """
    libraries = [str(sysconfig.get_config_var("LIBDIR")), str(_packages(place) / "nvidia_pytriton.libs")]
    before = [inherited["LD_LIBRARY_PATH"]] if inherited.get("LD_LIBRARY_PATH") else []
    path = f"{place / 'bin'}:{inherited.get('PATH', '')}"
    return {**inherited, "PATH": path, "LD_LIBRARY_PATH": ":".join([*libraries, *before]), "VIRTUAL_ENV": str(place)}


def _packages(place: Path) -> Path:
    return place / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def _server(place: Path) -> Path:
    return _packages(place) / "pytriton" / "tritonserver"
