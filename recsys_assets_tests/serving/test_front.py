"""The front of the service: ids of requests, limits on bodies and rates, HEAD, and what the log says."""

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.testclient import TestClient

from recsys_assets.serving import limits, log
from recsys_assets.serving.app import create_app
from recsys_assets.serving.budget import Usual
from recsys_assets.serving.engine import Engine, Found
from recsys_assets.serving.limits import Limits, Rates
from recsys_assets.serving.place import Place
from recsys_assets.serving.requests import RecommendBody
from recsys_assets.serving.service import Service
from recsys_assets.serving.variables import InvalidVariable
from recsys_assets_tests.helpers.served import serving


def application(service: Service, place: Place) -> TestClient:
    return TestClient(create_app(service, place=place), raise_server_exceptions=False)


def test_a_sane_id_of_a_request_is_kept_and_any_other_is_replaced(client: TestClient) -> None:
    kept = client.get("/recommend/1", headers={"X-Request-ID": "trace-1.a"})
    assert (kept.headers["x-request-id"], kept.json()["request_id"]) == ("trace-1.a", "trace-1.a")
    for odd in ("a b", "x" * 65, "<script>", ""):
        made = client.get("/recommend/1", headers={"X-Request-ID": odd})
        assert made.headers["x-request-id"] == made.json()["request_id"] != odd
    batch = client.post(
        "/recommend/batch", json={"requests": [{"user_id": 1}] * 2}, headers={"X-Request-ID": "trace-2"}
    )
    assert [each["request_id"] for each in batch.json()["answers"]] == ["trace-2-0", "trace-2-1"]


def test_head_is_answered_like_get_and_unknown_paths_and_methods_with_problems(client: TestClient) -> None:
    assert client.head("/recommend/1").headers["content-length"] == client.get("/recommend/1").headers["content-length"]
    for status, found in ((404, client.get("/nothing")), (405, client.put("/recommend/1"))):
        assert (found.status_code, found.json()["status"]) == (status, status)
        assert found.headers["content-type"] == "application/problem+json"


def test_a_chunked_body_is_read_up_to_the_limit_and_not_beyond(client: TestClient) -> None:
    def chunks(size: int) -> Iterator[bytes]:
        yield b'{"user_id": 1, "context": {}'
        for _ in range(size // 1000):
            yield b" " * 1000
        yield b"}"

    json_body = {"Content-Type": "application/json"}
    assert client.post("/recommend", content=chunks(1000), headers=json_body).status_code == 200
    refused = client.post("/recommend", content=chunks(limits.Limits.body + 1000), headers=json_body)
    assert (refused.status_code, refused.headers["connection"]) == (413, "close")


def test_a_client_that_sends_too_much_is_told_when_to_come_back(service: Service) -> None:
    rate = 0.001  # one request in a thousand seconds
    client = application(service, Place(Limits(rate=rate), Rates(rate)))
    assert client.get("/health/live").status_code == 200
    refused = client.get("/health/live")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1000")
    assert "at most 0.001 requests a second" in refused.json()["detail"]


def test_rates_are_kept_apart_and_come_back_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    rates = Rates(2)
    assert [rates.wait("a") for _ in range(5)] == [0, 0, 0, 0, 0.5]
    assert rates.wait("b") == 0
    now = 100.5
    assert [rates.wait("a") for _ in range(2)] == [0, 0.5]


def test_requests_beyond_the_queue_are_refused_at_once_and_the_others_answered(
    service: Service, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer takes 0.2 s here. Those that watch the service wait for no turn."""
    find = engine.find

    def slow(*arguments: Any) -> Found:
        time.sleep(0.2)
        return find(*arguments)

    def ask(client: httpx.Client) -> tuple[int, str | None, float]:
        began = time.monotonic()
        found = client.get(f"/recommend/{engine.log.user_ids[0]}")
        return found.status_code, found.headers.get("retry-after"), time.monotonic() - began

    monkeypatch.setattr(engine, "find", slow)
    with (
        serving(service, place=Place(Limits(queue=3))) as url,
        httpx.Client(base_url=url, timeout=30) as client,
        ThreadPoolExecutor(20) as pool,
    ):
        found = list(pool.map(ask, [client] * 20))
        watched = client.get("/metrics").text
        assert ask(client)[0] == 200  # the queue is empty again
    shed = [seconds for status, retry, seconds in found if (status, retry) == (503, "1")]
    answered = [seconds for status, _, seconds in found if status == 200]
    assert len(shed) + len(answered) == 20
    assert len(shed) >= 10
    assert len(answered) >= 4
    assert max(answered) > 0.6  # three waited
    assert sorted(shed)[len(shed) // 2] < max(answered)
    assert f"recsys_shed_requests_total {float(len(shed))}" in watched


def test_the_wait_counts_towards_the_deadline(service: Service, engine: Engine) -> None:
    body = RecommendBody(user_id=engine.log.user_ids[[0]].tolist()[0], deadline_ms=5_000)
    assert service.answer(body, waited=0.1).content["served_by"] == "full"
    late = service.answer(body, waited=6.0).content
    assert (late["served_by"], len(late["items"])) == ("degraded", 50)
    assert "features and scores: late" in late["left_out"]


def test_a_body_that_comes_too_slowly_is_given_up(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.3)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(create_app(service), log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        with socket.create_connection(listener.getsockname()) as slow:
            slow.sendall(b"POST /recommend HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
            answer = slow.makefile("rb").read()
        server.should_exit = True
        thread.join(5)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"send the body within" in answer


def test_the_log_has_every_failure_and_a_share_of_the_rest_without_secrets(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[bytes] = []
    monkeypatch.setattr(log._lines, "add", lines.append)
    for share in (0.0, 1.0):
        client = application(service, Place(Limits(logged=share)))
        client.get("/recommend/1?exclude=5", headers={"Authorization": "Bearer SECRET"})
        client.post("/recommend", json={"user_id": "SECRET"}, headers={"X-Request-ID": "trace-3"})
    told = [json.loads(line) for line in lines]
    assert [(each["path"], each["status"]) for each in told] == [
        ("/recommend", 422),
        ("/recommend/1", 200),
        ("/recommend", 422),
    ]
    assert told[0]["request_id"] == "trace-3"
    assert b"SECRET" not in b"".join(lines)


def test_a_fault_of_the_model_gives_popular_items_and_is_counted(
    service: Service, engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the model is broken")

    client = application(service, Place())
    monkeypatch.setattr(engine, "find", fail)
    monkeypatch.setattr(engine, "usual", Usual())
    with caplog.at_level(logging.WARNING):
        found = client.get(f"/recommend/{engine.log.user_ids[0]}?size=5").json()
    assert (found["served_by"], len(found["items"])) == ("degraded", 5)
    assert found["left_out"] == ["personal lists: failed"]
    assert "the model is broken" in caplog.text
    assert 'recsys_degraded_answers_total{without="personal lists"} 1.0' in client.get("/metrics").text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RECSYS_SERVE_RATE", "fast"),
        ("RECSYS_SERVE_ACCESS_LOG", "2"),
        ("RECSYS_SERVE_BODY", "-1"),
        ("RECSYS_SERVE_QUEUE", "0"),
        ("RECSYS_SERVE_ORIGINS", "shop"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidVariable, match=name):
        Limits.read({name: value})
