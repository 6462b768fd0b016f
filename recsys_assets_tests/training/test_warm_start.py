"""A training continues from a checkpoint: what fits, what is refused, and what it saves."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from recsys_assets.features.schema import Feature, FeatureSchema, encode
from recsys_assets.metrics import auc
from recsys_assets.models.catalogue import RANKERS, TRAINED_TOWERS, build_towers, configure
from recsys_assets.models.config import TrainingConfig
from recsys_assets.models.layers import Crosses
from recsys_assets.training import checkpoint, loop, recall, tower_data, trainer
from recsys_assets.training.__main__ import main
from recsys_assets.training.checkpoint import CHOSEN, WEIGHTS, CheckpointMismatch
from recsys_assets.training.warm_start import Start, continue_from
from recsys_assets_tests.helpers import recall_world
from recsys_assets_tests.helpers.ranking_rows import ranking_rows, sequence_schema

NETWORKS = [name for name, model in RANKERS.items() if model.library == "pytorch"]
ROWS, VALIDATION = ranking_rows(6_000, 1)[0], ranking_rows(2_000, 2)[0]
QUICK = TrainingConfig(batch=512, epochs=3, learning_rate=3e-3, warmup=5)
PLACES = {"schema": "json", "train": "parquet", "validation": "parquet"}


def grown(schema: FeatureSchema) -> FeatureSchema:
    """The schema of a later day: every vocabulary has new values between its old ones, and one old value is gone."""
    terms = ["Action", "Bollywood", "Comedy", "Drama", "War", "Western"]
    changes: dict[str, dict[str, Any]] = {
        "user_id": {"vocabulary": [-3, *range(1, 50), 75]},  # 50 is gone
        "item_id": {"vocabulary": [99, *range(100, 140), 900]},
        "genres": {"vocabulary": terms, "length": 4},
        "tags": {"vocabulary": [0, 7, 8, 9]},
        "taste": {"length": 6, "mean": [0.0] * 6, "std": [1.0] * 6},
    }
    features = [replace(each, **changes.get(each.name, {})) for each in schema.features]
    return FeatureSchema(features, schema.crosses)


def with_six_tastes(rows: pa.Table) -> pa.Table:
    """The rows with the floats of the grown terms; those of the new terms are the mean, which is 0."""
    tastes = np.array(rows["taste"].to_pylist(), np.float32)
    wide = np.zeros((len(tastes), 6), np.float32)
    wide[:, [0, 2, 3, 4]] = tastes
    place = rows.column_names.index("taste")
    return rows.set_column(place, "taste", pa.array(wide.tolist(), pa.list_(pa.float32(), 6)))


def saved(folder: Path, fitted: loop.Fitted) -> Start:
    checkpoint.save(folder, fitted)
    return Start.read(folder, "rank_x/2026-01-05", {})


@pytest.fixture(scope="module")
def widedeep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a Wide & Deep."""
    folder = tmp_path_factory.mktemp("widedeep")
    checkpoint.save(folder, trainer.fit("widedeep", sequence_schema(), ROWS, VALIDATION, training=QUICK, seed=3))
    return folder


def start_of(folder: Path, **names: str) -> Start:
    return Start.read(folder, "rank_widedeep/2026-01-05", names)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_ranker_with_grown_vocabularies_scores_old_values_as_its_checkpoint_does(name: str, tmp_path: Path) -> None:
    schema, one_epoch = sequence_schema(), replace(QUICK, epochs=1, last_rate=0.0)
    config, _ = configure(name, {"id_dropout": 0.0}, {})
    old = trainer.fit(name, schema, ROWS, VALIDATION, config, one_epoch)
    start = saved(tmp_path, old)
    rows = VALIDATION.filter(pa.array(VALIDATION["user_id"].to_numpy() < 50))
    with trainer.initial_model(name, grown(schema), config, one_epoch, 9, start) as fitted:
        now = trainer.predict(fitted.model, encode(fitted.schema, with_six_tastes(rows)))
        assert fitted.started_from == start.name
    before = trainer.predict(old.model, encode(old.schema, rows))
    assert np.abs(now - before).max() < 1e-5
    assert before.std() > 0.01


@pytest.mark.parametrize("name", TRAINED_TOWERS)
def test_towers_with_grown_vocabularies_give_old_values_the_vectors_of_their_checkpoint(
    name: str, tmp_path: Path
) -> None:
    given, schema = recall_world.source(), recall_world.schema()
    config, training = configure(name, {}, {"batch": 64, "epochs": 1, "last_rate": 0.0})
    old = recall.fit(name, schema, given, config, training, 1)
    start = saved(tmp_path, old)
    changes: dict[str, dict[str, Any]] = {
        "user_id": {"vocabulary": list(range(-1, recall_world.USERS + 1))},
        "item_id": {"vocabulary": list(range(99, 100 + recall_world.ITEMS))},  # with 105, which was unknown
        "genres": {"vocabulary": ["even", "odd", "round"], "length": 3},
        "gender": {"vocabulary": ["F", "M", "X"]},
    }
    later = FeatureSchema([replace(each, **changes.get(each.name, {})) for each in schema.features])
    new = build_towers(name, later, config)
    continue_from(loop.Fitted(name, new, config, later, training), start)
    vectors = []
    for model in (recall.two_tower(old), new):
        data = tower_data.load(model, given.interactions, given.users, given.items)
        touched = given.interactions.items == np.flatnonzero(given.interactions.item_ids == 105)
        ends = np.searchsorted(given.interactions.users, np.arange(recall_world.USERS)) + 3
        known = ~np.array([touched[end - 3 : end].any() for end in ends])
        users = recall.user_vectors(model, data, np.arange(recall_world.USERS), ends - 3, ends)[known]
        vectors.append((users, recall.item_vectors(model, data.items)[given.interactions.item_ids != 105]))
    for one, other in zip(*vectors, strict=True):
        assert np.abs(one - other).max() < 1e-5
        assert one.std() > 0


def test_new_rows_are_as_in_a_new_model_and_a_hashed_cross_begins_anew(widedeep: Path) -> None:
    schema = grown(sequence_schema())
    with trainer.initial_model("widedeep", schema, None, QUICK, 9) as cold:
        initial = {name: weight.clone() for name, weight in cold.model.state_dict().items()}
    with trainer.initial_model("widedeep", schema, None, QUICK, 9, start_of(widedeep)) as warm:
        weights, first = warm.model.state_dict(), schema.first_row["item_id"]
    rows = weights["embed.table.weight"]
    new = torch.tensor([first + 1, first + 42])  # 99 and 900
    assert torch.equal(rows[new], initial["embed.table.weight"][new])
    assert not torch.equal(rows[first + 2], initial["embed.table.weight"][first + 2])
    assert weights["normalise.mean"].tolist() == initial["normalise.mean"].tolist()
    crosses = [Crosses(each, buckets=64).axis[2] for each in (sequence_schema(), schema)]
    assert (crosses[1].places_in(crosses[0]) == -1).all()
    assert crosses[1].places_in(crosses[1]).tolist() == list(range(64))


def test_a_training_that_continues_begins_with_what_its_checkpoint_reached(widedeep: Path) -> None:
    reached = checkpoint.load(widedeep)
    one = trainer.fit("widedeep", sequence_schema(), ROWS, VALIDATION, None, QUICK, 4, start=start_of(widedeep))
    assert one.history[0] == {name: value for name, value in reached.best.items() if name != "train_logloss"}
    assert one.best["validation_auc"] >= reached.best["validation_auc"]
    assert one.trained_epochs == len(one.history) - 1 >= 1


def test_what_a_training_continues_from_has_not_learned_the_validation_rows(widedeep: Path) -> None:
    """Validation rows of one day are partly those of the next: they would look better than they are."""
    served, chosen = (load_file(widedeep / file) for file in (WEIGHTS, CHOSEN))
    assert served.keys() == chosen.keys()
    assert not torch.equal(served["embed.table.weight"], chosen["embed.table.weight"])
    fitted = checkpoint.load(widedeep)
    fitted.model.load_state_dict(chosen)
    rows = encode(fitted.schema, VALIDATION)
    found = auc(VALIDATION["label"].to_numpy(), trainer.predict(fitted.model, rows))
    assert found == pytest.approx(fitted.best["validation_auc"], abs=1e-9)


def feature(name: str, **changes: Any) -> FeatureSchema:
    schema = sequence_schema()
    return FeatureSchema([replace(e, **(changes if e.name == name else {})) for e in schema.features], schema.crosses)


def without(name: str) -> FeatureSchema:
    schema = sequence_schema()
    return FeatureSchema([each for each in schema.features if each.name != name], schema.crosses)


ADDED = Feature("hour", "categorical", "moment", "int64", "side", [1, 2])
MISFITS = {
    "an added feature": (
        FeatureSchema([*sequence_schema().features, ADDED], sequence_schema().crosses),
        "feature hour is",
    ),
    "a removed feature": (without("activity"), "feature activity is only in the checkpoint"),
    "another transformation": (feature("activity", transform="log"), "the transform of feature activity is 'log'"),
    "another type": (feature("tags", type="string", vocabulary=["a"]), "the type of feature tags is 'string'"),
    "another width": (
        feature("activity", length=2, mean=[0.0] * 2, std=[1.0] * 2),
        "the length of feature activity is 2, in the checkpoint 1",
    ),
    "other crosses": (FeatureSchema(sequence_schema().features), r"the crosses are \[\]"),
    "another order": (
        FeatureSchema([*sequence_schema().features[1:], sequence_schema().features[0]], sequence_schema().crosses),
        "the order of the features is gender",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_features_that_do_not_fit_are_refused_by_name(case: str, widedeep: Path) -> None:
    schema, said = MISFITS[case]
    refused = pytest.raises(CheckpointMismatch, match=f"rank_widedeep/2026-01-05 does not fit: .*{said}")
    with refused, trainer.initial_model("widedeep", schema, None, QUICK, 1, start_of(widedeep)):
        pass


def test_weights_that_do_not_fit_are_refused_by_name_with_the_settings_that_differ(widedeep: Path) -> None:
    config, _ = configure("widedeep", {"hidden": [32]}, {})
    said = r"weight deep.hidden.0.bias: its shape is \[32\], in the checkpoint \[256\].*model.hidden is \[32\]"
    refused = pytest.raises(CheckpointMismatch, match=said)
    with refused, trainer.initial_model("widedeep", sequence_schema(), config, QUICK, 1, start_of(widedeep)):
        pass
    refused = pytest.raises(CheckpointMismatch, match="is a widedeep: deepfm cannot continue from it")
    with refused, trainer.initial_model("deepfm", sequence_schema(), None, QUICK, 1, start_of(widedeep)):
        pass


def test_names_are_mapped(widedeep: Path, tmp_path: Path) -> None:
    renamed = FeatureSchema.from_json(sequence_schema().to_json().replace("genres", "kinds"))
    save_file(
        {name.replace("deep.", "mlp."): weight for name, weight in load_file(widedeep / CHOSEN).items()},
        tmp_path / CHOSEN,
    )
    (tmp_path / "model.json").write_bytes((widedeep / "model.json").read_bytes())
    with trainer.initial_model(
        "widedeep", renamed, None, QUICK, 1, start_of(tmp_path, kinds="genres", deep="mlp")
    ) as fitted:
        for name, weight in load_file(widedeep / CHOSEN).items():
            assert torch.equal(fitted.model.state_dict()[name], weight), name
    for names, said in (
        ({"kinds": "genres"}, "weight deep.last.bias: it is not in"),
        ({"a": "b"}, "`a: b` names neither"),
    ):
        refused = pytest.raises(CheckpointMismatch, match=said)
        schema = renamed if "kinds" in names else sequence_schema()
        with refused, trainer.initial_model("widedeep", schema, None, QUICK, 1, start_of(tmp_path, **names)):
            pass


def test_a_folder_without_a_checkpoint_to_continue_from_is_refused(widedeep: Path, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_bytes((widedeep / "model.json").read_bytes())
    with pytest.raises(CheckpointMismatch, match="it has no chosen.safetensors"):
        start_of(tmp_path)
    (tmp_path / CHOSEN).write_bytes(b"no weights")
    with pytest.raises(CheckpointMismatch, match="cannot be read"):
        start_of(tmp_path)


def test_the_command_without_dagster_continues_from_a_folder(widedeep: Path, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(sequence_schema().to_json(), encoding="utf-8")
    for name, rows in (("train", ROWS), ("validation", VALIDATION)):
        pq.write_table(rows, tmp_path / f"{name}.parquet")
    files = [f"--{name}={tmp_path / name}.{kind}" for name, kind in PLACES.items()]
    told = ["--model=widedeep", f"--out={tmp_path / 'out'}", f"--continue-from={widedeep}", "--set=training.epochs=1"]
    ran = CliRunner().invoke(main, [*told, *files])
    assert ran.exit_code == 0, ran.output
    fitted = checkpoint.load(tmp_path / "out")
    assert fitted.started_from == str(widedeep)
    assert fitted.history[0]["validation_auc"] == checkpoint.load(widedeep).best["validation_auc"]
