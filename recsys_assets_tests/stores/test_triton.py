"""The files of Triton's model repository, without a server: configurations, versions, and what is sent."""

import re
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pytest

from recsys_assets.features.feed import encoded, network_inputs
from recsys_assets.features.raw import Decoder, raw_inputs
from recsys_assets.features.schema import encode
from recsys_assets.stores.store import KEY, StoreUnavailable, Unrepresentable, VersionMissing
from recsys_assets.stores.triton.client import _wire
from recsys_assets.stores.triton.config import BACKENDS, CONTENT, MAX_BATCH, config_name, model_files
from recsys_assets.stores.triton.store import CONFIG, TritonStore, version_number
from recsys_assets.training import rankers
from recsys_assets.training.onnx_export import open_session
from recsys_assets_tests.helpers.ranking_rows import messy_rows, quick_settings, ranking_rows, sequence_schema
from recsys_assets_tests.helpers.store_contract import NEW, NEWER, OLD

TYPES = {
    onnx.TensorProto.INT64: "TYPE_INT64",
    onnx.TensorProto.STRING: "TYPE_STRING",
    onnx.TensorProto.FLOAT: "TYPE_FP32",
}
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ONNX file of a small ranker that reads features of every kind, sequences among them."""
    rows, file = ranking_rows(2000, 1)[0], tmp_path_factory.mktemp("ranker") / "model.onnx"
    rankers.fit("din", sequence_schema(), rows, rows, *quick_settings("din", epochs=1)).export(file, {})
    return file


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TritonStore:
    """A store whose server is away."""
    monkeypatch.setenv("RECSYS_TRITON_REPOSITORY", str(tmp_path))
    return TritonStore(NOWHERE, "sample")


def fields(text: str, what: str) -> dict[str, tuple[str, list[int], bool]]:
    """Name, type, dimensions and whether it is reshaped, of each input or output of a `config.pbtxt`."""
    form = rf'^{what} \{{ name: "(.*)" data_type: (\w+) dims: \[ ([\d, ]+) \]( reshape \{{ shape: \[ \] \}})? \}}$'
    found = re.findall(form, text, re.MULTILINE)
    assert len(found) == text.count(f"{what} {{")
    return {name: (kind, [int(each) for each in dims.split(",")], bool(flat)) for name, kind, dims, flat in found}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_configuration_has_each_input_and_output_of_the_onnx_file_and_no_other(file: Path, backend: str) -> None:
    rows = model_files(file).to_pylist()
    (text,) = [each[CONTENT].decode() for each in rows if each[KEY] == config_name(backend)]
    graph = onnx.load(file).graph
    for what, tensors in (("input", graph.input), ("output", graph.output)):
        expected = {}
        for tensor in tensors:
            batch, *widths = tensor.type.tensor_type.shape.dim
            assert batch.dim_param == "batch"
            kind = TYPES[tensor.type.tensor_type.elem_type]
            expected[tensor.name] = kind, [each.dim_value for each in widths] or [1], not widths
        assert fields(text, what) == expected
    assert len(fields(text, "input")) == 8
    assert f'backend: "{backend}"\n' in text
    assert f"max_batch_size: {MAX_BATCH}\n" in text
    assert "dynamic_batching {" in text


def test_raw_features_that_are_decoded_are_encoded_to_the_same_rows(file: Path) -> None:
    schema = sequence_schema()
    table = pa.concat_tables(
        [ranking_rows(500, 2)[0].drop_columns("label"), messy_rows()], promote_options="permissive"
    )
    rows, runtime = encode(schema, table), open_session(file)
    decoded = Decoder(schema)(encoded(network_inputs(rows)))
    (plain,), (again,) = (runtime.run(["score"], feed) for feed in (raw_inputs(schema, table), decoded))
    np.testing.assert_array_equal(again, plain)
    assert {name: (each.dtype, each.shape) for name, each in decoded.items()} == {
        name: (each.dtype, each.shape) for name, each in raw_inputs(schema, table).items()
    }


def test_texts_are_sent_with_their_lengths_in_front() -> None:
    for texts in ([], [""], ["a", "", "ü|,", "\0b"], [["a", ""], ["", "four"]]):
        column = np.array(texts, object)
        plain = [text.encode() for text in column.ravel()]
        assert _wire(column) == b"".join(len(each).to_bytes(4, "little") + each for each in plain)


def test_the_number_of_a_version_begins_with_its_bizdate_and_is_in_its_order() -> None:
    numbers = [version_number(each) for each in (OLD, NEW, NEWER, "2026-01-07.cccccccccccd")]
    assert [str(each)[:8] for each in numbers] == ["20260105", "20260106", "20260107", "20260107"]
    assert sorted(set(numbers)) == numbers
    assert numbers[-1] < 2**63


def test_files_come_back_and_nothing_is_live_before_a_server_has_loaded_it(
    file: Path, store: TritonStore, tmp_path: Path
) -> None:
    table = model_files(file)
    store.write("champion", NEW, table)
    (tmp_path / "sample" / "champion" / str(version_number(NEW)) / "__pycache__").mkdir()  # Triton makes it
    assert store.read("champion", ["model.py", "nothing", "model.onnx"], NEW).equals(table.take([1, 0]))
    assert (store.collections(), store.versions("champion"), store.count("champion", NEW)) == (["champion"], [NEW], 4)
    with pytest.raises(StoreUnavailable, match="champion 2026-01-06.* cannot go live.*recsys triton serve"):
        store.go_live("champion", NEW)
    assert store.live_version("champion") is None
    assert store.models() == []
    with pytest.raises(VersionMissing):
        store.go_live("champion", OLD)
    with pytest.raises(Unrepresentable):
        store.write("champion", OLD, table.append_column("more", table[KEY]))
    store.drop("champion", NEW)
    assert store.versions("champion") == []


def test_the_version_before_is_loaded_too_if_it_takes_the_same_inputs(
    file: Path, store: TritonStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.client, "load", lambda _: None)  # the test of the server loads them
    table = model_files(file)
    other = pa.array([b"# other inputs\n" + each.as_py() for each in table[CONTENT]], pa.large_binary())
    for version, made in ((OLD, table), (NEW, table), (NEWER, table.set_column(1, table.schema.field(1), other))):
        store.write("champion", version, made)

    def loaded() -> list[int]:
        (found,) = re.findall(r"versions: \[ (.*) \]", (tmp_path / "sample" / "champion" / CONFIG).read_text())
        return [int(each) for each in found.split(",")]

    store.go_live("champion", NEW)
    assert loaded() == [version_number(NEW), version_number(OLD)]
    store.drop("champion", OLD)
    assert loaded() == [version_number(NEW)]
    store.go_live("champion", NEWER)
    assert loaded() == [version_number(NEWER)]
    assert (store.live_version("champion"), store.models()) == (NEWER, ["champion"])
