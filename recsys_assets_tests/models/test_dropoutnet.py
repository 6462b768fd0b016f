"""DropoutNet: what is dropped, what is served without events, and its losses against their formulas."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import torch

from recsys_assets.features.raw import raw_inputs
from recsys_assets.features.schema import Feature, FeatureSchema
from recsys_assets.manifest import Partition
from recsys_assets.models.catalogue import MODELS, TOWERS, build_towers, configure
from recsys_assets.models.config import ConfigError
from recsys_assets.models.dropoutnet import DropoutNet
from recsys_assets.models.losses import are_in, mined_softmax
from recsys_assets.models.towers import Negatives
from recsys_assets.retrieval.interactions import Queries
from recsys_assets.retrieval.raw_users import raw_users
from recsys_assets.serving.user_tower import UserTower
from recsys_assets.training import checkpoint, onnx_export, onnx_towers, recall, tower_data
from recsys_assets_tests.helpers import recall_world

SMALL = {"width": 8, "embedding": 8, "preference": 8, "content": 16, "hidden": 16, "history": 5}
QUICK = {"batch": 256, "epochs": 3, "warmup": 5, "learning_rate": 5e-3}


def source() -> recall.Source:
    """The small world with numbers, vectors and texts of items, and a number of users."""
    given = recall_world.source()
    rng = np.random.default_rng(3)
    look = pa.array(rng.normal(size=(given.items.num_rows, 3)).tolist(), pa.list_(pa.float32()))
    items = given.items.append_column("look", look)
    items = items.append_column("price", pa.array([*rng.lognormal(size=given.items.num_rows - 1), None], pa.float32()))
    return replace(given, items=items, users=given.users.append_column("age", pa.array(range(given.users.num_rows))))


def schema() -> FeatureSchema:
    more = [
        Feature("age", "numeric", "user", "float32", mean=[40.0], std=[20.0]),
        Feature("look", "numeric", "item", "float32", length=3, mean=[0.0] * 3, std=[1.0] * 3),
        Feature("price", "numeric", "item", "float32", mean=[1.0], std=[1.0], transform="log", boundaries=[0.5, 2.0]),
    ]
    return FeatureSchema([*recall_world.schema().features, *more])


def made(**config: Any) -> tuple[DropoutNet, tower_data.TowerData]:
    torch.manual_seed(0)
    model = build_towers("dropoutnet", schema(), configure("dropoutnet", {**SMALL, **config}, {})[0]).eval()
    given = source()
    return cast(DropoutNet, model), tower_data.load(model, given.interactions, given.users, given.items)


def test_the_catalogue_and_the_class_agree_on_which_models_are_for_cold_start() -> None:
    given = recall_world.source()
    assert given.interactions is not None
    for name in TOWERS:
        assert build_towers(name, recall_world.schema(), TOWERS[name].config()).cold == MODELS[name].cold


def test_both_preference_parts_are_dropped_by_default() -> None:
    config = TOWERS["dropoutnet"].config()
    assert config.user_dropout > 0 < config.item_dropout


def test_an_item_without_events_is_its_content_and_a_known_one_is_more() -> None:
    model, data = made()
    unknown = 5  # item 105 is not in the vocabulary
    twins = data.items[[unknown, 6]].clone()
    floats, place = model.item_schema.floats, model.item_schema.columns["item_id"].start
    same = torch.arange(twins.shape[1]) != floats + place
    twins[1, same] = twins[0, same]  # item 106 with the content of item 105
    vectors = model.item(twins)
    assert not torch.allclose(vectors[0], vectors[1])
    model.items.weight.data[model.token(twins[1:])] = 0
    vectors = model.item(twins)
    assert torch.allclose(vectors[0], vectors[1], atol=1e-6)


def test_in_training_a_share_of_the_items_is_served_as_if_it_had_no_events() -> None:
    model, data = made(item_dropout=0.3)
    rows = data.catalogue[6:7].repeat(4000, 1)
    model.train()
    absent = rows.clone()
    absent[:, model.item_schema.floats + model.item_schema.columns["item_id"].start] = model.item_schema.first_row[
        "item_id"
    ]
    with torch.no_grad():
        found, without = model.item(rows), model.item(absent)[0]
    dropped = torch.isclose(found, without, atol=1e-3).all(1).float().mean()
    assert abs(float(dropped) - 0.3) < 0.03


def test_with_everything_dropped_only_content_learns() -> None:
    model, data = made(item_dropout=1.0, user_dropout=1.0)
    model.train()
    model.item(data.catalogue)[:, 0].sum().backward()  # type: ignore[no-untyped-call]
    assert model.items.weight.grad is not None
    assert not model.items.weight.grad.any()


@pytest.mark.parametrize(
    "network",
    [
        {"losses": ["softmax"]},
        {"losses": ["classification", "pairwise"]},
        {"losses": ["softmax", "classification"], "hard": 1.5, "margin": 0.1},
        {"losses": ["softmax", "match"], "preferences": "sasrec"},
    ],
    ids=lambda network: "+".join(network["losses"]),
)
@pytest.mark.parametrize("negatives", ["all", "in_batch"])
def test_every_loss_learns(network: dict[str, Any], negatives: str) -> None:
    given = source()
    if "preferences" in network:
        ids = pa.array(range(100, 140))
        given = replace(given, preferences=(ids, np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)))
    settings = configure("dropoutnet", {**SMALL, **network}, {**QUICK, "negatives": negatives})
    history = recall.fit("dropoutnet", schema(), given, *settings, 1).history
    assert history[-1]["train_loss"] < history[0]["train_loss"]


def test_given_vectors_stay_as_they_are_and_items_without_one_have_zeros() -> None:
    vectors = np.random.default_rng(0).normal(size=(10, 8)).astype(np.float32)
    given = replace(source(), preferences=(pa.array(range(100, 110)), vectors))
    settings = configure("dropoutnet", {**SMALL, "preferences": "sasrec"}, QUICK)
    model = cast(DropoutNet, recall.fit("dropoutnet", schema(), given, *settings, 1).model)
    expected = np.zeros((40, 8), np.float32)
    expected[1:6], expected[6:10] = vectors[:5], vectors[6:]  # item 105 is not in the vocabulary
    np.testing.assert_array_equal(model.items.weight.detach().numpy(), expected)


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match="match needs `preferences`"):
        configure("dropoutnet", {"losses": ["match"]}, {})
    with pytest.raises(ConfigError, match="losses is empty"):
        configure("dropoutnet", {"losses": []}, {})
    with pytest.raises(ConfigError, match="only `recall_dropoutnet` reads them"):
        recall.fit("dropoutnet", schema(), source(), *configure("dropoutnet", {"preferences": "dssm"}, QUICK), 1)
    wide = replace(source(), preferences=(pa.array([100]), np.ones((1, 9), np.float32)))
    with pytest.raises(ConfigError, match="model.preference = 8: given vectors have 9 numbers"):
        recall.fit("dropoutnet", schema(), wide, *configure("dropoutnet", {**SMALL, "preferences": "dssm"}, QUICK), 1)


def test_tokens_of_a_history_are_found() -> None:
    rng = np.random.default_rng(0)
    tokens, histories = torch.tensor(rng.integers(1, 30, 50)), torch.tensor(rng.integers(0, 30, (20, 7)))
    expected = [[token in row for token in tokens.tolist()] for row in histories.tolist()]
    assert are_in(tokens, histories).tolist() == expected


def test_a_support_vector_weighs_more_and_another_negative_does_not() -> None:
    negatives = Negatives(torch.tensor([1, 2, 3]), torch.zeros(5))
    positive, others = torch.tensor([0.5]), torch.tensor([[0.45, 0.6, -torch.inf]])
    found = mined_softmax(positive, others, torch.tensor([4]), negatives, temperature=0.5, margin=0.1, hard=2.0)
    lowered, logits = 0.4, np.array([2 * 0.45 + 1, 2 * 0.6 + 1])
    expected = np.log(np.exp(lowered / 0.5) + np.exp(logits / 0.5).sum()) - lowered / 0.5
    assert float(found) == pytest.approx(expected, abs=1e-5)
    plain = mined_softmax(positive, others, torch.tensor([4]), negatives, temperature=0.5)
    assert float(plain) == pytest.approx(np.log(1 + np.exp((np.array([0.45, 0.6]) - 0.5) / 0.5).sum()), abs=1e-5)


def test_the_files_of_towers_with_numbers_give_the_vectors_of_training_even_for_what_is_new(tmp_path: Path) -> None:
    given = source()
    fitted = recall.fit("dropoutnet", schema(), given, *configure("dropoutnet", SMALL, QUICK), 1)
    checkpoint.save(tmp_path, fitted)
    onnx_towers.export(tmp_path, tmp_path)
    model = recall.two_tower(checkpoint.load(tmp_path))
    data = tower_data.load(model, given.interactions, given.users, given.items)
    everyone = np.arange(len(data.users))
    starts = np.searchsorted(given.interactions.users, everyone)
    ends = starts + everyone % 7
    users = raw_users(model.history, given.interactions, given.users, everyone, starts, ends)
    for side, table in {"user": users, "item": given.items}.items():
        assert onnx_towers.parity(tmp_path, tmp_path / f"{side}.onnx", cast(Any, side), table) < 1e-5
    expected = recall.user_vectors(model, data, everyone, starts, ends)
    files = cast(Partition, SimpleNamespace(path=lambda name: tmp_path / name))
    tower = UserTower(files, given.users, given.interactions.item_ids)
    asked = Queries(everyone, starts, ends, everyone[:0], np.zeros(len(everyone) + 1, np.int64))
    assert np.abs(tower(given.interactions, asked) - expected).max() < 1e-5
    new = given.items.slice(0, 2).set_column(0, "item_id", pa.array([9001, 9002]))
    runtime = onnx_export.open_session(tmp_path / "item.onnx")
    (vectors,) = runtime.run(["vector"], raw_inputs(model.item_schema, new))
    direct = recall.item_vectors(model, tower_data.encode_items(model, new, np.array([9001, 9002])))
    assert np.abs(vectors - direct).max() < 1e-5
