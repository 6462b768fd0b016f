"""Real MongoDB servers that tests can kill, starve and cut off: SecantusDB daemons, and a proxy in front of one."""

import contextlib
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

SERVER = "from recsys_assets.stores.mongo.embedded import fix_views; from secantus.cli import main; fix_views(); main()"
STARTING = 60  # seconds within which a server must listen


class Daemon:
    """A SecantusDB process for a folder, on a free port that stays the same after a restart."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.place = f"127.0.0.1:{self.port}"
        self.uri = f"mongodb://{self.place}/?directConnection=true"

    def start(self, *options: str, largest_file: int | None = None) -> None:
        """Start the server and wait until it listens; none of its files can grow beyond `largest_file` bytes."""
        command = [sys.executable, "-c", SERVER, "--port", str(self.port), "--storage-path", str(self.folder)]
        with self.folder.with_suffix(".log").open("ab") as log:
            self.process = subprocess.Popen([*command, *options], stdout=log, stderr=log)
        if largest_file:
            resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (largest_file, largest_file))
        deadline = time.monotonic() + STARTING
        while not self._listens():
            assert self.process.poll() is None, self.folder.with_suffix(".log").read_text()[-1000:]
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def _listens(self) -> bool:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", self.port)).close()
            return True
        return False

    def kill(self) -> None:
        """End the server with SIGKILL, like a crash."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def daemon(folder: Path, *options: str, largest_file: int | None = None) -> Iterator[Daemon]:
    """A running server, which ends with the block."""
    server = Daemon(folder)
    server.start(*options, largest_file=largest_file)
    try:
        yield server
    finally:
        server.kill()


class Proxy(threading.Thread):
    """Forwards bytes to a server until `left` bytes of clients, over all connections, have been forwarded.

    Then it goes silent (`stalls`), or cuts all present and later connections.
    """

    def __init__(self, port: int, left: int, stalls: bool) -> None:
        super().__init__(daemon=True)
        self.port, self.left, self.stalls = port, left, stalls
        self.passed_on = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.uri = f"mongodb://127.0.0.1:{self._listening.getsockname()[1]}/?directConnection=true"
        self._open: list[socket.socket] = [self._listening]

    def run(self) -> None:
        """Accept connections until closed."""
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self.port))
                self._open += [client, server]
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=(source, target, source is client), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, counts: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if self.left <= 0:
                    if not self.stalls:
                        break
                    continue
                target.sendall(data)
                if counts:
                    self.left -= len(data)
                    self.passed_on += len(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Cut all connections."""
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
