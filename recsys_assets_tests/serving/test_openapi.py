"""The OpenAPI document: requests that are made out of it are answered or refused, as it says of the answers."""

from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from starlette.testclient import TestClient

from recsys_assets.serving.engine import Engine
from recsys_assets.serving.fresh.opening import open_fresh, open_layer
from recsys_assets.serving.interface import GROUPS
from recsys_assets.serving.scenes.book import Book
from recsys_assets.serving.service import Opened, Service
from recsys_assets_tests.helpers.served import serving
from recsys_assets_tests.helpers.serving_fuzz import fault_of, fuzz
from recsys_assets_tests.helpers.told_events import telling
from recsys_assets_tests.helpers.worlds import World


@pytest.fixture(scope="module")
def document(client: TestClient) -> dict[str, Any]:
    content: dict[str, Any] = client.get("/openapi.json").json()
    return content


def forms(document: dict[str, Any]) -> dict[str, Any]:
    """The schema of the answer of each operation, by its path and method."""
    return {
        f"{method.upper()} {path}": operation["responses"]["200"]["content"]["application/json"]["schema"]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if path != "/metrics"
    }


def faults_of(document: dict[str, Any], form: dict[str, Any], content: object) -> list[str]:
    validator = jsonschema_rs.validator_for({**form, "components": document["components"]})
    return [str(fault) for fault in validator.iter_errors(content)]


def test_no_request_of_the_document_breaks_the_service(
    world: World, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path))
    layer, own = open_layer(engine), engine.profile.model_copy(update={"landing": tmp_path / "landing"})
    assert layer
    with telling(world.profile) as tell, open_fresh(own, layer) as fresh:
        service = Service(Opened(7, engine, Book()), tell.told, fresh=fresh)
        with serving(service) as address:
            found = fuzz(address, 15)
    assert sum(found.values()) > 100
    operations = {operation for operation, _ in found}
    assert {"POST /recommend", "GET /similar/{item_id}", "GET /items", "GET /users/{user_id}"} <= operations
    assert any(status == 200 for _, status in found) and any(status == 422 for _, status in found)


def test_every_example_is_an_answer_of_its_form(document: dict[str, Any]) -> None:
    for name, form in document["components"]["schemas"].items():
        for example in form.get("examples", ()):
            assert faults_of(document, {"$ref": f"#/components/schemas/{name}"}, example) == [], name


def test_every_operation_has_a_group_a_sentence_and_an_example_of_its_answer(document: dict[str, Any]) -> None:
    operations = [each for methods in document["paths"].values() for each in methods.values()]
    assert {tag for each in operations for tag in each["tags"]} == GROUPS.keys()
    assert all(each["description"] for each in operations)
    assert len({each["operationId"] for each in operations}) == len(operations)
    for operation, form in forms(document).items():
        references = [each["$ref"] for each in form.get("anyOf", [form])]
        for name in (each.rpartition("/")[2] for each in references):
            assert document["components"]["schemas"][name]["examples"], operation


def test_full_answers_have_the_form_that_the_document_says(
    document: dict[str, Any], engine: Engine, client: TestClient
) -> None:
    user, items = engine.log.user_ids[[3]].tolist()[0], engine.log.item_ids[:3].tolist()
    asked: dict[str, Any] = {"user_id": user, "size": 5, "fields": ["title", "genres"]}
    everything = {**asked, "explain": True, "left_out": ["recall itemcf"]}
    whole = [
        ("GET /recommend/{user_id}", client.get(f"/recommend/{user}?fields=title")),
        ("POST /recommend", client.post("/recommend", json=everything)),
        ("POST /recommend", client.post("/recommend", json={"explain": True})),
        ("POST /recommend", client.post("/recommend", json={"history": [{"item_id": items[0]}], "explain": True})),
        ("POST /recommend/batch", client.post("/recommend/batch", json={"requests": [asked, {}]})),
        ("GET /similar/{item_id}", client.get(f"/similar/{items[0]}?fields=title")),
        ("POST /recall", client.post("/recall", json={"user_id": user, "k": 5})),
        ("POST /score", client.post("/score", json={"user_id": user, "item_ids": [*items, 10**9]})),
        ("GET /users/{user_id}", client.get(f"/users/{user}?fields=title")),
        ("GET /items", client.get("/items?query=e&fields=title")),
        ("GET /release", client.get("/release")),
    ]
    described = forms(document)
    for operation, answer in whole:
        assert answer.status_code == 200, answer.text
        assert faults_of(document, described[operation], answer.json()) == [], operation
    broken = client.post("/recommend", json=asked).json() | {"served_by": "nobody", "more": 1}
    assert len(faults_of(document, described["POST /recommend"], broken)) == 2


def test_a_fault_is_seen() -> None:
    assert "500" in fault_of(500, "application/problem+json", b"{}")
    assert "reason" in fault_of(404, "text/html", b"<p>")
    assert fault_of(200, "text/html", b"Traceback (most recent call last)") == "a traceback"
    assert fault_of(422, "application/problem+json", b"{}") == ""
