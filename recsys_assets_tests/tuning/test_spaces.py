"""The bundled search spaces: every model of the registries has one, its settings exist, and its trials run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from recsys_assets.assets.recall.i2i import I2I_METHODS
from recsys_assets.assets.tuning import TUNABLE, bundled_form
from recsys_assets.models.catalogue import RANKERS, TOWERS, TRAINED_TOWERS
from recsys_assets.training.recall import Source
from recsys_assets.tuning import study
from recsys_assets.tuning.objectives import ItemToItem, Objective, Ranking, TwoTowers
from recsys_assets.tuning.space import space
from recsys_assets_tests.helpers import recall_world
from recsys_assets_tests.helpers.ranking_rows import ranking_rows, sequence_schema

# Settings that make the trials of a test quick; the others are those of the bundled space.
SMALL: dict[str, dict[str, Any]] = {
    "lgbm": {"step": 2, "epochs": 1},
    "fm": {"batch": 256},
    "simplex": {"sampled": 20},
    "dssm": {"embedding": 8, "hidden": [8]},
    "dropoutnet": {"embedding": 8, "hidden": 8},
    "sasrec": {"width": 16, "history": 10, "blocks": 1, "batch": 32},
    **{model: {"embedding": 4, "batch": 256} for model in ("widedeep", "deepfm", "final", "din")},
}


@dataclass(frozen=True)
class World:
    """Small data for all kinds of models."""

    folder: Path
    source: Source

    def tuned(self, model: str) -> Objective:
        """The objective of a model, as its asset builds it."""
        if model in RANKERS:
            train, validation, test = (self.folder / f"{part}.parquet" for part in ("train", "validation", "test"))
            return Ranking(model, sequence_schema(), train, validation, test, seed=1)
        if model in TOWERS:
            return TwoTowers(model, recall_world.schema(), self.source, seed=1)
        return ItemToItem(
            I2I_METHODS[model].find, I2I_METHODS[model].config, self.source.interactions, filter_seen=False
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("rows")
    for seed, (part, rows) in enumerate({"train": 400, "validation": 200, "test": 200}.items()):
        pq.write_table(ranking_rows(rows, seed)[0], folder / f"{part}.parquet")
    return World(folder, recall_world.source())


def test_every_model_of_the_registries_has_a_space_and_an_asset() -> None:
    assert TUNABLE.keys() == {*RANKERS, *TOWERS, *I2I_METHODS}


@pytest.mark.parametrize("model", TUNABLE)
def test_a_bundled_space_has_settings_of_its_model_and_two_of_its_trials_run(
    world: World, tmp_path: Path, model: str
) -> None:
    read, tuned = bundled_form(model), world.tuned(model)
    assert not read.unused
    assert space(read, model, tuned.sections).size > 1000
    small: Mapping[str, Any] = SMALL.get(model, {}) | (
        {"epochs": 1} if model in TRAINED_TOWERS or model in RANKERS else {}
    )
    searched = {name: value for name, value in read.hyper_param.items() if name not in small}
    quick = space(read.model_copy(update={"common_param": small, "hyper_param": searched}), model, tuned.sections)
    found = study.run(quick, tuned.judge, tmp_path / "x.journal", trials=2, seed=1)
    assert [trial.state for trial in found] == ["complete", "complete"]
    assert found[0].drawn != found[1].drawn
    assert found[0].drawn.keys() == searched.keys()
