"""The project's own MongoDB server, used when `MONGO_URI` is not set: SecantusDB, one daemon per folder.

SecantusDB lets one process open a folder, and several write here at once (Dagster's steps), so it runs as a daemon
that all of them share. Its licence is GPL-2.0-only and it is a beta: it must stay optional, and must not hold data that
cannot be made again.

It listens on 127.0.0.1 only and asks for a password, which it draws at every start. The URI with the password is in
the file `address`, in a folder that only this user may enter: whoever can read the data may connect, and nobody else.
The password is in no argument and no environment variable. (A socket file would make it unnecessary; SecantusDB 0.7.0b3
has none.)

Three locks, which the system releases when their process dies, ensure that there is only one daemon:

* `.users`: shared by the processes that use the server. The daemon exits after it could take this lock at every poll
  for `IDLE` seconds. It keeps the lock while it exits, so a new process waits, finds no server, and starts the next.
* `.server`: held by the daemon from its very start, because it inherits the lock as its standard input. An address is
  valid only while this lock is held; one that a killed daemon left is never used.
* `.starting`: held by a process that looks for the server or starts it.
"""

import contextlib
import fcntl
import importlib.util
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from filelock import FileLock

from recsys_assets.datasets.disk import PRIVATE, Place, PlaceUnwritable, keep_private, private_folder, writing_to
from recsys_assets.datasets.folders import replacing
from recsys_assets.stores.store import StoreError, StoreUnavailable

if TYPE_CHECKING:
    from secantus import SecantusDBServer
    from secantus.commands import CommandContext

IDLE = 10  # seconds without a user after which the server ends
USER = "recsys"
STARTING = 60  # seconds within which it must answer; 0.5 is usual, more if it was killed in the middle of much writing


class NoServer(StoreError):
    """`MONGO_URI` is not set and SecantusDB is not installed."""


def require_server() -> None:
    """Raise `NoServer` if SecantusDB is not installed."""
    if importlib.util.find_spec("secantus") is None:
        how = "pip install 'recsys-assets[mongo-server]' to run one here"
        raise NoServer(f"no MongoDB: set MONGO_URI to one, or install the extra `mongo-server` ({how})")


@contextlib.contextmanager
def run_server(folder: Path) -> Iterator[str]:
    """Give the URI of the folder's server, which runs at least as long as the block; other processes share it.

    The data stay in the folder. The server's output goes to `server.log`.

    Raises:
        NoServer: SecantusDB is not installed.
        StoreUnavailable: the server does not start (the message quotes the end of its log), or the folder cannot be
            written.
    """
    require_server()
    try:
        with writing_to(Place("the folder of the project's MongoDB", folder, "RECSYS_DATA")):
            private_folder(folder)
            folder.chmod(PRIVATE)  # an older version let others in
            users = _open_file(folder / ".users")
    except PlaceUnwritable as error:
        raise StoreUnavailable(str(error)) from error
    with users:
        fcntl.flock(users, fcntl.LOCK_SH)
        yield _address(folder.absolute())


def _open_file(path: Path) -> IO[bytes]:
    """A file of the server's folder, to be locked or appended to; a link is refused."""
    return open(path, "ab", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o600))


def _address(folder: Path) -> str:
    """The URI of the server, which is started unless it is running."""
    address, deadline = folder / "address", time.monotonic() + STARTING
    with FileLock(folder / ".starting"):
        starts = int(_start(folder))
        while not address.exists():
            time.sleep(0.05)
            starts += _start(folder)  # a server that ran before, and was about to exit, is not counted
            if starts > 1 or time.monotonic() > deadline:
                said = (folder / "server.log").read_text(encoding="utf-8", errors="replace").strip()
                last = said.rpartition("\n")[2]
                raise StoreUnavailable(f"the MongoDB server of {folder} does not start; its server.log ends: {last}")
        return address.read_text(encoding="utf-8")


def _start(folder: Path) -> bool:
    """Start the server unless it is running; return whether it was started."""
    with _open_file(folder / ".server") as lock, _open_file(folder / "server.log") as log:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        (folder / "address").unlink(missing_ok=True)
        command = [sys.executable, "-m", "recsys_assets.stores.mongo.embedded", str(folder)]
        subprocess.Popen(command, stdin=lock, stdout=log, stderr=log, start_new_session=True)
        return True


def _serve(folder: Path) -> None:
    """Run the server until nobody uses it."""
    from secantus import SecantusDBServer

    keep_private()
    fix_views()
    address, password = folder / "address", secrets.token_urlsafe(32)
    # No replica set: its change log, which nobody reads here, would hold all rows again; past 100,000 of them
    # writing takes three times as long.
    server = SecantusDBServer(
        storage_path=str(folder / "data"), replica_set_name=None, enable_test_commands=False, require_auth=True
    )
    _create_user(server, password)
    with _open_file(folder / ".users") as users, server:
        with replacing(address) as coming:
            host, port = server.address
            coming.write_text(f"mongodb://{USER}:{password}@{host}:{port}/?authSource=admin", encoding="utf-8")
        _wait_until_unused(users.fileno())
        address.unlink()


def _create_user(server: "SecantusDBServer", password: str) -> None:
    """Give the user this password before the server listens, so that it asks for one from the first moment."""
    from secantus import commands

    server.storage.drop_user("admin", USER)
    context = commands.CommandContext(connection_id=0, storage=server.storage, cursors=server.cursors)
    reply = commands._HANDLERS["createUser"]({"createUser": USER, "pwd": password, "roles": ["root"]}, context)
    if not reply["ok"]:
        raise StoreError(f"SecantusDB cannot create its user: {reply['errmsg']}")


def fix_views() -> None:
    """Make `collMod` change views in this process's SecantusDB servers: 0.7.0b3 answers ok and changes nothing."""
    from secantus import commands

    original = commands._HANDLERS["collMod"]

    def coll_mod(command: dict[str, Any], context: "CommandContext") -> dict[str, Any]:
        reply: dict[str, Any] = original(command, context)
        if reply["ok"] and "viewOn" in command:
            moved = {"viewOn": command["viewOn"], "viewPipeline": command.get("pipeline", [])}
            context.storage.set_collection_options(context.db_name, command["collMod"], **moved)
        return reply

    commands._HANDLERS["collMod"] = coll_mod


def _wait_until_unused(users: int) -> None:
    """Return once nobody held the lock at any poll for `IDLE` seconds; this process then holds it."""
    unused = 0  # polls since a process held it
    while True:
        time.sleep(1)
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            unused = 0
            continue
        unused += 1
        if unused >= IDLE:
            return
        fcntl.flock(users, fcntl.LOCK_UN)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
