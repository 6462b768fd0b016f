"""The registered champion is a model of MLflow's own: `mlflow models serve` scores raw features with it."""

import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import mlflow
import numpy as np
import orjson
import pytest

from recsys_assets.arrays import Array, Floats
from recsys_assets.features.raw import raw_inputs
from recsys_assets.settings import settings
from recsys_assets.tracking import Tracking, _mlflow
from recsys_assets.training import rankers
from recsys_assets.training.onnx_export import open_session
from recsys_assets_tests.helpers.environment import forget_tracking_uri
from recsys_assets_tests.helpers.page_blocks import commands_of, only_block
from recsys_assets_tests.helpers.ranking_rows import quick_settings, ranking_rows, ranking_schema

MODEL, TOLERANCE, ROWS = "models:/sample-rank@champion", 1e-5, 10_000
PATIENCE = 120.0  # seconds until the server answers: the machine may be busy
SCHEMA = ranking_schema()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The ONNX files of two models on the same features of every kind."""
    folder, (rows, _) = tmp_path_factory.mktemp("rankers"), ranking_rows(2000, 1)
    found = {name: folder / f"{name}.onnx" for name in ("champion", "other")}
    for seed, file in enumerate(found.values()):
        rankers.fit("lgbm", SCHEMA, rows, rows, *quick_settings("lgbm", epochs=1), seed=seed).export(file, {})
    return found


@pytest.fixture(scope="module")
def promoted(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracking]:
    """MLflow with the file `champion` as its champion; the environment names it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECSYS_DATA", str(tmp_path_factory.mktemp("mlflow")))
        patch.setenv("RECSYS_PROFILE", "sample")
        forget_tracking_uri(patch)
        tracking = Tracking(profile="sample")
        promote(tracking, run_of(tracking), files["champion"])
        yield tracking


def run_of(tracking: Tracking) -> str:
    with _mlflow():
        tracking._prepare()
    client = mlflow.MlflowClient(settings().tracking_uri)
    experiment = client.get_experiment_by_name("sample")
    assert experiment
    return str(client.create_run(experiment.experiment_id).info.run_id)


def promote(tracking: Tracking, run: str, file: Path) -> str:
    return tracking.promote(run, "rank", "champion", {"bizdate": "2026-01-05"}, file).rpartition("/")[2]


@pytest.fixture(scope="module")
def url(promoted: Tracking, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:  # noqa: ARG001 (it names MLflow)
    """The address of `mlflow models serve` on the champion."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port, log = probe.getsockname()[1], tmp_path_factory.mktemp("log") / "serve.log"
    _, serve, _ = commands_of(only_block("triton.md", "mlflow models serve"))
    command = shlex.split(serve.replace("5001", str(port)))[1:]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # as in an activated environment
    environment = {**os.environ, "MLFLOW_TRACKING_URI": settings().tracking_uri, "PATH": path}
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command],
            env=environment,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + PATIENCE
        while not answers(f"http://127.0.0.1:{port}"):
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()


def answers(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/ping").status_code == httpx.codes.OK
    return False


def feed() -> dict[str, Array]:
    return raw_inputs(SCHEMA, ranking_rows(ROWS, 2)[0])


def scores(file: Path) -> Floats:
    found: Floats = open_session(file).run(["score"], feed())[0]
    return found


def test_the_server_scores_raw_features_like_onnxruntime_and_unlike_another_model(
    url: str, files: dict[str, Path]
) -> None:
    columns = {name: column.tolist() for name, column in feed().items()}
    answer = httpx.post(
        f"{url}/invocations",
        content=orjson.dumps({"inputs": columns}),
        timeout=60,
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == httpx.codes.OK, answer.text[:2000]
    found = np.array(answer.json()["predictions"]["score"], np.float32)
    assert found.shape == (ROWS,)
    assert np.abs(found - scores(files["champion"])).max() <= TOLERANCE
    assert np.abs(found - scores(files["other"])).max() > 1000 * TOLERANCE


def test_a_request_that_lacks_an_input_or_has_one_of_another_shape_is_refused(url: str) -> None:
    columns = {name: column[:2].tolist() for name, column in feed().items()}
    for wrong in ({name: each for name, each in columns.items() if name != "taste"}, {**columns, "taste": [1.0, 2.0]}):
        assert httpx.post(f"{url}/invocations", json={"inputs": wrong}).status_code == httpx.codes.BAD_REQUEST


def test_a_file_is_one_version_and_another_file_of_the_same_run_is_another(
    promoted: Tracking, files: dict[str, Path]
) -> None:
    run = run_of(promoted)
    versions = [promote(promoted, run, files[name]) for name in ("other", "other", "champion", "other")]
    assert (versions[0], versions[0]) == (versions[1], versions[3])
    assert versions[2] != versions[0]
    mlflow.set_tracking_uri(settings().tracking_uri)
    signature = mlflow.models.get_model_info(MODEL).signature
    assert [(each.name, each.type.name, each.shape) for each in signature.inputs][:4] == [
        ("user_id", "int64", (-1,)),
        ("gender", "str", (-1,)),
        ("item_id", "int64", (-1,)),
        ("genres", "str", (-1, 3)),
    ]
    assert [(each.name, each.type.name, each.shape) for each in signature.outputs] == [("score", "float32", (-1,))]
    texts = {name: each.astype(str) for name, each in feed().items() if each.dtype == object}
    loaded = mlflow.pyfunc.load_model(MODEL).predict({**feed(), **texts})
    np.testing.assert_allclose(loaded["score"], scores(files["other"]), rtol=0, atol=TOLERANCE)
