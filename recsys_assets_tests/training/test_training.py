import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from recsys_assets.features.schema import encode
from recsys_assets.metrics import auc
from recsys_assets.models.catalogue import DESCRIPTION, RANKERS, UnknownModel, configure
from recsys_assets.models.config import ConfigError, TrainingConfig
from recsys_assets.training import checkpoint, loop, rankers, trainer
from recsys_assets.training.average import Average
from recsys_assets.training.data import LabelError
from recsys_assets.training.optimiser import optimiser
from recsys_assets_tests.helpers.ranking_rows import quick_settings, ranking_rows, ranking_schema

SCHEMA = ranking_schema()
TRAIN, VALIDATION, TEST = (ranking_rows(rows, seed) for rows, seed in ((20_000, 1), (4_000, 2), (4_000, 3)))
QUICK = TrainingConfig(batch=256, epochs=4, learning_rate=3e-3)


@pytest.fixture(scope="module")
def fitted() -> loop.Fitted:
    return trainer.fit("widedeep", SCHEMA, TRAIN[0], VALIDATION[0], training=QUICK, seed=5)


def test_the_model_comes_near_the_truth(fitted: loop.Fitted) -> None:
    table, truth = TEST
    labels = table["label"].to_numpy()
    assert auc(labels, trainer.predict(fitted.model, encode(SCHEMA, table))) > auc(labels, truth) - 0.04


def test_the_best_epoch_is_kept_and_then_sees_the_validation_rows() -> None:
    small, rows, labels = TRAIN[0].slice(0, 3000), encode(SCHEMA, VALIDATION[0]), VALIDATION[0]["label"].to_numpy()
    overfitting = dataclasses.replace(QUICK, epochs=30, learning_rate=0.02)
    seen = trainer.fit("widedeep", SCHEMA, small, VALIDATION[0], training=overfitting)
    unseen = trainer.fit(
        "widedeep", SCHEMA, small, VALIDATION[0], training=dataclasses.replace(overfitting, last_rate=0.0)
    )
    aucs = [metrics["validation_auc"] for metrics in unseen.history]
    assert unseen.best["validation_auc"] == max(aucs) > aucs[-1]
    assert auc(labels, trainer.predict(unseen.model, rows)) == pytest.approx(max(aucs), abs=1e-9)
    assert seen.history == unseen.history
    assert auc(labels, trainer.predict(seen.model, rows)) > max(aucs)


def test_the_average_of_the_weights_is_what_it_says() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    average = Average(model, 2.0)
    for weight in (1.0, 2.0, 4.0):
        model.weight.data.fill_(weight)
        average.after_step()
    second = 1.0 + (2.0 - 1.0) * 3 / 4  # (eta + 1) / (t + eta) at step t = 2
    assert next(average.averaged_model().parameters()).item() == pytest.approx(second + (4.0 - second) * 3 / 5)


def test_training_stops_when_validation_no_longer_gains() -> None:
    noise = TRAIN[0].slice(0, 500)
    settings = dataclasses.replace(QUICK, epochs=60, patience=2, learning_rate=0.02, warmup=1)
    stopped = trainer.fit("widedeep", SCHEMA, noise, VALIDATION[0], training=settings)
    assert len(stopped.history) == stopped.best_epoch + 3 < 60


def test_the_warm_up_ends_with_the_second_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[float] = []
    small = TRAIN[0].slice(0, 1000)

    def observed(*args: Any) -> torch.optim.Optimizer:
        adam = optimiser(*args)
        adam.register_step_pre_hook(lambda adam, *_: shares.append(adam.param_groups[0]["lr"] / 0.02))
        return adam

    monkeypatch.setattr(loop, "optimiser", observed)
    slow = dataclasses.replace(QUICK, batch=250, epochs=3, learning_rate=0.02, warmup=100, last_rate=0.0)
    trainer.fit("widedeep", SCHEMA, small, small, None, slow)
    assert shares == pytest.approx([0.01, 0.02, 0.03, 0.04, *[0.5] * 4, *[1.0] * 4])


def test_each_epoch_is_reported() -> None:
    seen: list[tuple[int, dict[str, float]]] = []
    small = TRAIN[0].slice(0, 1000)
    fitted = trainer.fit("widedeep", SCHEMA, small, small, None, QUICK, 0, lambda *epoch: seen.append(epoch))
    assert seen == list(enumerate(fitted.history))
    assert fitted.history[0].keys() == {"train_logloss", "validation_auc", "validation_logloss"}


def test_the_same_seed_gives_the_same_files_and_another_seed_others(tmp_path: Path, fitted: loop.Fitted) -> None:
    state = torch.get_rng_state()
    for name, seed in (("again", 5), ("other", 6)):
        checkpoint.save(tmp_path / name, trainer.fit("widedeep", SCHEMA, TRAIN[0], VALIDATION[0], None, QUICK, seed))
    checkpoint.save(tmp_path / "first", fitted)
    assert torch.equal(state, torch.get_rng_state()), "the caller's random numbers are not touched"
    for file in (checkpoint.WEIGHTS, DESCRIPTION):
        first = (tmp_path / "first" / file).read_bytes()
        assert first == (tmp_path / "again" / file).read_bytes()
        assert first != (tmp_path / "other" / file).read_bytes()


def test_parquet_files_are_read_like_tables(tmp_path: Path) -> None:
    small = TRAIN[0].slice(0, 2000)
    pq.write_table(small, tmp_path / "rows.parquet")
    one = trainer.fit("widedeep", SCHEMA, small, small, training=QUICK)
    other = trainer.fit("widedeep", SCHEMA, tmp_path / "rows.parquet", tmp_path / "rows.parquet", training=QUICK)
    assert one.history == other.history


def test_a_checkpoint_scores_as_the_model_it_was_saved_from(tmp_path: Path, fitted: loop.Fitted) -> None:
    checkpoint.save(tmp_path, fitted)
    loaded = checkpoint.load(tmp_path, SCHEMA)
    rows = encode(SCHEMA, TEST[0])
    assert np.array_equal(trainer.predict(loaded.model, rows), trainer.predict(fitted.model, rows))
    assert (loaded.config, loaded.training, loaded.history) == (fitted.config, fitted.training, fitted.history)


def test_a_checkpoint_refuses_another_schema(tmp_path: Path, fitted: loop.Fitted) -> None:
    checkpoint.save(tmp_path, fitted)
    with pytest.raises(checkpoint.CheckpointMismatch, match="materialize the model again"):
        checkpoint.load(tmp_path, ranking_schema(crosses=()))


def test_a_checkpoint_refuses_weights_that_are_not_its_own(tmp_path: Path, fitted: loop.Fitted) -> None:
    checkpoint.save(tmp_path, fitted)
    weights = load_file(tmp_path / checkpoint.WEIGHTS)
    save_file(dict(list(weights.items())[1:]), tmp_path / checkpoint.WEIGHTS)
    with pytest.raises(checkpoint.CheckpointMismatch, match="Missing key"):
        checkpoint.load(tmp_path)
    (tmp_path / checkpoint.WEIGHTS).write_bytes(b"half")
    with pytest.raises(checkpoint.CheckpointMismatch, match=checkpoint.WEIGHTS):
        checkpoint.load(tmp_path)


def test_a_schema_changed_inside_the_checkpoint_is_noticed(tmp_path: Path, fitted: loop.Fitted) -> None:
    checkpoint.save(tmp_path, fitted)
    text = (tmp_path / DESCRIPTION).read_text()
    (tmp_path / DESCRIPTION).write_text(text.replace('"F"', '"G"'))
    with pytest.raises(checkpoint.CheckpointMismatch, match="its own schema"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize(
    ("labels", "says"), [([0, 1, 2], "0 and 1 only"), ([0, None, 1], "0 and 1 only"), ([], "no rows")]
)
def test_labels_that_cannot_be_learned_are_refused(labels: list[int | None], says: str) -> None:
    table = TRAIN[0].slice(0, len(labels)).drop_columns(["label"]).append_column("label", [pa.array(labels, pa.int8())])
    with pytest.raises(LabelError, match=says):
        trainer.fit("widedeep", SCHEMA, table, VALIDATION[0])


def test_a_loss_that_is_no_number_ends_the_training() -> None:
    wild = dataclasses.replace(QUICK, learning_rate=1e30)
    with pytest.raises(loop.TrainingDiverged, match="learning_rate"):
        trainer.fit("widedeep", SCHEMA, TRAIN[0].slice(0, 1000), VALIDATION[0], training=wild)


def test_settings_are_given_by_name_and_unknown_ones_refused() -> None:
    config, training = configure("widedeep", {"hidden": [8, 4]}, {"epochs": 1})
    assert (config.hidden, training.epochs) == ((8, 4), 1)
    with pytest.raises(ConfigError, match=r"hiden.*'hidden'"):
        configure("widedeep", {"hiden": [8]}, {})
    with pytest.raises(UnknownModel, match="widedeep"):
        configure("deepwide", {}, {})


@pytest.mark.parametrize(
    ("model", "network", "training", "says"),
    [
        ("sasrec", {"widt": 64}, {}, "sasrec: model.widt does not exist: did you mean 'width'"),
        ("sasrec", {"width": 62}, {}, "width 62 is not a multiple of heads 4"),
        ("sasrec", {"width": 64.5, "heads": True}, {}, "model.width = 64.5: .*; sasrec: model.heads = True"),
        ("widedeep", {"epochs": 3}, {}, "widedeep: model.epochs does not exist: epochs is a setting of `training`"),
        ("lgbm", {}, {"epochs": 3}, "lgbm: training.epochs does not exist: epochs is a setting of `model`"),
        ("lgbm", {"leaves": 1}, {}, "lgbm: model.leaves = 1: it must be greater than or equal to 2"),
        ("final", {"branch1": []}, {}, "final: model.branch1"),
        ("final", {"dropout1": [0.1]}, {}, "final: model: dropout .* does not have one share"),
        ("widedeep", {"hidden": 256}, {}, "widedeep: model.hidden = 256: it must be a valid tuple"),
        ("deepfm", {"hidden": [256, 0]}, {}, r"deepfm: model.hidden\[1\] = 0"),
        ("din", {"id_dropout": 1}, {}, "din: model.id_dropout = 1: it must be less than 1"),
        ("fm", {"width": 2}, {}, "fm: model.width = 2"),
        ("fm", {}, {"negatives": "non"}, "fm: training.negatives = 'non': it must be 'auto'"),
        ("dssm", {"temperature": float("nan")}, {}, "dssm: model.temperature = nan"),
        ("simplex", {"user_share": 1.5}, {}, "simplex: model.user_share = 1.5"),
        ("widedeep", {}, {"warmup": 0}, "widedeep: training.warmup = 0"),
        ("widedeep", {}, {"learning_rate": "fast"}, "widedeep: training.learning_rate = 'fast'"),
    ],
)
def test_a_setting_that_cannot_be_is_named_in_one_line(model: str, network: Any, training: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as refused:
        configure(model, network, training)
    assert "\n" not in str(refused.value)


def test_a_number_may_be_the_text_that_yaml_makes_of_it() -> None:
    assert configure("widedeep", {}, {"learning_rate": "1e-3"})[1].learning_rate == 1e-3


@pytest.mark.parametrize("name", RANKERS)
def test_every_registered_model_learns_and_survives_a_checkpoint(name: str, tmp_path: Path) -> None:
    ranker = rankers.fit(name, SCHEMA, TRAIN[0], VALIDATION[0], *quick_settings(name, epochs=1))
    ranker.save(tmp_path)
    rows, loaded = encode(SCHEMA, TEST[0]), rankers.load(tmp_path, SCHEMA)
    scores = loaded.predict(rows)
    assert auc(TEST[0]["label"].to_numpy(), scores) > 0.6
    assert np.array_equal(scores, ranker.predict(rows))
    assert (loaded.fitted.config, loaded.fitted.history) == (ranker.fitted.config, ranker.fitted.history)
    with pytest.raises(checkpoint.CheckpointMismatch, match="materialize the model again"):
        rankers.load(tmp_path, ranking_schema(crosses=()))
