"""Requests made out of the service's OpenAPI document: valid and broken ones, whose answers it must describe."""

from collections import Counter
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
NOT_HTTP = b"Invalid HTTP request received."  # uvicorn's own words, before a request reaches the service
SLOW = 60.0  # seconds; an answer takes milliseconds


class Fault(AssertionError):
    """An answer that no request may get; the message has the request."""


def fuzz(address: str, each: int, start: int = 1) -> Counter[tuple[str, int]]:
    """Send `each` requests of every operation of a service; returns how often each operation had each status.

    Args:
        address: of the service, which asks for no token.
        each: how many requests of every operation.
        start: the seed: the same one makes the same requests.

    Raises:
        Fault: an answer has a status from 500 on, or explains nothing.
        FailureGroup: the document does not describe an answer; the message has the request.
    """
    found: Counter[tuple[str, int]] = Counter()
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    with requests.Session() as session:
        for result in schema.get_all_operations():
            if not isinstance(result, Ok):
                raise Fault(f"the document is not sound: {result.err()}")
            operation = result.ok()
            cases = st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in GenerationMode))

            @seed(start)
            @settings(
                max_examples=each,
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=cases)
            def send(case: "Case[Any]") -> None:
                answer = case.call(base_url=address, session=session, timeout=SLOW, allow_redirects=False)
                found[case.operation.label, answer.status_code] += 1
                if wrong := fault_of(answer.status_code, answer.headers.get("content-type", [""])[0], answer.content):
                    raise Fault(f"{wrong}: {case.as_curl_command()}"[:2000])
                if answer.content != NOT_HTTP:
                    case.validate_response(answer, checks=CHECKS)

            send()
    return found


def fault_of(status: int, kind: str, body: bytes) -> str:
    """The fault of an answer; empty for a good one."""
    if status >= 500:
        return f"status {status} {body[:200]!r}"
    if status >= 400 and "problem+json" not in kind and body != NOT_HTTP:
        return f"status {status} without a reason"
    return "a traceback" if b"Traceback (most recent" in body else ""
