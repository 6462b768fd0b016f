"""The project's own MongoDB server: one for all processes, running only while it is needed."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from recsys_assets.stores.mongo import embedded
from recsys_assets.stores.mongo.store import MongoStore
from recsys_assets.stores.store import StoreUnavailable
from recsys_assets_tests.helpers.publishing import publish
from recsys_assets_tests.helpers.store_contract import NEW, no_gate, rows

USE = """
import sys
from pathlib import Path
from pymongo import MongoClient
from recsys_assets.stores.mongo.embedded import run_server
with run_server(Path(sys.argv[1])) as uri, MongoClient(uri) as client:
    client["shop"]["visits"].insert_one({})
    print(uri, flush=True)
    sys.stdin.read()
"""


def use(folder: Path) -> "subprocess.Popen[str]":
    """Start a process that uses the server until its input is closed."""
    command = [sys.executable, "-c", USE, str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def daemons(folder: Path) -> list[psutil.Process]:
    """The running servers of a folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        called = process.info["cmdline"] or []
        if called[1:] == ["-m", embedded.__name__, str(folder)] and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def visits(uri: str) -> int:
    with MongoClient[dict[str, Any]](uri) as client:
        return client["shop"]["visits"].count_documents({})


def test_processes_share_a_server_that_ends_after_the_last_one_and_keeps_its_data(tmp_path: Path) -> None:
    users = [use(tmp_path) for _ in range(3)]
    uris = {user.stdout.readline().strip() for user in users if user.stdout}
    assert len(uris) == len(daemons(tmp_path)) == 1
    users[0].kill()  # its lock goes with it
    for user in users:
        user.communicate()
    deadline = time.monotonic() + embedded.IDLE + 20
    while daemons(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert not (tmp_path / "address").exists()
    with embedded.run_server(tmp_path) as uri:
        assert visits(uri) == 3
        (server,) = daemons(tmp_path)
    server.kill()


def test_a_killed_server_is_replaced_and_what_was_published_is_there(tmp_path: Path) -> None:
    with embedded.run_server(tmp_path) as uri:
        with MongoStore(uri, "shop") as store:
            publish(store, "user", NEW, rows(), no_gate, keep=2)
        (server,) = daemons(tmp_path)
        server.kill()
        server.wait()
        with embedded.run_server(tmp_path) as other, MongoStore(other, "shop") as again:
            assert other != uri
            assert again.read("user", ["7"]).equals(rows().take([7]))
            (server,) = daemons(tmp_path)
    server.kill()


def test_who_does_not_know_the_password_is_not_let_in_and_it_stands_in_one_private_file(tmp_path: Path) -> None:
    (tmp_path / "mongo").mkdir(mode=0o755)  # as an older version created it
    with embedded.run_server(tmp_path / "mongo") as uri:
        password, place = re.findall(r"//recsys:(\S{40,})@(.*)/\?", uri)[0]
        for wrong in (f"mongodb://{place}/", f"mongodb://recsys:{password[:-1]}@{place}/?authSource=admin"):
            with MongoClient[dict[str, Any]](wrong) as client, pytest.raises(OperationFailure, match="authentication"):
                client["shop"]["visits"].insert_one({})
        (server,) = daemons(tmp_path / "mongo")
        shown = [*server.cmdline(), *server.environ().values(), *os.environ.values()]
        assert not [text for text in shown if password in text]
    server.kill()
    holding = [
        path for path in (tmp_path / "mongo").rglob("*") if path.is_file() and password.encode() in path.read_bytes()
    ]
    assert holding == [tmp_path / "mongo" / "address"]
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "mongo", *holding)] == [0o700, 0o600]


def test_a_link_planted_in_the_servers_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mongo").mkdir()
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "mongo" / ".users").symlink_to(tmp_path / "precious")
    with (
        pytest.raises(StoreUnavailable, match="has a link where a file .* belongs: .* remove the link"),
        embedded.run_server(tmp_path / "mongo"),
    ):
        pass
    assert (tmp_path / "precious").read_text() == "kept"


def test_without_secantusdb_it_is_said_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "secantus", None)
    with pytest.raises(embedded.NoServer, match="set MONGO_URI .* `mongo-server`"), embedded.run_server(tmp_path):
        pass


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no folder")
    with (
        pytest.raises(StoreUnavailable, match="does not start; its server.log ends: FileExistsError"),
        embedded.run_server(tmp_path),
    ):
        pass
