"""The OpenAPI document: requests that are made out of it, valid and broken ones, are answered or refused."""

from recsys_assets.serving.service import Service
from recsys_assets_tests.helpers.served import serving
from recsys_assets_tests.helpers.serving_fuzz import fault_of, fuzz


def test_no_request_of_the_document_breaks_the_service(service: Service) -> None:
    with serving(service) as address:
        found = fuzz(address, 15)
    assert sum(found.values()) > 100
    operations = {operation for operation, _ in found}
    assert {"POST /recommend", "GET /similar/{item_id}", "GET /items", "GET /users/{user_id}"} <= operations
    assert any(status == 200 for _, status in found) and any(status == 422 for _, status in found)


def test_a_fault_is_seen() -> None:
    assert "500" in fault_of(500, "application/problem+json", b"{}")
    assert "reason" in fault_of(404, "text/html", b"<p>")
    assert fault_of(200, "text/html", b"Traceback (most recent call last)") == "a traceback"
    assert fault_of(422, "application/problem+json", b"{}") == ""
