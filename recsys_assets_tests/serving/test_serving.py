"""The online service on a small world: it answers as the report says, and what it refuses it explains."""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from recsys_assets.arrays import Vectors
from recsys_assets.assets.reports.funnel_report import RECOMMENDATIONS
from recsys_assets.funnel.by_vector import ByVector
from recsys_assets.retrieval.interactions import Interactions, Queries, State
from recsys_assets.serving.app import create_app
from recsys_assets.serving.engine import Engine, Wish
from recsys_assets.serving.people import NOTHING
from recsys_assets.serving.service import Service
from recsys_assets_tests.helpers.worlds import DAY, World

Answer = dict[str, Any]


def ids(rows: list[Answer]) -> list[int]:
    return [row["item_id"] for row in rows]


def seen(world: World, *parts: str) -> dict[int, set[int]]:
    """Each user's items in some parts, or in all."""
    found: dict[int, set[int]] = {}
    for row in world.table("splits").to_pylist():
        if not parts or row["part"] in parts:
            found.setdefault(row["user_id"], set()).add(row["item_id"])
    return found


def test_in_the_judged_state_every_user_gets_the_list_of_the_report(world: World, engine: Engine) -> None:
    report = world.table("funnel_report", RECOMMENDATIONS).to_pylist()
    for row in report:
        found = engine.recommend(row["user_id"], NOTHING, Wish(judged=True))
        assert ids(found) == ids(row["items"])
        assert [each["channels"] for each in found] == [each["channels"] for each in row["items"]]
        for name in ("score", "probability"):
            assert [each[name] for each in found] == pytest.approx([each[name] for each in row["items"]], abs=1e-6)
    assert len(report) > 100


def test_no_list_holds_what_the_user_touched_or_what_the_request_leaves_out(world: World, engine: Engine) -> None:
    rng, touched, everything = np.random.default_rng(1), seen(world), engine.log.item_ids.tolist()
    for user, theirs in list(touched.items())[:40]:
        told, hidden = rng.choice(everything, 3).tolist(), rng.choice(everything, 20).tolist()
        only = rng.choice(everything, 60).tolist()
        found = ids(engine.recommend(user, engine.history(told, [1, 0, 1]), Wish(30, hidden, only)))
        assert found
        assert not set(found) & (theirs | set(told) | set(hidden))
        assert set(found) <= set(only)
        nobody = ids(engine.popular(engine.history(told, [1, 1, 1]), Wish(30, hidden)))
        assert not set(nobody) & (set(told) | set(hidden))


def test_told_events_move_the_answer_and_the_same_request_has_the_same_answer(engine: Engine) -> None:
    moved = 0
    for user in engine.log.user_ids[:20].tolist():
        before = engine.recommend(user, NOTHING, Wish(10))
        assert engine.recommend(user, NOTHING, Wish(10)) == before
        told = engine.history([before[0]["item_id"]], [1])
        after = engine.recommend(user, told, Wish(10))
        assert before[0]["item_id"] not in ids(after)
        moved += ids(after)[:9] != ids(before)[1:]
    assert moved > 10


def test_only_a_user_of_whom_more_was_told_is_encoded(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[State] = []

    def encode(_: Interactions, queries: Queries) -> Vectors:
        encoded.append(queries.state)
        return np.ones((1, 8), np.float32)

    monkeypatch.setattr(engine.funnel.channels["sasrec"], "encode", encode)
    user, told = engine.log.user_ids[[3]].tolist()[0], engine.history(engine.log.item_ids[:1].tolist(), [1])
    asked = ((NOTHING, Wish(judged=True)), (NOTHING, Wish()), (told, Wish()))
    found = [engine.recall(user, since, wish, ["sasrec"])["sasrec"].items.tolist() for since, wish in asked]
    assert encoded == [State.BEYOND]
    assert found[0] != found[1] != found[2]


def test_somebody_new_gets_a_personal_list_once_they_did_something(engine: Engine, client: TestClient) -> None:
    item = engine.log.item_ids[[5]].tolist()[0]
    first = client.post("/recommend", json={"user_id": 10**9, "size": 8}).json()
    then = client.post("/recommend", json={"user_id": 10**9, "size": 8, "history": [{"item_id": item}]}).json()
    assert (first["served_by"], then["served_by"]) == ("popular", "history")
    assert len(first["items"]) == len(then["items"]) == 8
    assert ids(first["items"]) != ids(then["items"])
    counts = np.bincount(engine.log.before("online").items, engine.log.before("online").gains)
    most = engine.log.item_ids[np.argsort(-counts, kind="stable")[:8]].tolist()
    assert ids(first["items"]) == most


def test_every_way_of_asking_gives_the_same_list(engine: Engine, client: TestClient) -> None:
    user = engine.log.user_ids[[3]].tolist()[0]
    asked = client.get(f"/recommend/{user}?size=5&fields=title").json()
    posted = client.post("/recommend", json={"user_id": user, "size": 5, "fields": ["title"]}).json()
    batch = client.post("/recommend/batch", json={"requests": [{"user_id": user, "size": 5, "fields": ["title"]}] * 2})
    lists = [asked, posted, *batch.json()["answers"]]
    assert all(each["items"] == asked["items"] for each in lists)
    assert len({each["request_id"] for each in lists}) == 4
    assert (asked["release"], asked["bizdate"], asked["model"]) == (7, DAY, f"lgbm/{DAY}")
    assert (asked["served_by"], asked["user_id"]) == ("full", user)
    assert all({"item_id", "score", "probability", "channels", "title"} == each.keys() for each in asked["items"])
    left = client.get(f"/recommend/{user}?size=5&exclude={asked['items'][0]['item_id']}").json()
    assert asked["items"][0]["item_id"] not in ids(left["items"])


def test_similar_items_are_those_of_the_tables_and_of_the_vectors(world: World, client: TestClient) -> None:
    table = {row["item_id"]: ids(row["neighbours"]) for row in world.table("i2i_itemcf").to_pylist()}
    item = max(table, key=lambda each: len(table[each]))
    found = client.get(f"/similar/{item}?size=10&fields=title").json()["items"]
    assert len(found) == 10
    assert item not in ids(found)
    assert {each["item_id"] for each in found if "itemcf" in each["channels"]} <= set(table[item])
    assert found[0]["title"]
    vectors = {row["item_id"]: np.array(row["vector"]) for row in world.table("emb_sasrec_item").to_pylist()}
    mine = vectors.pop(item)
    cosine = {each: mine @ other / np.linalg.norm(mine) / np.linalg.norm(other) for each, other in vectors.items()}
    near = sorted(cosine, key=lambda each: -cosine[each])[:10]
    assert {each["item_id"] for each in found if "sasrec" in each["channels"]} == set(near) & set(ids(found))


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("GET", "/recommend/abc", None, 422, "user_id: ids are whole numbers in this data set"),
        ("GET", "/recommend/99999999999999999999999", None, 422, "user_id: an id is beyond"),
        ("GET", "/recommend/1?size=0", None, 422, "size: Input should be greater than or equal to 1"),
        ("GET", "/recommend/1?fields=secret", None, 422, "items have no column 'secret': genres"),
        ("GET", "/similar/987654321", None, 404, "release 7 has no item '987654321'"),
        ("GET", "/etc/passwd", None, 404, "Not Found"),
        ("DELETE", "/recommend/1", None, 405, "Method Not Allowed"),
        ("POST", "/recommend", b"{", 422, "valid dictionary"),
        ("POST", "/recommend", b"[]", 422, "valid dictionary"),
        ("POST", "/recommend", {"user": 1}, 422, "user: Extra inputs are not permitted"),
        ("POST", "/recommend", {"user_id": 1, "size": "5"}, 422, "size: write a number"),
        ("POST", "/recommend", {"user_id": 1, "size": True}, 422, "size: write a number"),
        ("POST", "/recommend", {"user_id": 1, "exclude": ["x"]}, 422, "exclude: ids are whole numbers"),
        ("POST", "/recommend", {"user_id": 1, "exclude": [1] * 10_001}, 422, "at most 10000 items"),
        (
            "POST",
            "/recommend",
            {"user_id": 1, "context": {"device": "tv"}},
            422,
            "'device' is no feature of the moment",
        ),
        (
            "POST",
            "/recommend",
            {"user_id": 1, "context": {"hour": [1]}},
            422,
            "'hour' must be a text or a whole number",
        ),
        ("POST", "/recommend", {"history": [{"item_id": 1, "label": 3}]}, 422, "less than or equal to 1"),
        ("POST", "/recommend/batch", {"requests": []}, 422, "at least 1 item"),
        ("POST", "/recommend", b"x" * (1 << 20) + b"x", 413, "at most 1,048,576 bytes"),
    ],
)
def test_what_cannot_be_answered_is_explained(
    client: TestClient, method: str, path: str, body: object, status: int, said: str
) -> None:
    content = {"content": body} if isinstance(body, bytes) else {"json": body} if body else {}
    found = client.request(method, path, **content)
    problem = found.json()
    assert (found.status_code, problem["status"]) == (status, status)
    assert found.headers["content-type"] == "application/problem+json"
    assert said in problem["detail"]


def test_health_and_metrics_say_what_happens(client: TestClient, engine: Engine) -> None:
    client.get(f"/recommend/{engine.log.user_ids[0]}")
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").json() == {"status": "ready", "release": 7, "bizdate": DAY}
    text = client.get("/metrics").text
    assert "recsys_release 7.0\n" in text
    assert 'recsys_answers_total{served_by="full"}' in text
    assert 'recsys_requests_total{method="GET",status="200"}' in text
    assert 'recsys_answer_seconds_bucket{le="+Inf"}' in text
    assert 'recsys_step_seconds_count{step="recall popularity"}' in text
    assert 'recsys_channel_items_count{channel="popularity"}' in text
    assert 'recsys_exposed_items_total{at_most="7"}' in text
    assert "recsys_memory_bytes " in text


def test_without_a_release_the_service_says_so() -> None:
    client = TestClient(create_app(Service(None)))
    assert client.get("/health/ready").status_code == 503
    assert "no release is open yet" in client.get("/recommend/1").json()["detail"]


def test_the_service_loads_neither_dagster_nor_torch_nor_mlflow() -> None:
    modules = "recsys_assets.serving.releases, recsys_assets.serving.app"
    code = f"import sys, json, {modules}; print(json.dumps(list(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)
    assert not {"dagster", "torch", "mlflow", "lightgbm", "sklearn"} & set(loaded)


def test_a_process_that_was_warmed_up_can_be_copied_to_search_indexes(engine: Engine) -> None:
    """The channels of a large catalogue are not asked before the copies are made: faiss crashed in these otherwise."""
    asked: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ByVector, "is_indexed", property(lambda _: True))
        patch.setattr(ByVector, "__call__", lambda *_: asked.append("searched"))
        engine.warm_up()
    assert not asked
    engine.warm_up()
    assert len(engine.recommend(None, engine.history(engine.log.item_ids[:3].tolist(), [1, 1, 1]), Wish())) > 10
