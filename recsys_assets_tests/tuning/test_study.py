"""Studies on generated rows have the same trials every time, killed or not; spaces are read or refused."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from recsys_assets.assets.recall.i2i import I2I_METHODS
from recsys_assets.models.config import RecallTraining, TrainingConfig
from recsys_assets.models.simplex import SimplexConfig
from recsys_assets.models.widedeep import WideDeepConfig
from recsys_assets.tuning import form, study
from recsys_assets.tuning.form import SpaceError
from recsys_assets.tuning.objectives import ItemToItem, Ranking, TwoTowers
from recsys_assets.tuning.space import Space, sections_of, space
from recsys_assets.tuning.study import Report, Trial, TrialFailed, rank_trials
from recsys_assets_tests.helpers import recall_world
from recsys_assets_tests.helpers.ranking_rows import ranking_rows, ranking_schema

TRIALS = 13  # the first ten are random, the others depend on the results of these
RANK = {"model": WideDeepConfig, "training": TrainingConfig}
SIMPLEX = {"model": SimplexConfig, "training": RecallTraining}
# The range includes learning rates that are far from good, so that trials are pruned.
SPACE = """
model_name: widedeep
common_param: {batch: 256, warmup: 5, epochs: 4, id_dropout: 0}
hyper_param:
  hidden: [[16], [16, 8]]
  embedding: {low: 4, high: 12, step: 4}
  learning_rate: {low: 1e-5, high: 0.1, log: true}
"""
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["recsys_assets_tests.tuning.test_study", "recsys_assets.training.trainer"])


def spaced(folder: Path, text: str, model: str = "widedeep", sections: Any = RANK) -> Space:
    path = folder / "space.yaml"
    path.write_text(text)
    return space(form.read(path), model, sections)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files of train, validation and test rows."""
    made = tmp_path_factory.mktemp("rows")
    for seed, (part, rows) in enumerate({"train": 1500, "validation": 600, "test": 600}.items()):
        pq.write_table(ranking_rows(rows, seed)[0], made / f"{part}.parquet")
    return made


def ranking(folder: Path) -> Ranking:
    train, validation, test = (folder / f"{part}.parquet" for part in ("train", "validation", "test"))
    return Ranking("widedeep", ranking_schema(), train, validation, test, seed=1)


def told(trials: list[Trial]) -> list[tuple[Any, ...]]:
    """Everything that two studies can have in common, which is all but the times of the trials."""
    return [(each.number, each.state, each.drawn, each.value, each.course, each.reason) for each in trials]


@dataclass
class Killing:
    """An objective that kills the process in its n-th trial, after the second epoch."""

    tuned: Ranking
    trial: int

    def __call__(self, settings: dict[str, Any], report: Report) -> float:
        self.trial -= 1

        def kill_at(step: int, value: float) -> None:
            report(step, value)
            if self.trial == 0 and step == 1:
                os.kill(os.getpid(), signal.SIGKILL)

        return self.tuned.judge(settings, kill_at)


def search(folder: Path, storage: Path, kill_in: int) -> None:
    torch.set_num_threads(1)
    study.run(spaced(folder, SPACE), Killing(ranking(folder), kill_in), storage, TRIALS, seed=1)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """One thread in every process, so that sums are equal."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def uninterrupted(folder: Path) -> list[Trial]:
    return study.run(spaced(folder, SPACE), ranking(folder).judge, folder / "whole.journal", TRIALS, seed=1)


def test_a_study_that_is_killed_keeps_its_trials_and_goes_on_as_if_it_had_not_been(
    folder: Path, uninterrupted: list[Trial]
) -> None:
    storage = folder / "killed.journal"
    for kill_in, kept in ((3, 2), (10, 11)):  # `kill_in` counts the remaining trials
        process = context.Process(target=search, args=(folder, storage, kill_in))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        there: list[Trial] = []
        found = study.run(spaced(folder, SPACE), unasked, storage, kept, seed=1, on_trial=there.append)
        assert told(found) == told(there) == told(uninterrupted[:kept])
    again: list[Trial] = []
    resumed = study.run(spaced(folder, SPACE), ranking(folder).judge, storage, TRIALS, seed=1, on_trial=again.append)
    assert told(resumed) == told(again) == told(uninterrupted)


def unasked(_settings: dict[str, Any], _report: Report) -> float:
    raise AssertionError("a trial that is in the storage was run again")


def test_another_seed_gives_other_trials(uninterrupted: list[Trial], tmp_path: Path) -> None:
    other = study.run(spaced(tmp_path, SPACE), lambda *_: 0.5, tmp_path / "x.journal", 3, seed=2)
    assert not [trial for trial in other if trial.drawn in [each.drawn for each in uninterrupted]]


def test_bad_trials_end_early_and_the_best_is_first(uninterrupted: list[Trial]) -> None:
    pruned = [trial for trial in uninterrupted if trial.state == "pruned"]
    assert pruned
    assert all(len(trial.course) < 4 for trial in pruned)
    found = rank_trials(uninterrupted)
    complete = [trial for trial in found if trial.state == "complete"]
    assert found[: len(complete)] == complete
    assert complete[0].value == max(trial.value or 0 for trial in complete) > 0.6
    assert all(trial.value == max(trial.course) for trial in complete)


def test_a_diverging_trial_fails_with_its_reason_and_another_error_ends_the_study(folder: Path, tmp_path: Path) -> None:
    text = "model_name: widedeep\nhyper_param: {learning_rate: [0.01, 1e30], epochs: [1]}"
    found = rank_trials(study.run(spaced(tmp_path, text), ranking(folder).judge, tmp_path / "x.journal", 5, seed=1))
    assert [trial.state for trial in found] == ["complete", "failed"]  # there are only two different trials
    assert "scores are not numbers (NaN): lower learning_rate" in found[1].reason
    with pytest.raises(ZeroDivisionError):
        study.run(spaced(tmp_path, text), lambda *_: 1 / 0, tmp_path / "y.journal", 5, seed=1)


def test_a_study_without_a_model_says_why(tmp_path: Path) -> None:
    def failing(_settings: dict[str, Any], _report: Report) -> float:
        raise TrialFailed("too cold")

    with pytest.raises(study.NoTrialCompleted, match="none of 2 trials gave a model: too cold"):
        study.run(spaced(tmp_path, SPACE), failing, tmp_path / "x.journal", 2, seed=1)


METASPORE_SIMPLEX = """
app_name: SimpleX Tuner
num_experiment: 20
model_name: simplex
result_path: somewhere/tuner/model/simplex/
local_result_path: './output'
py_files: 'python.zip'
dataset: {train: a/train.parquet, test: a/test.parquet, item: a/item.parquet}
common_param: {}
hyper_param:
    _negative_sample_count: 13
    _w: 3
    _m: [0.8, 0.9]
    batch_size: [256, 512]
    embedding_size: 32
    gamma: [0.7, 0.8, 0.9]
    adam_learning_rate: [0.001, 0.002, 0.003]
    training_epoches: [1, 2]
"""


def test_the_form_of_metaspore_is_read_and_its_names_mean_what_they_mean_there(tmp_path: Path) -> None:
    found = spaced(tmp_path, METASPORE_SIMPLEX, "simplex", SIMPLEX)
    assert found.constants == {"sampled": 13, "negative_weight": 3.0, "width": 32}
    assert {name: list(values) for name, values in found.choices.items()} == {
        "margin": [0.8, 0.9],
        "batch": [256, 512],
        "user_share": [0.7, 0.8, 0.9],
        "learning_rate": [0.001, 0.002, 0.003],
        "epochs": [1, 2],
    }
    assert found.size == 72
    drawn = {name: next(iter(values)) for name, values in found.choices.items()}
    settings = sections_of(found.settings(drawn), SIMPLEX)
    assert settings["model"] == {"width": 32, "user_share": 0.7, "margin": 0.8, "negative_weight": 3.0}
    assert settings["training"] == {"batch": 256, "epochs": 1, "learning_rate": 0.001, "sampled": 13}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hyper_param: {embed: [8]}", "widedeep: embed does not exist: did you mean 'embedding'"),
        ("common_param: {margin: 1, _w: 3}\nhyper_param: {}", "margin does not exist: .*; _w does not exist"),
        ("num_experiments: 3\nhyper_param: {}", "num_experiments does not exist: did you mean 'num_experiment'"),
        ("hyper_param: {learning_rate: {low: -1, high: 1}}", "learning_rate: -1: Input should be greater than 0"),
        ("hyper_param: {id_dropout: [0.1, 1.5]}", "id_dropout: 1.5: Input should be less than 1"),
        ("hyper_param: {embedding: [true]}", "embedding: True: true is not a number"),
        ("hyper_param: {hidden: {low: 1, high: 2}}", "hidden: 1: Input should be a valid tuple"),
        ("common_param: {batch: 2}\nhyper_param: {batch: [1]}", "batch is given twice"),
        ("hyper_param: {learning_rate: 'eval@10**-2'}", "learning_rate.*code is not run: write a range"),
        ("hyper_param: {learning_rate: [0.1, 'eval@1']}", "learning_rate.*code is not run: write a range"),
        ("hyper_param: {learning_rate: {low: 0.1}}", "learning_rate.*high.*required"),
        ("hyper_param: {learning_rate: {low: 0, high: 1, log: true}}", "log scale"),
        ("hyper_param: {learning_rate: {low: 1, high: 0.1}}", "not below"),
        ("hyper_param: {embedding: {low: 4.0, high: 8.0}}", "embedding is a whole number"),
        ("hyper_param: {embedding: [8, wide]}", "embedding: 'wide'"),
        ("hyper_param: {embedding: []}", "embedding.*at least 1"),
        ("hyper_param: {batch: [1], batch_size: [2]}", "given twice"),
        ("num_experiment: 0\nhyper_param: {}", "num_experiment"),
        ("hyper_param: [", "not valid YAML"),
    ],
)
def test_a_space_that_cannot_be_used_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SpaceError, match=said):
        spaced(tmp_path, f"model_name: widedeep\n{text}")


def test_a_space_of_another_model_or_nowhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="is of model_name 'simplex', not 'widedeep'"):
        spaced(tmp_path, METASPORE_SIMPLEX)
    with pytest.raises(SpaceError, match="there is no search space"):
        form.read(tmp_path / "none.yaml")


def test_ranges_are_drawn_within_their_ends_and_steps(tmp_path: Path) -> None:
    drawn = "{embedding: {low: 4, high: 12, step: 4}, l2: {low: 1e-6, high: 1e-2, log: true}}"
    searched = spaced(tmp_path, f"model_name: widedeep\nhyper_param: {drawn}")
    found = study.run(searched, lambda settings, _: float(settings["l2"]), tmp_path / "x.journal", 30, seed=1)
    assert {trial.settings["embedding"] for trial in found} == {4, 8, 12}
    rates = [trial.settings["l2"] for trial in found]
    assert 1e-6 <= min(rates) < 1e-4
    assert 1e-3 < max(rates) <= 1e-2


def test_a_small_space_is_tried_whole_and_nothing_twice(tmp_path: Path) -> None:
    text = "model_name: widedeep\nhyper_param: {embedding: [4, 8], epochs: {low: 1, high: 3}}"
    found = study.run(spaced(tmp_path, text), lambda *_: 0.5, tmp_path / "x.journal", 50, seed=1)
    assert len({str(trial.settings) for trial in found}) == len(found) == 6


@pytest.fixture(scope="module")
def recall_source() -> Any:
    return recall_world.source()


def test_a_two_tower_model_is_judged_by_its_recall(recall_source: Any, tmp_path: Path) -> None:
    common = "{history: 5, hidden: [32], embedding: 16, batch: 64, epochs: 3, warmup: 5}"
    text = f"model_name: dssm\ncommon_param: {common}\nhyper_param: {{learning_rate: [1e-6, 3e-3]}}"
    tuned = TwoTowers("dssm", recall_world.schema(), recall_source, seed=1)
    searched = spaced(tmp_path, text, "dssm", tuned.sections)
    found = rank_trials(study.run(searched, tuned.judge, tmp_path / "x.journal", 2, seed=1))
    assert [trial.settings["learning_rate"] for trial in found] == [3e-3, 1e-6]
    assert (found[0].value or 0) > (found[1].value or 0)
    assert tuned.test(found[0].settings) > tuned.test(found[1].settings)


@pytest.mark.parametrize("name", ["itemcf", "swing"])
def test_an_item_to_item_method_is_judged_by_its_recall(recall_source: Any, tmp_path: Path, name: str) -> None:
    method = I2I_METHODS[name]
    text = f"model_name: {name}\nhyper_param: {{popularity: [0.0, 0.5], max_recommendation_count: [1, 20]}}"
    tuned = ItemToItem(method.find, method.config, recall_source.interactions, filter_seen=False)
    searched = spaced(tmp_path, text, name, tuned.sections)
    found = rank_trials(study.run(searched, tuned.judge, tmp_path / "x.journal", 4, seed=1))
    assert found[0].settings["top_n"] == 20
    assert (found[0].value or 0) > (found[-1].value or 0)
    assert tuned.test(found[0].settings) > (found[-1].value or 0)


def test_lightgbm_is_tuned_like_the_others(folder: Path, tmp_path: Path) -> None:
    tuned = replace(ranking(folder), model="lgbm")
    text = "model_name: lgbm\ncommon_param: {step: 5, epochs: 4, min_rows: 20}\nhyper_param: {leaves: [2, 31]}"
    searched = spaced(tmp_path, text, "lgbm", tuned.sections)
    found = rank_trials(study.run(searched, tuned.judge, tmp_path / "x.journal", 2, seed=1))
    assert all(trial.value == max(trial.course) for trial in found)
    assert 0.5 < tuned.test(found[0].settings) < 1
    assert sections_of(found[0].settings, tuned.sections)["training"] == {}
