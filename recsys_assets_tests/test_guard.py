import asyncio
import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import pytest

from recsys_assets.guard import Guard, Message, Receive, Scope, Send, hosts_of
from recsys_assets.ui.webserver import NoChangeByAddress

OWN = {"host": "127.0.0.1:3000"}
MUTATION = 'mutation { shutdownRepositoryLocation(repositoryLocationName: "recsys_assets") { __typename } }'


async def app(scope: Scope, _receive: Receive, send: Send) -> None:
    """The app behind the guard, which accepts every request and every websocket."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"done"})


def sent(guarded: Any, headers: Mapping[str, str] | list[tuple[str, str]], **scope: Any) -> list[Message]:
    """The messages that a client receives."""
    got: list[Message] = []

    async def send(message: Message) -> None:
        got.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    given = headers.items() if isinstance(headers, Mapping) else headers
    pairs = [(name.encode(), value.encode()) for name, value in given]
    request = {"type": "http", "method": "POST", "path": "/graphql", "query_string": b"", "headers": pairs}
    asyncio.run(guarded({**request, **scope}, receive, send))
    return got


def status(guarded: Any, headers: Mapping[str, str] | list[tuple[str, str]], **scope: Any) -> int:
    return int(sent(guarded, headers, **scope)[0]["status"])


GUARD = Guard(app, hosts_of(3000, ["dagster.example.com"]))


@pytest.mark.parametrize("host", ["127.0.0.1:3000", "localhost:3000", "LOCALHOST:3000", "[::1]:3000"])
def test_the_server_s_own_names_are_let_through(host: str) -> None:
    assert status(GUARD, {"host": host}) == 200
    assert status(GUARD, {"host": host, "origin": f"http://{host}"}) == 200
    assert sent(GUARD, {"host": host, "origin": f"http://{host}"}, type="websocket") == [{"type": "websocket.accept"}]


def test_a_proxy_s_name_is_let_through_where_it_is_given() -> None:
    behind = {"host": "dagster.example.com", "origin": "https://dagster.example.com"}
    assert status(GUARD, behind) == 200
    assert status(Guard(app, hosts_of(3000)), behind) == 403


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:3000",
        "localhost",
        "localhost:3001",
        "localhost.:3000",
        "127.0.0.1.evil.example:3000",
        "localhost:3000@evil.example",
        "dagster.example.com:8080",
        "0.0.0.0:3000",
        "",
    ],
)
def test_a_foreign_host_is_refused(host: str) -> None:
    assert status(GUARD, {"host": host}, method="GET") == 403
    assert sent(GUARD, {"host": host}, type="websocket")[0]["type"] == "websocket.close"


def test_a_request_without_a_host_or_with_two_is_refused() -> None:
    assert status(GUARD, {}) == 403
    assert status(GUARD, [("host", "127.0.0.1:3000"), ("host", "evil.example")]) == 403


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "",
        "http://localhost:5000",
        "http://localhost",
        "file://",
        "chrome-extension://127.0.0.1:3000",
        "http://127.0.0.1:3000.evil.example",
        "http://evil.example/?http://127.0.0.1:3000",
        "127.0.0.1:3000",
    ],
)
@pytest.mark.parametrize("content", ["application/json", "text/plain", "application/x-www-form-urlencoded"])
def test_what_a_foreign_page_sends_is_refused(origin: str, content: str) -> None:
    headers = {**OWN, "origin": origin, "content-type": content}
    assert status(GUARD, headers) == status(GUARD, headers, method="GET") == 403
    assert sent(GUARD, headers, type="websocket")[0]["type"] == "websocket.close"


def test_a_refused_page_learns_nothing_and_no_page_may_show_the_server_in_a_frame() -> None:
    refused = sent(GUARD, {**OWN, "origin": "http://evil.example"})
    assert b"access-control-allow-origin" not in dict(refused[0]["headers"])
    assert b"done" not in refused[1]["body"]
    assert dict(sent(GUARD, OWN)[0]["headers"])[b"x-frame-options"] == b"SAMEORIGIN"


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"me:{password}".encode()).decode()


def test_a_token_is_asked_of_everybody_once_there_is_one() -> None:
    locked = Guard(app, hosts_of(3000), token="sesame:ü")  # noqa: S106 -- an invented token
    for right in ("Bearer sesame:ü", "bearer sesame:ü", basic("sesame:ü")):
        headers = {**OWN, "authorization": right}
        assert status(locked, headers) == 200
        assert sent(locked, headers, type="websocket") == [{"type": "websocket.accept"}]
    for wrong in ("", "Bearer", "Bearer wrong", "Bearer sesame", basic("wrong"), "Basic ???", "Token sesame:ü"):
        answer = sent(locked, {**OWN, "authorization": wrong})
        assert answer[0]["status"] == 401 and b"www-authenticate" in dict(answer[0]["headers"])
        assert sent(locked, {**OWN, "authorization": wrong}, type="websocket")[0]["type"] == "websocket.close"
    assert status(locked, OWN) == 401
    assert status(locked, {"host": "evil.example", "authorization": basic("sesame:ü")}) == 403


def test_open_paths_need_no_token_but_the_right_host() -> None:
    path = "/page/app.js"
    locked = Guard(app, hosts_of(3000), token="sesame", open_paths=frozenset({path}))  # noqa: S106 -- an invented token
    assert status(locked, OWN, path=path) == 200
    assert status(locked, OWN, path=f"{path}/") == status(locked, OWN, path="/recommend/1") == 401
    assert status(locked, {"host": "evil.example"}, path=path) == 403


def test_a_refusal_is_a_problem_document() -> None:
    head, body = sent(GUARD, {"host": 'evil".example'})
    assert dict(head["headers"])[b"content-type"] == b"application/problem+json"
    assert json.loads(body["body"])["status"] == 403
    assert json.loads(body["body"])["detail"].startswith('this server is not known as evil".example; its names are: ')


@pytest.mark.parametrize(
    "query",
    [
        MUTATION,
        f"query reads {{ version }} {MUTATION}",
        f"# {{ version }}\r\n{MUTATION}",
        "subscription { x }",
        "fragment f on Query { version }",
        "{ version",
        "",
        "mutation",
        "{" * 50_000,
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_an_address_changes_nothing(query: str, method: str) -> None:
    guarded = NoChangeByAddress(app)
    address = f"operationName=x&query={quote(query)}".encode()
    assert status(guarded, OWN, method=method, query_string=address) == 405
    hidden = f"query={quote(query)}&query={quote('{ version }')}".encode()
    assert status(guarded, OWN, method=method, query_string=hidden) == 405


def test_an_address_may_read_and_other_pages_may_have_a_query_of_their_own() -> None:
    guarded = NoChangeByAddress(app)
    read = quote("query reads { version } fragment f on Query { version }").encode()
    assert status(guarded, OWN, method="GET", query_string=b"query=" + read) == 200
    assert status(guarded, OWN, method="GET", path="/assets", query_string=b"query=mutation") == 200
    assert status(guarded, OWN) == 200
