from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import torch

from recsys_assets.arrays import Vectors
from recsys_assets.datasets.splits import PARTS
from recsys_assets.declined import NothingToLearn
from recsys_assets.features.raw import raw_inputs, rows_of, widths
from recsys_assets.manifest import Partition
from recsys_assets.models.catalogue import TOWERS, TRAINED_TOWERS, build_towers, configure
from recsys_assets.models.config import ConfigError, NegativesKind
from recsys_assets.retrieval.interactions import Interactions, Queries, queries
from recsys_assets.retrieval.lists import evaluate
from recsys_assets.retrieval.raw_users import raw_users
from recsys_assets.retrieval.weighted_items import WeightedItems
from recsys_assets.serving.user_tower import UserTower
from recsys_assets.training import checkpoint, onnx_export, onnx_towers, recall, tower_data
from recsys_assets.training.loop import Fitted
from recsys_assets_tests.helpers.recall_world import ITEMS, schema, source

# The settings of models that learn little here, or slowly, with their defaults and a rate of 0.005.
NETWORK: dict[str, dict[str, Any]] = {
    "sasrec": {"width": 32, "history": 10, "dropout": 0.0},
    "dssm": {"history": 5},
    "simplex": {"history": 1, "user_share": 0.0, "margin": 0.0},
    "dropoutnet": {"history": 1, "item_dropout": 0.1, "user_dropout": 0.1},
    "ridge": {"history": 1, "l2": 1.0},
}
TRAINING = {"batch": 64, "epochs": 12, "warmup": 5, "patience": 12}
RATE = {"dssm": 1e-3, "dropoutnet": 2e-3}


def settings(name: str, **training: Any) -> tuple[Any, Any]:
    steps = {**TRAINING, "learning_rate": RATE.get(name, 5e-3), **training} if name in TRAINED_TOWERS else {}
    return configure(name, NETWORK.get(name, {}), steps)


def fit(name: str, **training: Any) -> Fitted:
    return recall.fit(name, schema(), source(), *settings(name, **training), 1)


def loaded(history: int = 10) -> tuple[tower_data.TowerData, int]:
    given = source()
    model = build_towers("sasrec", schema(), TOWERS["sasrec"].config(width=8, history=history))
    return tower_data.load(model, given.interactions, given.users, given.items), history


def known(tokens: list[int]) -> list[int]:
    return [token for token in tokens if token]


def told(events: Interactions, tokens: np.ndarray, row: int, history: int) -> list[int]:
    """Tokens of the newest events of the row's user before the row."""
    first = int(np.searchsorted(events.users, events.users[row]))
    return [int(token) for token in tokens[max(first, row - history) : row]]


def test_each_wanted_event_comes_once_with_the_history_before_it() -> None:
    data, history = loaded()
    wanted = tower_data.targets_of(data, "train", labelled=False)
    model = build_towers("sasrec", schema(), TOWERS["sasrec"].config(width=8, history=history))
    found: list[tuple[int, list[int], int]] = []
    for batch in tower_data.event_batches(data, wanted, history, 100, np.random.default_rng(0)):
        past = model.past(batch.users).tolist()
        found += zip(batch.users[:, 0].tolist(), map(known, past), batch.targets.tolist(), strict=True)
    events, rows = data.interactions, np.flatnonzero(wanted)
    before = [known(told(events, data.tokens, int(row), history)) for row in rows]
    expected = zip(data.users[events.users[rows], 0].tolist(), before, data.tokens[rows].tolist(), strict=True)
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("part", ["train", "validation"])
@pytest.mark.parametrize("history", [3, 7, 10, 50])
def test_windows_cover_every_wanted_event_and_hold_what_came_before(part: str, history: int) -> None:
    data, _ = loaded(history)
    events, wanted = data.interactions, tower_data.targets_of(data, part, labelled=False)
    first_of_user = np.searchsorted(events.users, np.arange(len(data.users)))
    reachable = {row for row in np.flatnonzero(wanted) if row not in first_of_user}
    model = build_towers("sasrec", schema(), TOWERS["sasrec"].config(width=8, history=history))
    for seed in range(3):
        covered: set[int] = set()
        for batch in tower_data.window_batches(data, wanted, history, 16, np.random.default_rng(seed)):
            past = model.past(batch.users)
            assert past.shape[1] <= history
            for window, place in (batch.targets > 0).nonzero().tolist():
                user, target = int(batch.users[window, 0]) - 2, int(batch.targets[window, place])
                before = past[window, : place + 1].tolist()
                rows = [
                    row
                    for row in reachable
                    if events.users[row] == user
                    and data.tokens[row] == target
                    and data.tokens[row - len(before) : row].tolist() == before
                ]
                assert rows, "no event of the user has this target after this history"
                covered |= set(map(int, rows))
        assert covered == reachable


@pytest.mark.parametrize("name", TOWERS)
def test_a_model_learns_what_comes_next(name: str) -> None:
    fitted, given = fit(name), source()
    model = recall.two_tower(fitted)
    data = tower_data.load(model, given.interactions, given.users, given.items)
    asked = queries(given.interactions, "test", filter_seen=False)
    metrics = evaluate(recall.lists(model, data, asked, 5, filter_seen=False).items, asked, [5])
    if name == "fm":  # it learns which items are liked, and here nobody prefers any item
        assert set(recall.kept_metrics(fitted, given)) >= {"test_auc", "validation_auc"}
    elif name == "ridge":  # it learns which items belong together, in no order
        assert metrics["hitrate@5"] > 1.2 * 5 / ITEMS
    else:
        assert metrics["hitrate@5"] > 2.5 * 5 / ITEMS


def test_items_that_the_model_does_not_know_are_on_no_list() -> None:
    given, fitted = source(), fit("sasrec", epochs=1)
    model = recall.two_tower(fitted)
    data = tower_data.load(model, given.interactions, given.users, given.items)
    found = recall.lists(model, data, queries(given.interactions, "test", False), 100, filter_seen=False)
    unknown = int(np.searchsorted(given.interactions.item_ids, 105))
    assert set(np.unique(found.items)) == set(range(-1, ITEMS)) - {unknown}


@pytest.mark.parametrize("kind", ["all", "in_batch", "uniform", "popularity", "table"])
@pytest.mark.parametrize("name", ["sasrec", "dssm", "simplex", "dropoutnet"])
def test_every_kind_of_negatives_trains(name: str, kind: NegativesKind) -> None:
    given = replace(source(), weights=WeightedItems(np.arange(100, 130), np.linspace(1, 2, 30), pa.table({})))
    few = configure(name, NETWORK[name], {**TRAINING, "epochs": 3, "negatives": kind, "sampled": 50})
    history = recall.fit(name, schema(), given, *few, 1).history
    assert history[-1]["train_loss"] < history[0]["train_loss"]


def test_a_table_that_is_not_there_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="negative_items"):
        fit("dssm", negatives="table")


def test_a_part_without_targets_is_refused() -> None:
    given = source()
    given.interactions.labels[given.interactions.parts == PARTS.index("validation")] = 0
    with pytest.raises(NothingToLearn, match="validation"):
        recall.fit("dssm", schema(), given, *configure("dssm", {}, TRAINING), 1)


def test_nothing_is_learned_from_test_rows() -> None:
    given = source()
    tested = given.interactions.parts == PARTS.index("test")
    given.interactions.items[tested] = given.interactions.items[tested][::-1]
    given.interactions.labels[tested] = 1
    other = recall.fit("sasrec", schema(), given, *settings("sasrec", epochs=2), 1)
    for one, two in zip(fit("sasrec", epochs=2).model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("name", TOWERS)
def test_a_checkpoint_and_its_onnx_files_give_the_vectors_of_training(name: str, tmp_path: Path) -> None:
    fitted, given = fit(name, epochs=2), source()
    for folder in ("one", "two"):
        checkpoint.save(tmp_path / folder, fitted if folder == "one" else fit(name, epochs=2))
        onnx_towers.export(tmp_path / folder, tmp_path / folder)
    for file in ("model.safetensors", "model.json", "user.onnx", "item.onnx"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file
    model = recall.two_tower(checkpoint.load(tmp_path / "one"))
    data = tower_data.load(model, given.interactions, given.users, given.items)
    starts = np.searchsorted(given.interactions.users, np.arange(len(data.users)))
    ends = starts + np.arange(len(starts)) % 20
    everyone = np.arange(len(starts))
    before = recall.user_vectors(recall.two_tower(fitted), data, everyone, starts, ends)
    assert np.array_equal(before, recall.user_vectors(model, data, everyone, starts, ends))
    users = raw_users(model.history, given.interactions, given.users, everyone, starts, ends)
    raw = {"user": users, "item": given.items}
    for side in onnx_towers.SIDES:
        assert onnx_towers.parity(tmp_path / "one", tmp_path / "one" / f"{side}.onnx", side, raw[side], 32) < 1e-5
    runtime = onnx_export.open_session(tmp_path / "one" / "user.onnx")
    (vectors,) = runtime.run(["vector"], raw_inputs(model.user_schema, raw["user"]))
    assert np.abs(vectors - before).max() < 1e-5, "raw columns and encoded slices are the same histories"
    asked = Queries(everyone, starts, ends, everyone[:0], np.zeros(len(everyone) + 1, np.int64))
    found = served(tmp_path / "one", given, asked)
    assert np.abs(found - before).max() < 1e-5, "a service encodes them too"


def served(folder: Path, given: recall.Source, asked: Queries) -> Vectors:
    """The vectors that a service computes with the files of a tower, and a table of users that is as the lake's."""
    files = cast(Partition, SimpleNamespace(path=lambda name: folder / name))
    key = given.users.schema.field("user_id").with_nullable(False)
    users = given.users.set_column(given.users.schema.get_field_index("user_id"), key, given.users["user_id"])
    return UserTower(files, users, given.interactions.item_ids)(given.interactions, asked)


def test_a_service_encodes_somebody_who_is_not_in_the_users_table(tmp_path: Path) -> None:
    given, fitted = source(), fit("sasrec", epochs=2)
    checkpoint.save(tmp_path, fitted)
    onnx_towers.export(tmp_path, tmp_path)
    model = recall.two_tower(fitted)
    users, ends = np.arange(4), np.array([3, 9, 4, 5])
    asked = Queries(users, ends - 3, ends, users[:0], np.zeros(5, np.int64))
    kept = given.interactions.user_ids[[0, 2, 3]]  # the second one is left out
    without = replace(given, users=rows_of(given.users, "user_id", pa.array(kept)).take([2, 0, 1]))
    found, known = served(tmp_path, without, asked), served(tmp_path, given, asked)
    assert np.array_equal(found[[0, 2, 3]], known[[0, 2, 3]])
    histories = raw_users(model.history, given.interactions, without.users, users, ends - 3, ends)
    runtime = onnx_export.open_session(tmp_path / "user.onnx")
    assert np.abs(runtime.run(["vector"], raw_inputs(model.user_schema, histories))[0] - found).max() < 1e-5


def test_files_of_older_versions_take_histories_of_one_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, none, ends = source(), np.zeros(2, np.int64), np.array([3, 9])
    asked = Queries(none, none, ends, ends[:0], np.zeros(3, np.int64))
    checkpoint.save(tmp_path, fit("sasrec", epochs=2))
    onnx_towers.export(tmp_path, tmp_path)
    expected = served(tmp_path, given, asked)
    monkeypatch.setattr(onnx_export, "_free_widths", widths)
    onnx_towers.export(tmp_path, tmp_path)
    assert np.abs(served(tmp_path, given, asked) - expected).max() < 1e-5
