"""`python -m recsys_assets.training` in new processes: several together, killed, and continued."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner

from recsys_assets.features.schema import Feature, FeatureSchema
from recsys_assets.models.catalogue import DESCRIPTION, configure
from recsys_assets.models.layers import LARGE
from recsys_assets.training import checkpoint, trainer
from recsys_assets.training.__main__ import main
from recsys_assets.training.resume import STATE_FILE
from recsys_assets_tests.helpers.leftovers import Family
from recsys_assets_tests.helpers.ranking_rows import ranking_rows, ranking_schema

PARTS = {"train": ranking_rows(20_000, 1)[0], "validation": ranking_rows(4_000, 2)[0]}
NETWORK, TRAINING = {"id_dropout": 0.0}, {"epochs": 3, "batch": 256, "learning_rate": 3e-3}


def with_a_large_table() -> FeatureSchema:
    """A schema with so many items that their embeddings are updated by rows."""

    def many(feature: Feature) -> Feature:
        is_item = feature.name == "item_id"
        return replace(feature, vocabulary=list(range(100, 100 + LARGE // 16))) if is_item else feature

    schema = ranking_schema(crosses=())
    return FeatureSchema([many(feature) for feature in schema.features])


def command(folder: Path, schema: FeatureSchema, *more: str) -> list[str]:
    """The arguments after `python` or `torchrun`; the model is written to `folder`/model."""
    (folder / "schema.json").write_text(schema.to_json())
    (folder / "config.json").write_text(json.dumps({"model": NETWORK, "training": TRAINING}))
    files = {"schema": folder / "schema.json", "config": folder / "config.json", "out": folder / "model"}
    for part, rows in PARTS.items():
        files[part] = folder / f"{part}.parquet"
        pq.write_table(rows, files[part])
    given = [word for name, file in files.items() for word in (f"--{name}", str(file))]
    return ["-m", "recsys_assets.training", "--model", "widedeep", "--test", str(files["validation"]), *given, *more]


def start(words: list[str], processes: int = 1, mark: Mapping[str, str] = os.environ) -> subprocess.Popen[str]:
    environment = {**mark, "OMP_NUM_THREADS": str(torch.get_num_threads() if processes == 1 else 1)}
    # torchrun looks every 3 s instead of every 0.1 s: a process notices that another has ended before it is stopped.
    together = ["-m", "torch.distributed.run", "--standalone", "--monitor-interval=3", f"--nproc-per-node={processes}"]
    return subprocess.Popen(
        [sys.executable, *(together if processes > 1 else []), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    while not file.exists():
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.01)


def test_a_killed_training_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    schema, state = ranking_schema(), tmp_path / "model" / STATE_FILE
    words = command(tmp_path, schema, "--set", "model.id_dropout=0.2", "--set", "training.epochs=4")
    killed = start(words)
    wait_for(state, killed)
    killed.kill()
    killed.communicate()
    kept = state.stat().st_mtime_ns
    assert not (tmp_path / "model" / checkpoint.WEIGHTS).exists()

    refused = CliRunner().invoke(main, [*words[2:], "--seed", "2"])
    assert refused.exit_code == 1
    assert "another seed: run that one to its end, or delete the file" in refused.output
    assert state.stat().st_mtime_ns == kept

    resumed = start(words)
    told = resumed.communicate()[1]
    assert resumed.returncode == 0, told
    assert "epoch 0:" not in told
    assert "epoch 3:" in told
    assert not state.exists()
    settings = configure("widedeep", {"id_dropout": 0.2}, {**TRAINING, "epochs": 4})
    checkpoint.save(
        tmp_path / "whole", trainer.fit("widedeep", schema, PARTS["train"], PARTS["validation"], *settings, 1)
    )
    for file in (checkpoint.WEIGHTS, DESCRIPTION):
        assert (tmp_path / "model" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_a_killed_torchrun_leaves_no_training_at_work(tmp_path: Path) -> None:
    family = Family()
    words = command(tmp_path, ranking_schema(), "--set", "training.epochs=1000")
    killed = start(words, processes=2, mark=family.environment)
    wait_for(tmp_path / "model" / STATE_FILE, killed)
    assert len(family.alive()) >= 3
    killed.kill()
    killed.communicate()
    assert family.left() == []


def test_two_processes_train_the_model_of_one_even_if_one_of_them_is_killed(tmp_path: Path) -> None:
    schema = with_a_large_table()
    words = command(tmp_path, schema)
    killed = start(words, processes=2)
    wait_for(tmp_path / "model" / STATE_FILE, killed)
    (second,) = (
        worker
        for worker in psutil.Process(killed.pid).children()
        if "recsys_assets.training" in worker.cmdline() and worker.environ()["RANK"] == "1"
    )
    second.send_signal(signal.SIGKILL)
    told = killed.communicate(timeout=30)[1]
    assert killed.returncode == 1
    assert "process 0 of 2 stopped, because another process ended" in told
    assert f"Signal 9 (SIGKILL) received by PID {second.pid}" in told

    resumed = start(words, processes=2)
    metrics, told = resumed.communicate()
    assert resumed.returncode == 0, told
    assert "epoch 0:" not in told
    two = json.loads(metrics)
    assert two["processes"] == 2
    settings = configure("widedeep", NETWORK, TRAINING)
    one = trainer.fit("widedeep", schema, PARTS["train"], PARTS["validation"], *settings, 1)
    assert two["validation"]["validation_auc"] == pytest.approx(one.best["validation_auc"], abs=0.002)
    assert two["validation"]["train_logloss"] == pytest.approx(one.best["train_logloss"], abs=0.002)
    other, own = (
        found.state_dict()["embed.table.weight"] for found in (checkpoint.load(tmp_path / "model").model, one.model)
    )
    learned = own.norm(dim=1) > 0.1
    assert torch.cosine_similarity(other[learned].flatten(), own[learned].flatten(), 0) > 0.99
