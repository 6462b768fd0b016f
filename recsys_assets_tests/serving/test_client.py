"""The typed client against a real server: what it gets, what it raises, and when it tries again."""

import asyncio
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from recsys_assets.cli.recommend import UnknownUser, recommend
from recsys_assets.client import AsyncClient, Client, ServiceError, Unreachable
from recsys_assets.serving.engine import Engine
from recsys_assets.serving.service import Service
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.dagster_dev import free_port
from recsys_assets_tests.helpers.served import serving
from recsys_assets_tests.helpers.worlds import DAY

TOKEN = "open-sesame"  # noqa: S105 -- an invented token


@pytest.fixture(scope="module")
def address(service: Service) -> Iterator[str]:
    with serving(service, TOKEN) as address:
        yield address


@pytest.fixture
def remote(address: str) -> Iterator[Client]:
    with Client(address, TOKEN, timeout=60) as client:
        yield client


def test_both_clients_get_what_the_service_answers(remote: Client, address: str, engine: Engine, client: Any) -> None:
    user = engine.log.user_ids[[3]].tolist()[0]
    said = client.get(f"/recommend/{user}?size=5&fields=title").json()
    found = remote.recommend(user, size=5, fields=["title"])
    assert [
        {"item_id": each.item_id, "score": each.score, "probability": each.probability, **each.more}
        | {"channels": list(each.channels)}
        for each in found.items
    ] == said["items"]
    assert (found.release, found.bizdate, found.model) == (7, DAY, f"lgbm/{DAY}")
    assert (found.served_by, found.user_id, len(found.request_id or "")) == ("full", user, 32)

    async def ask() -> Any:
        async with AsyncClient(address, TOKEN, timeout=60) as other:
            return await asyncio.gather(other.recommend(user, size=5, fields=["title"]), other.ready())

    again, ready = asyncio.run(ask())
    assert again.items == found.items
    assert ready == remote.ready() == {"status": "ready", "release": 7, "bizdate": DAY}
    alike = remote.similar(found.items[0].item_id, size=3, columns=["title"])
    assert len(alike.items) == 3 and alike.items[0].more["title"] and alike.items[0].probability is None
    assert remote.user(user, size=2)["known"] and remote.release()["users"] == len(engine.log.user_ids)


def test_a_refusal_has_the_status_and_the_sentence_of_the_problem_document(remote: Client, address: str) -> None:
    with pytest.raises(ServiceError, match=r"422: fields: items have no column 'secret'") as refused:
        remote.recommend(1, fields=["secret"])
    assert (refused.value.status, refused.value.detail.split(":")[0]) == (422, "fields")
    with pytest.raises(ServiceError, match="404: release 7 has no item '987654321'"):
        remote.similar(987654321)
    with pytest.raises(ServiceError, match="item_id: ids are whole numbers"):
        remote.similar("../recommend/1?x#y")
    with Client(address) as stranger, pytest.raises(ServiceError, match="401: this server asks for a token"):
        stranger.ready()


def test_nothing_that_listens_is_told_in_a_sentence() -> None:
    with (
        Client(f"http://127.0.0.1:{free_port()}") as client,
        pytest.raises(Unreachable, match="is the service running"),
    ):
        client.ready()


@pytest.fixture
def breaking() -> Iterator[tuple[str, list[bytes]]]:
    """A server that breaks the first connection after the request, and answers the second; with the requests."""
    got: list[bytes] = []
    content = json.dumps({"status": "ready"}).encode()
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(content), content)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def run() -> None:
            for number in range(2):
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    got.append(connection.recv(65_536))
                    if number:
                        connection.sendall(reply)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", got
        server.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def test_what_may_be_repeated_is_sent_again_when_a_connection_breaks(breaking: tuple[str, list[bytes]]) -> None:
    address, got = breaking
    with Client(address) as client:
        assert client.tell([{"event_id": "a", "user_id": 1, "item_id": 2}]) == {"status": "ready"}
    assert [each.split(b" HTTP")[0] for each in got] == [b"POST /events"] * 2


def test_events_without_an_id_are_not_sent_twice(breaking: tuple[str, list[bytes]]) -> None:
    address, got = breaking
    with Client(address) as client, pytest.raises(Unreachable):
        client.tell([{"user_id": 1, "item_id": 2}])
    assert len(got) == 1


def test_recsys_recommend_prints_what_the_service_answers(
    remote: Client, address: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = engine.log.user_ids[[3]].tolist()[0]
    monkeypatch.setenv("RECSYS_SERVE_TOKEN", TOKEN)
    monkeypatch.setenv("COLUMNS", "200")
    said = CliRunner().invoke(recommend, [str(user), "--url", address], catch_exceptions=False).output
    assert said.index(f"{user}: newest rows") < said.index(f"recommended to {user}, {DAY}, release 7: full")
    for item in remote.recommend(user, fields=["title"]).items:
        assert item.more["title"] in said and f"{item.score:.4g}" in said
    with pytest.raises(UnknownUser, match="no user '987654321' in release 7"):
        CliRunner().invoke(recommend, ["987654321", "--url", address], catch_exceptions=False)
    both = CliRunner().invoke(recommend, [str(user), "--url", address, "--bizdate", DAY])
    assert both.exit_code == 2 and "leave out --bizdate or --url" in both.output


def test_the_client_loads_nothing_but_httpx() -> None:
    code = "import sys, json, recsys_assets.client; print(json.dumps(list(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)
    assert not {"numpy", "pyarrow", "dagster", "pydantic", "fastapi", "pandas"} & {
        name.split(".")[0] for name in loaded
    }


def test_the_example_of_the_page_on_serving_runs(
    address: str, engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (PROJECT / "docs" / "serving.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(from recsys_assets\.client .*?)```", text, re.DOTALL)
    monkeypatch.setenv("RECSYS_SERVE_TOKEN", TOKEN)
    user = engine.log.user_ids[[3]].tolist()[0]
    here = example.replace("42", str(user)).replace("http://127.0.0.1:8000", address)  # a port may have 42 in it
    exec(here, {})  # noqa: S102 -- it is the page's own code
    assert capsys.readouterr().out.count("\n") >= 3
