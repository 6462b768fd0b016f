import re
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pytest

from recsys_assets.datasets import names
from recsys_assets.features.feed import network_inputs
from recsys_assets.features.raw import raw_inputs
from recsys_assets.features.schema import MISSING, FeatureSchema, encode
from recsys_assets.funnel.network import read_network
from recsys_assets.funnel.one_user import of_one_user
from recsys_assets.funnel.scoring import Scorer
from recsys_assets.models.catalogue import RANKERS, features_for
from recsys_assets.training import checkpoint, rankers
from recsys_assets_tests.helpers.ranking_rows import messy_rows, quick_settings, ranking_rows, sequence_schema

SCHEMA = sequence_schema()
TOLERANCE = 1e-5


@pytest.fixture(scope="module", params=RANKERS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a checkpoint and its `model.onnx`."""
    folder = tmp_path_factory.mktemp("exported")
    table, _ = ranking_rows(5000, 1)
    ranker = rankers.fit(request.param, SCHEMA, table, table, *quick_settings(request.param, epochs=2))
    ranker.save(folder)
    ranker.export(folder / "model.onnx", {"bizdate": "2003-02-28"})
    return folder


def test_onnxruntime_and_the_model_agree_on_ten_thousand_rows_and_on_single_ones(exported: Path) -> None:
    differences = rankers.parity(exported, exported / "model.onnx", ranking_rows(10_000, 2)[0])
    assert set(differences) == {"max_difference", "max_difference_batch_4096", "max_difference_batch_1"}
    assert max(differences.values()) <= TOLERANCE


def test_rows_of_one_user_are_scored_alike_when_what_they_share_is_computed_once(exported: Path) -> None:
    schema = rankers.load(exported).fitted.schema
    scorer, table = Scorer(exported / "model.onnx", schema), ranking_rows(300, 3)[0]
    shared = [feature.name for feature in schema.features if feature.side == "user"]
    users = np.repeat([4, 9, 17], [120, 179, 1])
    for name in shared:
        table = table.set_column(table.column_names.index(name), name, table[name].take(pa.array(users)))
    inputs = network_inputs(encode(schema, table))
    assert scorer.by_user(inputs, users) == pytest.approx(scorer.run(inputs), abs=1e-6)
    model = read_network(exported / "model.onnx")
    is_rewritten = b"one_user/" in of_one_user(model, schema).SerializeToString()
    assert is_rewritten == (checkpoint.read_description(exported)["model"] != "lgbm")
    assert len(scorer.by_user({name: column[:0] for name, column in inputs.items()}, users[:0])) == 0


def test_unknown_and_missing_values_are_treated_alike(exported: Path) -> None:
    assert rankers.parity(exported, exported / "model.onnx", messy_rows())["max_difference"] <= TOLERANCE


def test_parity_notices_another_model(exported: Path, tmp_path: Path) -> None:
    name, (rows, _) = checkpoint.read_description(exported)["model"], ranking_rows(1000, 2)
    rankers.fit(name, SCHEMA, rows, rows, *quick_settings(name, epochs=1)).save(tmp_path)
    assert rankers.parity(tmp_path, exported / "model.onnx", rows)["max_difference"] > 1e-3


def test_a_feature_may_have_any_name_that_a_profile_takes(exported: Path) -> None:
    """The internal tensors have names that no column can have, or that profiles refuse."""
    graph = onnx.load(exported / "model.onnx").graph
    features = {node.name for node in graph.input}
    inside = {name for node in graph.node for name in (*node.input, *node.output)} - features
    assert {name for name in inside if re.fullmatch(r"\w+", name)} <= names.OF_MODELS


def test_the_file_takes_raw_features_of_any_batch_size(exported: Path) -> None:
    network = onnx.load(exported / "model.onnx")
    shapes = {
        node.name: [size.dim_param or size.dim_value for size in node.type.tensor_type.shape.dim]
        for node in (*network.graph.input, *network.graph.output)
    }
    sequences = {"recent": ["batch", 3]} if "recent" in shapes else {}
    assert bool(sequences) == bool(rankers.load(exported).fitted.schema.of_kind("sequence"))
    assert shapes == {
        "user_id": ["batch"],
        "gender": ["batch"],
        "item_id": ["batch"],
        "genres": ["batch", 3],
        "tags": ["batch", 2],
        "activity": ["batch"],
        "taste": ["batch", 4],
        **sequences,
        "score": ["batch"],
    }


def test_missing_values_and_padding_stand_as_the_file_says(exported: Path) -> None:
    feed = raw_inputs(SCHEMA, messy_rows())
    said = {entry.key: entry.value for entry in onnx.load(exported / "model.onnx").metadata_props}
    assert said["missing_int64"] == str(MISSING["int64"]) == str(feed["user_id"][2])
    assert said["missing_string"] == MISSING["string"] == feed["gender"][2]
    assert feed["genres"].tolist()[3:] == [["Action", "Comedy", "Drama"], ["Western", "", "Drama"]]
    assert said["bizdate"] == "2003-02-28"
    assert said["schema_fingerprint"] == features_for(said["model"], SCHEMA).fingerprint


def test_the_same_checkpoint_gives_the_same_bytes_and_no_path_of_this_machine(exported: Path, tmp_path: Path) -> None:
    rankers.load(exported).export(tmp_path / "again.onnx", {"bizdate": "2003-02-28"})
    content = (tmp_path / "again.onnx").read_bytes()
    assert content == (exported / "model.onnx").read_bytes()
    for trace in (b"site-packages", b"recsys_assets", b".py", bytes(Path.cwd())):
        assert trace not in content


@pytest.mark.parametrize(
    ("model", "absent"),
    [("widedeep", "multi_valued"), ("lgbm", "multi_valued"), *((model, "numeric") for model in RANKERS)],
)
def test_a_schema_without_lists_and_crosses_or_without_numbers_is_exported_too(
    model: str, absent: str, tmp_path: Path
) -> None:
    features = [feature for feature in SCHEMA.features if feature.kind != absent and not feature.terms_of]
    table, _ = ranking_rows(1000, 3)
    ranker = rankers.fit(model, FeatureSchema(features), table, table, *quick_settings(model, epochs=1))
    ranker.save(tmp_path)
    ranker.export(tmp_path / "model.onnx", {})
    assert rankers.parity(tmp_path, tmp_path / "model.onnx", table)["max_difference"] <= TOLERANCE
