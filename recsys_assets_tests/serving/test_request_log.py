"""The request log: it holds what answers were made from, `recsys replay` repeats them, and it never stops an answer."""

import datetime as dt
import stat
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from recsys_assets.cli import main
from recsys_assets.serving.app import create_app
from recsys_assets.serving.engine import Engine
from recsys_assets.serving.replay import compare, read_log
from recsys_assets.serving.request_log import MOST_WAITING, BadSetting, RequestLog, logging
from recsys_assets.serving.requests import RecommendBody
from recsys_assets.serving.scenes.book import Book
from recsys_assets.serving.service import Opened, Service
from recsys_assets_tests.helpers.worlds import DAY, World


@pytest.fixture(scope="module")
def answers() -> list[dict[str, Any]]:
    return []


@pytest.fixture(scope="module")
def log(
    tmp_path_factory: pytest.TempPathFactory, service: Service, engine: Engine, answers: list[dict[str, Any]]
) -> Path:
    """The log of requests of every kind; their answers are in `answers`."""
    folder = tmp_path_factory.mktemp("log") / "requests"
    written = RequestLog(folder, print)
    client, (users, items) = TestClient(create_app(service, written)), (engine.log.user_ids, engine.log.item_ids)
    told, known = [{"item_id": int(item), "label": int(item) % 2} for item in items[3:6]], users[:3].tolist()
    bodies: list[dict[str, Any]] = [
        {"user_id": known[0]},
        {"user_id": known[1], "size": 5, "judged": True, "fields": ["title"]},
        {"user_id": known[2], "history": told, "exclude": items[:9].tolist(), "context": {"hour": 3}},
        {"history": told, "restrict": items[10:90].tolist()},
        {"user_id": 10**9, "size": 7},
    ]
    answers += client.post("/recommend/batch", json={"requests": bodies}).json()["answers"]
    written.close()
    assert (written.written, written.dropped) == (5, 0)
    return folder


def replayed(log: Path, *options: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["replay", str(log), *options])
    return done.exit_code, done.output


def changed(log: Path, folder: Path, **columns: list[Any]) -> Path:
    """A copy of the log with other columns."""
    table = pq.read_table(next(log.rglob("*.parquet")), partitioning=None)
    for name, values in columns.items():
        place = table.column_names.index(name)
        table = table.set_column(place, name, pa.array(values, table.schema.field(name).type))
    pq.write_table(table, folder / "changed.parquet")
    return folder / "changed.parquet"


def test_a_row_holds_the_answer_and_all_that_it_was_made_from(
    log: Path, engine: Engine, answers: list[dict[str, Any]]
) -> None:
    rows = duckdb.connect().sql(f"FROM read_parquet('{log}/**/*.parquet')").to_arrow_table().to_pylist()
    assert [row["request_id"] for row in rows] == [each["request_id"] for each in answers]
    served = set(engine.funnel.model.channels)
    assert [row["served_by"] for row in rows] == ["full", "full", "full", "history", "popular"]
    for row, answer in zip(rows, answers, strict=True):
        assert (row["release"], row["bizdate"], row["user_id"]) == (7, DAY, answer["user_id"])
        assert 0 < row["milliseconds"] < 60_000
        assert [each["item_id"] for each in row["items"]] == [each["item_id"] for each in answer["items"]]
        assert [each["position"] for each in row["items"]] == list(range(1, 1 + len(answer["items"])))
        assert ({each["propensity"] for each in row["items"]}, row["chances"]) == ({1}, [])
        candidates = {each["item_id"]: each for each in row["candidates"]}
        assert len(candidates) > 50 or answer["served_by"] != "full"
        for item in answer["items"] if candidates else ():
            found = candidates[item["item_id"]]
            assert (found["score"], found["probability"]) == pytest.approx((item["score"], item["probability"]))
            assert {each["channel"] for each in found["channels"]} == served & set(item["channels"])
    assert [len(row["told"]) for row in rows] == [0, 0, 3, 3, 0]
    assert [event["label"] for event in rows[2]["told"]] == [int(item) % 2 for item in engine.log.item_ids[3:6]]
    assert stat.S_IMODE(log.stat().st_mode) == 0o700
    assert not list(log.rglob("*.tmp"))


def test_the_chances_of_variants_and_of_their_lists_are_kept(engine: Engine, tmp_path: Path) -> None:
    """Two layers draw apart from each other; a variant that a request forces was not drawn."""
    file, folder = tmp_path / "tail.scenes.yaml", tmp_path / "requests"
    one, two = ("{keys: [size], variants: {a: {share: 0.25, size: 3}}}", "{keys: [order], variants: {b: {share: 0.5}}}")
    file.write_text(f"scenes: {{home: {{}}}}\nlayers: {{one: {one}, two: {two}}}", encoding="utf-8")
    written = RequestLog(folder, print)
    client = TestClient(create_app(Service(Opened(7, engine, Book(file, engine.profile))), written))
    for user in engine.log.user_ids[:40].tolist():
        client.post("/recommend", json={"user_id": user, "scene": "home"})
    client.post("/recommend", json={"user_id": 1, "scene": "home", "variants": {"one": "a"}})
    client.post("/recommend", json={"scene": "home"})
    written.close()
    table = pq.read_table(next(folder.rglob("*.parquet")), partitioning=None)
    *drawn, forced, nobody = zip(*(table[name].to_pylist() for name in ("variants", "chances", "items")), strict=True)
    assert {dict(variants)["one"] for variants, _, _ in drawn} == {"a", "control"}
    for variants, chances, items in drawn:
        expected = {"one": {"a": 0.25, "control": 0.75}[dict(variants)["one"]], "two": 0.5}
        assert dict(chances) == expected
        assert {each["propensity"] for each in items} == {np.float32(expected["one"] * 0.5)}
    assert dict(forced[1]) == {"one": 1, "two": 0.5}
    assert dict(nobody[1]) == {"one": 1, "two": 1}


def test_a_replay_gives_the_same_bytes_and_says_what_differs(world: World, log: Path, tmp_path: Path) -> None:
    assert replayed(log) == (0, "5 of 5 answers are the same, byte for byte\n")
    contexts = ['{"hour":0,"weekday":1}'] * 5
    told = [[], [], [], [{"item_id": int(item), "label": 1, "weight": 1.0} for item in (20, 21, 22)], []]
    status, said = replayed(changed(log, tmp_path, told=told, context=contexts))
    assert status == 1
    assert "answers differ" in said
    assert "position 1: it was {'item_id'" in said
    status, said = replayed(changed(log, tmp_path, fingerprint=["of before"] * 5))
    assert status == 0
    assert f"5 requests cannot be replayed: release 7 of {DAY} is no longer kept: something of it" in said
    status, said = replayed(changed(log, tmp_path, bizdate=["2026-01-01"] * 5))
    assert "release 7 of 2026-01-01 is no longer kept: " in said
    assert replayed(world.home / "own.yaml")[0] == 1


def test_another_release_is_compared_by_the_items_that_stay(log: Path, engine: Engine, tmp_path: Path) -> None:
    (same,) = compare(read_log(log), engine, 8, Book()).values()
    assert same.stay == {10: 5, 50: 5}
    told = [[{"item_id": int(item), "label": 1, "weight": 1.0} for item in engine.log.item_ids[20:40]]] * 5
    scenes = ["home", "home", "cart", "cart", None]
    found = compare(read_log(changed(log, tmp_path, told=told, scene=scenes)), engine, 8, Book())
    assert {scene: each.requests for scene, each in found.items()} == {"home": 2, "cart": 2, "": 1}
    assert found["home"].stay[10] < 2


def test_the_log_keeps_a_sample_and_never_stops_an_answer(service: Service, tmp_path: Path) -> None:
    answer, said = service.answer(RecommendBody(user_id=10**9, size=3)), list[str]()
    sample = RequestLog(tmp_path / "sample", said.append, share=0.25)
    for number in range(400):
        sample.put(f"request {number}", answer, 0.1)
    sample.close()
    assert 60 < sample.written < 140
    assert not said
    (tmp_path / "file").write_text("no folder can be made here", encoding="utf-8")
    broken = RequestLog(tmp_path / "file" / "log", said.append)
    for number in range(MOST_WAITING + 300):
        broken.put(f"request {number}", answer, 0.1)
    broken.close()
    assert (broken.written, broken.dropped) == (0, MOST_WAITING + 300)
    assert "the request log cannot be written" in said[0]


def test_old_files_are_removed_and_a_setting_that_is_wrong_is_refused(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path))
    monkeypatch.setenv("RECSYS_SERVE_LOG_DAYS", "2")
    today = dt.datetime.now(dt.UTC).date()
    days = [(today - dt.timedelta(days=int(age))).isoformat() for age in np.arange(6)]
    folder = tmp_path / "serving" / "own" / "requests"
    for day in days:
        (folder / f"date={day}" / "hour=00").mkdir(parents=True)
    with logging("own", print) as log:
        assert log
        log.put("request", service.answer(RecommendBody(size=1)), 0.1)
    assert sorted(each.name for each in folder.iterdir()) == sorted(f"date={day}" for day in days[:3])
    for name, value in (("RECSYS_SERVE_LOG_SHARE", "1.5"), ("RECSYS_SERVE_LOG_DAYS", "0")):
        monkeypatch.setenv(name, value)
        with pytest.raises(BadSetting, match=name), logging("own", print):
            pass
        monkeypatch.delenv(name)
    monkeypatch.setenv("RECSYS_SERVE_LOG_SHARE", "0")
    with logging("own", print) as log:
        assert log is None
