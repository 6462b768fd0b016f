"""A real Triton server: the towers, the contract of stores, and the configuration for the onnxruntime backend."""

import json
import shutil
import subprocess
from collections.abc import Iterator

import onnx
import pyarrow as pa
import pytest

from recsys_assets.assets.publish.onnx import TOLERANCE
from recsys_assets.stores.store import KEY
from recsys_assets.stores.triton import server
from recsys_assets.stores.triton.config import BACKENDS, CONTENT, FILES, config_name, model_files
from recsys_assets.stores.triton.store import TritonStore, repository
from recsys_assets.training.onnx_export import open_session
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.funnel_world import funnel_world
from recsys_assets_tests.helpers.in_process import failed_checks, failures, materialize
from recsys_assets_tests.helpers.store_contract import StoreContract
from recsys_assets_tests.helpers.triton_server import Triton, needs_triton, triton_server
from recsys_assets_tests.helpers.worlds import DAY, World

pytestmark = [pytest.mark.engines, needs_triton]
MODEL = "dssm"
ECHO = """
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        tensors = [pb_utils.get_input_tensor_by_name(each, "x").as_numpy() for each in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", each)]) for each in tensors]
"""
CONFIG = """backend: "{backend}"
max_batch_size: 4
input {{ name: "x" data_type: TYPE_FP32 dims: [ 1 ] }}
output {{ name: "y" data_type: TYPE_FP32 dims: [ 1 ] }}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with funnel_world(tmp_path_factory) as world:
        world.run(
            ["negative_items", f"recall_{MODEL}", f"onnx_{MODEL}"],
            config={f"recall_{MODEL}": {"training": {"epochs": 1}}},
        )
        yield world


@pytest.fixture(scope="module")
def triton(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:  # noqa: ARG001 (it names the lake)
    with triton_server(tmp_path_factory.mktemp("triton") / "log") as found:
        yield found


def test_both_towers_answer_like_onnxruntime_and_go_live(world: World, triton: Triton) -> None:
    found = materialize([f"triton_{MODEL}"], DAY)
    assert (failures(found), failed_checks(found)) == ({}, set())
    metrics = world.read(f"triton_{MODEL}").manifest.metrics
    assert metrics.keys() == {f"max_difference_{MODEL}_user", f"max_difference_{MODEL}_item"}
    assert max(metrics.values()) <= TOLERANCE
    assert [len(triton.versions(f"{MODEL}_{side}")) for side in ("user", "item")] == [1, 1]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """A server of a repository of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECSYS_TRITON_REPOSITORY", str(tmp_path_factory.mktemp("repository")))
        patch.setenv("RECSYS_PROFILE", "sample")
        with triton_server(tmp_path_factory.mktemp("empty") / "log") as found:
            yield found


@pytest.fixture
def store(empty: Triton) -> Iterator[TritonStore]:
    """The store over it, in which nothing is left of the test before."""
    with TritonStore(empty.url, "sample") as store:
        yield store
        for model in store.models():
            store.client.unload(model)
        shutil.rmtree(repository("sample"))
        repository("sample").mkdir()


class TestTriton(StoreContract):
    @staticmethod
    def table(count: int = 50, shift: float = 0.0) -> pa.Table:
        """The files of a model that gives its input back, and others up to the count."""
        needed = {config_name(each): CONFIG.format(backend=each) for each in BACKENDS} | {"model.py": ECHO}
        others = {str(number): f"{number} {shift}" for number in range(count - len(needed))}
        files = {name: text.encode() for name, text in (others | needed).items()}
        return pa.table([list(files), list(files.values())], schema=FILES)


@pytest.mark.parametrize("side", ["user", "item"])
def test_triton_reads_the_configuration_for_onnxruntime_as_the_onnx_file_says(world: World, side: str) -> None:
    """NVIDIA's own definition of the format parses it, in the server's environment."""
    file = world.read(f"onnx_{MODEL}").path(f"{side}.onnx")
    text = next(each[CONTENT] for each in model_files(file).to_pylist() if each[KEY] == config_name("onnxruntime"))
    code = (
        "import sys; from google.protobuf import json_format, text_format;"
        "from tritonclient.grpc import model_config_pb2;"
        "print(json_format.MessageToJson(text_format.Parse(sys.stdin.read(), model_config_pb2.ModelConfig())))"
    )
    python = str(server.environment(PROJECT) / "bin" / "python")
    said = subprocess.run([python, "-c", code], input=text, stdout=subprocess.PIPE, check=True).stdout
    config, graph = json.loads(said), onnx.load(file).graph
    (vector,) = open_session(file).get_outputs()  # the file leaves the length of a vector open, as that of a history
    open_widths = {"input": -1, "output": vector.shape[1]}
    types = {
        onnx.TensorProto.INT64: "TYPE_INT64",
        onnx.TensorProto.STRING: "TYPE_STRING",
        onnx.TensorProto.FLOAT: "TYPE_FP32",
    }
    for what, tensors in (("input", graph.input), ("output", graph.output)):
        assert len(config[what]) == len(tensors)
        for made, tensor in zip(config[what], tensors, strict=True):
            _, *widths = tensor.type.tensor_type.shape.dim
            assert (made["name"], made["dataType"]) == (tensor.name, types[tensor.type.tensor_type.elem_type])
            shape = [each.dim_value or open_widths[what] for each in widths]
            assert [int(each) for each in made["dims"]] == (shape or [1])
            assert ("reshape" in made) == (not shape)
    assert config["backend"] == "onnxruntime"
    assert "dynamicBatching" in config
