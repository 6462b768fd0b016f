"""Jobs over streams of fresh rows, with vectors of a deployed service that really runs."""

import contextlib
import datetime as dt
import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import onnxruntime
import psycopg
import pyarrow as pa
import pytest
import yaml
from filelock import FileLock

from recsys_assets.client import ServiceError
from recsys_assets.datasets.duck import connect_without_lake
from recsys_assets.datasets.profile import load_profile
from recsys_assets.features.raw import INPUTS, raw_columns, read_inputs
from recsys_assets.fresh.database import Database, fresh_folder
from recsys_assets.fresh.deployed import OtherModel
from recsys_assets.fresh.files import FilesTaken, FreshFile, Unread
from recsys_assets.fresh.judge import Judge
from recsys_assets.lake import Lake
from recsys_assets.serving.deployed.record import Home
from recsys_assets.serving.deployed.service import address
from recsys_assets.settings import settings
from recsys_assets.stores.registry import open_store
from recsys_assets.stores.store import KEY
from recsys_assets.streams import taker
from recsys_assets.streams.spark import CHECKPOINT, LOCK, StreamRuns, files_of, run
from recsys_assets.streams.taker import FOLDER, Taker
from recsys_assets_tests.helpers.dagster_dev import free_port
from recsys_assets_tests.helpers.postgres_server import PASSWORD, postgres
from recsys_assets_tests.helpers.worlds import DAY, OWN_PROFILE, YESTERDAY, World
from recsys_assets_tests.serving.running import until

NEW = 900_000
NAME = "items"
engines = pytest.mark.engines
needs_spark = pytest.mark.skipif(
    not (importlib.util.find_spec("pyspark") and shutil.which("java")),
    reason="needs Spark and Java: pip install 'recsys-assets[spark]'",
)


def recsys(*arguments: str) -> str:
    command = [sys.executable, "-m", "recsys_assets.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def own(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The world with towers of two days, whose weights differ, and a deployment of the first one."""
    with pytest.MonkeyPatch.context() as patch:
        own = world.copy(tmp_path_factory.mktemp("stream"), patch)
        content = yaml.safe_load(Path(os.environ["RECSYS_PROFILE"]).read_text(encoding="utf-8"))
        content["fresh"] = {**content.get("fresh", {}), "model": "dssm"}
        (profile := own.home / OWN_PROFILE).write_text(yaml.safe_dump(content), encoding="utf-8")
        patch.setenv("RECSYS_PROFILE", str(profile))
        own.run(["negative_items", "recall_dssm", "onnx_dssm"], config={"recall_dssm": {"training": {"epochs": 1}}})
        made = own.read("onnx_dssm")
        with own.lake.draft("onnx_dssm", YESTERDAY) as draft:
            for file in made.manifest.files:
                draft.path(file).write_bytes(made.path(file).read_bytes())
        again = {"training": {"epochs": 2}}
        own.run(["recall_dssm", "onnx_dssm"], config={"recall_dssm": again})
        config = own.home / "deploy.yaml"
        config.write_text(f"model: dssm\nmemory: 1500\nport: {free_port()}\n", encoding="utf-8")
        recsys("deploy", "create", NAME, "--bizdate", YESTERDAY, "--config", str(config))
        yield own
        recsys("deploy", "delete", NAME)


@pytest.fixture
def fresh(own: World) -> Iterator[Path]:  # noqa: ARG001 (its environment holds)
    """The folder of the stream's files; database and checkpoint are those of this test alone."""
    profile = load_profile()
    yield profile.landing / FOLDER
    for each in (profile.landing / FOLDER, fresh_folder(profile.name) / CHECKPOINT):
        shutil.rmtree(each, ignore_errors=True)
    for file in fresh_folder(profile.name).glob("fresh.db*"):
        file.unlink()


@contextlib.contextmanager
def opened() -> Iterator[Taker]:
    profile = load_profile()
    with Taker(profile, Lake.of(settings().lake, profile), address(Home(profile.name, NAME).read())) as opened:
        yield opened


def item(number: int, **changes: Any) -> dict[str, Any]:
    return {"item_id": NEW + number, "title": f"New {number}", "year": 2026, "genres": "Drama|War", **changes}


def write(folder: Path, name: str, *rows: Mapping[str, Any] | bytes) -> None:
    """A file of rows under its own name at once."""
    file = folder / "items" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    coming = file.with_name(f".{name}")
    coming.write_bytes(b"\n".join(lines) + b"\n")
    coming.rename(file)


def state() -> dict[int, tuple[dict[str, Any], bool, str, npt.NDArray[np.float32]]]:
    """By item, its joined row, whether it is withdrawn, the hash of its tower, and its vector."""
    profile = load_profile()
    with contextlib.closing(Database(profile.name).connect()) as connection:
        rows = connection.execute("SELECT key, line, withdrawn, tower, vector FROM entities").fetchall()
    return {
        int(key): (json.loads(line), bool(gone), name, np.frombuffer(vector, np.float32))
        for key, line, gone, name, vector in rows
    }


def changed_or_ended(number: int, job: "subprocess.Popen[bytes]") -> bool:
    return newest_change() > number or job.poll() is not None


def newest_change() -> int:
    with contextlib.closing(Database(load_profile().name).connect()) as connection:
        ((number,),) = connection.execute("SELECT value FROM about WHERE name = 'seq'").fetchall()
    return int(number)


def vectors_of_file(own: World, day: str) -> npt.NDArray[np.float32]:
    """(N, D) the vectors of all joined rows by the ONNX file of the daily run, without the code of a tower."""
    path = own.read("onnx_dssm", day).path("item.onnx")
    session = onnxruntime.InferenceSession(path)
    inputs = read_inputs(session.get_modelmeta().custom_metadata_map[INPUTS])
    with connect_without_lake() as duck:
        table = Judge(duck, load_profile()).typed("items", [json.dumps(line) for line, *_ in state().values()])
    (vectors,) = session.run(["vector"], raw_columns(inputs, table))
    return np.asarray(vectors, np.float32)


def assert_vectors_are_those_of(own: World, day: str) -> None:
    found = state()
    np.testing.assert_allclose(np.stack([each[3] for each in found.values()]), vectors_of_file(own, day), atol=1e-6)
    assert {name for _, _, name, _ in found.values()} == {own.read("onnx_dssm", day).manifest.files["item.onnx"]}


def at(name: str, second: int) -> FreshFile:
    """A file that was written at a second of an earlier hour."""
    hour = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    return FreshFile("items", f"{FOLDER}/items/{name}", name, hour + dt.timedelta(seconds=second))


def lines(*rows: Mapping[str, Any]) -> list[str | Unread]:
    return [json.dumps(row) for row in rows]


@pytest.mark.usefixtures("fresh")
def test_vectors_of_a_deployed_tower_are_those_of_its_file_before_and_after_an_update(own: World) -> None:
    genres = ["Drama|War", "", None, "Unheard of", "Comedy"]
    rows = lines(*(item(number, genres=genres[number % 5]) for number in range(1_203)))
    with opened() as taking:
        assert taking.take([(at("a", 0), rows)]) == FilesTaken(1, 1_203, 0, 1_203)
        assert_vectors_are_those_of(own, YESTERDAY)
        recsys("deploy", "update", NAME, "--bizdate", DAY)
        try:
            again = lines(*(item(number, title="Changed") for number in range(1_203)))
            assert taking.take([(at("b", 1), again)]).changed == 1_203
            assert_vectors_are_those_of(own, DAY)
        finally:
            recsys("deploy", "rollback", NAME)


@pytest.mark.usefixtures("own", "fresh")
def test_a_file_that_is_given_again_does_not_win_over_a_newer_one() -> None:
    first, second = (
        (at("a", 0), lines(item(1, title="old", withdrawn=False))),
        (at("b", 1), lines(item(1, title="new"))),
    )
    with opened() as taking:
        assert [taking.take([each]).changed for each in (first, second, first)] == [1, 1, 0]
    assert [line["title"] for line, *_ in state().values()] == ["new"]


def test_a_service_that_is_gone_keeps_no_row_half_taken(
    own: World, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not fresh.exists()
    monkeypatch.setattr(taker, "PATIENCE", 1.0)
    with opened() as taking:
        log = Home(load_profile().name, NAME).folder
        service = int((log / "service.pid").read_text(encoding="ascii"))
        os.kill(service, signal.SIGTERM)
        until("it ended", lambda: not Path(f"/proc/{service}").exists())
        with pytest.raises(ServiceError, match="does not answer"):
            taking.take([(at("a", 0), lines(item(1)))])
        assert state() == {}
        with (own.home / "again.log").open("wb") as said:
            subprocess.Popen(
                [sys.executable, "-m", "recsys_assets.cli", "deploy", "run", NAME], stdout=said, stderr=said
            )
        monkeypatch.setattr(taker, "PATIENCE", 120.0)
        assert taking.take([(at("a", 0), lines(item(1)))]).changed == 1


@pytest.mark.usefixtures("fresh")
def test_what_changed_is_in_the_live_collection_and_withdrawn_items_are_not(
    own: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgres("") as server:
        uri = server.address(quote(PASSWORD, safe=""))
        monkeypatch.setenv("RECSYS_POSTGRES_URI", uri)
        profile = load_profile()
        with opened() as taking, open_store("postgres", profile.name) as store:
            store.claim(Lake.of(settings().lake, profile).owner)
            taking.take([(at("a", 0), lines(item(1), item(2)))])
            store.write(
                "dssm_item",
                f"{DAY}.aaaaaaaaaaaa",
                pa.table({KEY: ["1"], "vector": vectors_of_file(own, DAY)[:1].tolist()}),
            )
            store.go_live("dssm_item", f"{DAY}.aaaaaaaaaaaa")
            taking.take([(at("b", 1), lines(item(2, withdrawn=True), item(3)))])
        with psycopg.connect(uri) as connection:
            found = connection.execute(f'SELECT {KEY}, vector::text FROM "{profile.name}".dssm_item').fetchall()
    pushed = {int(key): json.loads(text) for key, text in found}
    assert pushed.keys() == {1, NEW + 1, NEW + 3}
    wanted = dict(zip(state(), vectors_of_file(own, DAY), strict=True))  # the live version is of that day
    np.testing.assert_allclose(
        [pushed[NEW + each] for each in (1, 3)], [wanted[NEW + each] for each in (1, 3)], atol=1e-6
    )


@pytest.mark.usefixtures("fresh")
def test_the_towers_of_another_model_are_refused() -> None:
    profile = load_profile()
    profile = profile.model_copy(update={"fresh": profile.fresh.model_copy(update={"model": "simplex"})})
    url = address(Home(profile.name, NAME).read())
    with pytest.raises(OtherModel, match="'items' has the towers of dssm, and fresh rows take those of simplex"):
        Taker(profile, Lake.of(settings().lake, profile), url).__enter__()


def test_the_blocks_of_a_file_are_put_together_in_their_order(tmp_path: Path) -> None:
    written = dt.datetime(2026, 4, 1, tzinfo=dt.UTC)
    blocks = [
        ("b.jsonl", 8, "3", True),
        ("a%20x.jsonl", 0, "0", True),
        ("b.jsonl", 0, "1", True),
        ("b.jsonl", 0, "", True),
    ]
    rows = [
        {
            "value": value,
            "is_text": is_text,
            "file_path": f"file://{tmp_path}/stream/items/{name}",
            "file_block_start": start,
            "file_modification_time": written,
            "file_size": 9,
        }
        for name, start, value, is_text in [*blocks, ("b.jsonl", 0, "\ufffd", False)]
    ]
    (first, of_first), (second, of_second) = files_of(pa.Table.from_pylist(rows), tmp_path)
    assert (first.source, first.name, first.written) == ("items", "stream/items/a x.jsonl", written)
    assert (second.name, of_first) == ("stream/items/b.jsonl", ["0"])
    assert of_second == ["1", Unread("the row is not UTF-8 text"), "3"]


@engines
@needs_spark
def test_spark_takes_files_with_their_good_rows_and_a_batch_that_it_repeats_changes_nothing(
    own: World, fresh: Path
) -> None:
    write(
        fresh, "10-05.jsonl", item(1), {"item_id": "x"}, b'{"item_id": 5, "title": "\xff"}', item(2, title="a\u2028b")
    )
    write(fresh, "10-06.jsonl", item(1, title="newer", genres=None))
    write(fresh, "half.jsonl.tmp", item(3))
    assert "2 files: 5 rows, 2 set aside, 3 changed" in recsys("stream", "spark", NAME, "--once")
    before = state()
    assert [before[NEW + each][0]["title"] for each in (1, 2)] == ["newer", "a\u2028b"]
    assert_vectors_are_those_of(own, YESTERDAY)
    home = fresh_folder(load_profile().name)
    with contextlib.closing(Database(load_profile().name).connect()) as connection:
        rejected = connection.execute("SELECT file, row, reason FROM rejected ORDER BY row").fetchall()
    assert rejected == [
        (f"{FOLDER}/items/10-05.jsonl", 2, "item_id is not of type int64"),
        (f"{FOLDER}/items/10-05.jsonl", 3, "the row is not UTF-8 text"),
    ]
    write(fresh, "10-07.jsonl", item(1, title="newest"))
    recsys("stream", "spark", NAME, "--once")
    with opened() as taking:
        taking.take([(at("told", 3_600), lines(item(1, title="told later")))])
    for each in (home / CHECKPOINT / "commits").iterdir():  # as if it had been killed before it wrote this down
        if each.name in ("1", ".1.crc"):
            each.unlink()
    assert "1 files: 1 rows, 0 set aside, 0 changed" in recsys("stream", "spark", NAME, "--once")
    assert state()[NEW + 1][0]["title"] == "told later"


@engines
@needs_spark
def test_spark_that_is_killed_loses_no_row_and_keeps_the_newest(own: World, fresh: Path) -> None:
    drawn, wanted, log = random.Random(3), dict[int, str](), own.home / "spark.log"
    command = [sys.executable, "-m", "recsys_assets.cli", "stream", "spark", NAME]
    for kill in range(2):
        with log.open("ab") as said:
            job = subprocess.Popen(command, stdout=said, stderr=said)
        for number in range(40):
            rows = [item(drawn.randrange(200), title=f"{kill} {number} {place}") for place in range(10)]
            wanted |= {row["item_id"]: row["title"] for row in rows}
            write(fresh, f"{kill}-{number:02}.jsonl", *(row | {"update_time": time.time()} for row in rows))
            time.sleep(0.005)
        before = newest_change()
        until("it takes rows", partial(changed_or_ended, before, job))
        time.sleep(drawn.random())
        assert job.poll() is None, log.read_text(encoding="utf-8")
        job.kill()
        job.wait()
    assert "0 set aside" in recsys("stream", "spark", NAME, "--once")
    assert {key: line["title"] for key, (line, *_) in state().items()} == wanted
    assert_vectors_are_those_of(own, YESTERDAY)


@needs_spark
@pytest.mark.usefixtures("fresh")
def test_a_second_job_is_refused() -> None:
    profile = load_profile()
    lock = FileLock(fresh_folder(profile.name) / LOCK)
    with opened() as taking, lock, pytest.raises(StreamRuns, match="runs already"):
        run(profile, taking, once=True)
