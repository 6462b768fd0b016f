"""Hostile requests against a real server: each is refused with a reason, soon, and without a traceback."""

import contextlib
import json
import logging
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from recsys_assets.serving.service import Service
from recsys_assets_tests.helpers.hostile import HOST, HOSTILE, USER, Hostile, request
from recsys_assets_tests.helpers.served import serving

PATIENCE = 30.0  # seconds; each takes milliseconds on an idle machine


@pytest.fixture(scope="module")
def address(service: Service) -> Iterator[str]:
    with serving(service) as address:
        yield urlsplit(address).netloc


def sent(address: str, raw: bytes) -> bytes:
    """All that the server sends until it closes the connection."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), PATIENCE) as connection:
        parts = []
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has answered before it read everything
            connection.sendall(raw.replace(HOST.encode(), address.encode()))
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65_536):
                parts.append(part)
    return b"".join(parts)


def test_there_are_200_of_them() -> None:
    assert len(HOSTILE) >= 200
    assert len({each.raw for each in HOSTILE}) == len(HOSTILE)


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda each: each.name)
def test_a_hostile_request_is_refused_with_a_reason(
    address: str, hostile: Hostile, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        answer = sent(address, hostile.raw)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert int(head.split()[1]) in hostile.allowed, answer[:500]
    assert body.count(b"HTTP/1.1") == 0  # no second request was smuggled in
    if b"problem+json" in head:
        problem = json.loads(body)
        assert problem["status"] == int(head.split()[1]) and problem["detail"] and problem["title"]
    else:
        assert body == b"Invalid HTTP request received."  # what uvicorn says of what is no HTTP
    assert b"Traceback" not in answer and caplog.records == []


def test_the_service_still_answers(address: str) -> None:
    assert b'"known":true' in sent(address, request("GET", f"/users/{USER}"))
    assert sent(address, request("GET", "/health/ready")).startswith(b"HTTP/1.1 200")


def test_bodies_that_never_end_keep_nobody_waiting(address: str) -> None:
    host, port = address.split(":")
    half = request("POST", "/recommend", b"x" * 1000).replace(HOST.encode(), address.encode())[:-500]
    slow = [socket.create_connection((host, int(port)), PATIENCE) for _ in range(50)]
    try:
        for each in slow:
            each.sendall(half)
        begin = time.monotonic()
        assert sent(address, request("GET", "/health/ready")).startswith(b"HTTP/1.1 200")
        assert time.monotonic() - begin < PATIENCE / 2
    finally:
        for each in slow:
            each.close()
