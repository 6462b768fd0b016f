"""Tests of the cores that a training may use."""

import os

import pytest
import torch
import yaml

from recsys_assets import parallel
from recsys_assets.parallel import STEPS_AT_ONCE, one_of_several_trainings
from recsys_assets_tests.conftest import PROJECT


def test_a_training_among_others_uses_its_share_of_the_cores_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "threads", lambda: 3 * STEPS_AT_ONCE)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    with one_of_several_trainings():
        assert (torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]) == (3, "3")
    assert torch.get_num_threads() == before
    assert "OMP_NUM_THREADS" not in os.environ


def test_it_uses_no_more_than_somebody_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "threads", lambda: 3 * STEPS_AT_ONCE)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with one_of_several_trainings():
        assert (torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]) == (2, "2")


def test_what_was_set_comes_back_after_a_failure_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "threads", lambda: 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with pytest.raises(ValueError, match="no luck"), one_of_several_trainings():
        assert os.environ["OMP_NUM_THREADS"] == "1"
        raise ValueError("no luck")
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_the_pool_lets_as_many_trainings_run_as_share_the_cores() -> None:
    config = yaml.safe_load((PROJECT / "dagster.yaml").read_text(encoding="utf-8"))
    assert config["concurrency"]["pools"]["default_limit"] == STEPS_AT_ONCE
