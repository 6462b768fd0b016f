"""The six commands of TorchEasyRec's tutorial on recall, in their order, compared with the assets of the same rows."""

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner, Result

from recsys_assets.arrays import Vectors
from recsys_assets.assets.data.negatives import NEGATIVE_ITEMS
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import load_profile
from recsys_assets.funnel.by_vector import BEFORE_TEST
from recsys_assets.retrieval import embeddings
from recsys_assets.retrieval.index import read
from recsys_assets.tzrec.outputs import Unwritable, table_writer
from recsys_assets.tzrec.shares import Share
from recsys_assets_tests.helpers import taobao
from recsys_assets_tests.helpers.worlds import World, own_environment
from recsys_assets_tests.readme import commands

DAY = "2026-01-01"
INPUTS = "users items splits factors event_features rank_samples feature_schema recall_samples negative_items".split()  # noqa: SIM905
RECALL = ["recall_dssm", "emb_dssm_user", "emb_dssm_item", "hitrate_dssm"]
MODEL = {"width": 16, "embedding": 8, "hidden": [32]}
TRAINING = {"epochs": 3, "batch": 128, "sampled": 40, "negatives": "table"}
EXACT = ["--index_type", "FlatIP", "--top_k", "20", "--total_hitrate_output", "total.parquet"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
TRAIN, EXPORT, ITEMS, USERS, HITRATE, INDEX = (shlex.split(line)[2:] for line in commands(taobao.PAGE)[:6])


def run(command: list[str]) -> Result:
    """Run a command, a module and its flags, in this process."""
    module, *flags = command
    name = module.rpartition(".")[2]
    return CliRunner().invoke(resolve_name(f"{module}:{name}"), flags)


@dataclass
class Tutorial:
    """The folder in which the commands ran, and the assets of the same rows."""

    home: Path
    world: World

    @property
    def model(self) -> Path:
        return self.home / "experiments" / "dssm_taobao_local"

    @property
    def rate(self) -> float:
        return float(pq.read_table(self.home / "total.parquet")["hitrate"][0].as_py())

    def vectors(self, side: str) -> tuple[pa.Table, Vectors]:
        """The rows and vectors that `predict` wrote for a side."""
        table = pq.read_table(self.model / f"{side}_emb")
        return table, np.stack(table[f"{side}_tower_emb"].to_numpy())


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tutorial]:
    home = tmp_path_factory.mktemp("tutorial")
    with own_environment(home), pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        Path("profile.yaml").write_text(yaml.safe_dump(taobao.profile()))
        world = World(home, load_profile())
        taobao.land(world.profile.landing)
        world.run(["interactions"], DAY)
        world.run([*INPUTS, *RECALL], DAY, config={"recall_dssm": {"model": MODEL, "training": TRAINING}})
        taobao.write_tables(Path("data"))
        negatives = world.read("negative_items", DAY).path(NEGATIVE_ITEMS)
        Path("data/taobao_ad_feature_gl").write_bytes(negatives.read_bytes())
        own = taobao.pipeline() | {"model_config": {"name": "dssm", **MODEL}, "train_config": TRAINING}
        own["validation_input_path"] = "data/taobao_data_recall_validation"
        Path("dssm_taobao_local.config").write_text(yaml.safe_dump(own, sort_keys=False))
        for command in (TRAIN, EXPORT, ITEMS, USERS, HITRATE + EXACT, INDEX):
            result = run(command)
            assert result.exit_code == 0, result.output
        yield Tutorial(home, world)


def test_the_items_vectors_are_those_of_the_asset(tutorial: Tutorial) -> None:
    ids, expected = embeddings.read(tutorial.world.read("emb_dssm_item", DAY).path(ROWS))
    table, found = tutorial.vectors("item")
    assert table.column_names == ["item_tower_emb", "adgroup_id"]
    assert table["adgroup_id"].to_pylist() == ids.to_pylist() == taobao.items()["adgroup_id"].to_pylist()
    assert np.abs(found - expected).max() < 1e-6


def test_the_users_vectors_before_the_eval_rows_are_those_of_the_asset(tutorial: Tutorial) -> None:
    ids, expected = embeddings.read(tutorial.world.read("emb_dssm_user", DAY).path(BEFORE_TEST))
    table, found = tutorial.vectors("user")
    assert table.drop(["user_tower_emb"]).equals(taobao.clicks()["eval"].select(["user_id", "adgroup_id"]))
    assert np.abs(found - expected[np.searchsorted(ids.to_numpy(), table["user_id"].to_numpy())]).max() < 1e-6


def test_the_hit_rate_is_that_of_the_asset(tutorial: Tutorial) -> None:
    expected = tutorial.world.read("hitrate_dssm", DAY).manifest.metrics["hitrate@20"]
    assert 0 < expected < 1
    assert tutorial.rate == pytest.approx(expected, abs=1e-6)
    told = json.loads((tutorial.model / "train_eval_result.txt").read_text())
    assert told["eval"]["hitrate@20"] == pytest.approx(expected, abs=1e-6)


def test_the_index_is_next_to_the_user_tower_and_finds_each_item(tutorial: Tutorial) -> None:
    folder = tutorial.model / "export" / "user"
    files = {"user.onnx", "histories.parquet", "pipeline.config", "faiss_index", "id_mapping"}
    assert {file.name for file in folder.iterdir()} == files
    nearest = read(folder).search(tutorial.vectors("item")[1], 1).items[:, 0]
    assert (nearest == np.arange(taobao.ITEMS)).mean() > 0.9


def test_two_processes_give_the_rows_and_the_rate_of_one(tutorial: Tutorial) -> None:
    users, hitrate = list(USERS), HITRATE + EXACT[:4]
    users[users.index("--predict_output_path") + 1] = "together"
    hitrate[hitrate.index("--user_gt_input") + 1] = "together/part-0.parquet,together/part-1.parquet"
    told = ""
    for command in (users, [*hitrate, "--hitrate_details_output", "details"]):
        told = subprocess.run([*TORCHRUN, *command], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert told == f"Total hitrate: {tutorial.rate:.8f}\n"
    one, two = (
        pq.read_table(place).sort_by([("user_id", "ascending"), ("adgroup_id", "ascending")])
        for place in (tutorial.model / "user_emb", tutorial.home / "together")
    )
    assert one.drop(["user_tower_emb"]).equals(two.drop(["user_tower_emb"]))
    vectors = [np.stack(table["user_tower_emb"].to_numpy()) for table in (one, two)]
    assert np.abs(vectors[0] - vectors[1]).max() < 1e-6
    listed = pq.read_table(tutorial.home / "details")
    assert sorted(listed["id"].to_pylist()) == one["user_id"].to_pylist()
    assert np.mean(listed["hitrate"].to_numpy()) == pytest.approx(tutorial.rate)
    assert run(users).exit_code == 0
    assert [file.name for file in Path("together").iterdir()] == ["part-0.parquet"]  # part-1 would be counted twice


@pytest.mark.parametrize("settings", [{"name": "dssm"}, {"name": "sasrec", "width": 16, "heads": 1, "dropout": 0.0}])
def test_two_processes_train_the_towers_of_one(tutorial: Tutorial, settings: dict[str, object]) -> None:
    model = (MODEL if settings["name"] == "dssm" else {}) | settings
    own = yaml.safe_load(Path("dssm_taobao_local.config").read_text()) | {"model_config": model}
    Path("own.config").write_text(yaml.safe_dump(own))
    results = []
    for number, runner in enumerate(([sys.executable, "-m"], TORCHRUN)):
        place = f"{settings['name']}_{number}"
        flags = ["--pipeline_config_path", "own.config", "--model_dir", place]
        subprocess.run([*runner, TRAIN[0], *flags], stdout=subprocess.PIPE, text=True, check=True)
        results.append(json.loads((tutorial.home / place / "train_eval_result.txt").read_text()))
    one, two = results
    for part, found in one.items():
        assert two[part] == pytest.approx(found, abs=0.02)


def test_several_processes_do_not_write_one_file(tmp_path: Path) -> None:
    with pytest.raises(Unwritable, match="2 processes write one each: name a folder"):  # noqa: SIM117
        with table_writer(str(tmp_path / "all.parquet"), "parquet", Share(0, 2)):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_trained_or_exported_model_is_not_overwritten(tutorial: Tutorial) -> None:
    for command in (TRAIN, EXPORT):
        result = run(command)
        assert result.exit_code == 1
        assert "is there already: name another folder, or remove it" in result.output
    assert tutorial.model.is_dir()


def test_towers_are_scored_only_when_one_is_named(tutorial: Tutorial) -> None:
    flags = ["--predict_input_path", "data/taobao_ad_feature", "--predict_output_path", "none"]
    for model, said in (
        (["--pipeline_config_path", str(tutorial.model / "pipeline.config")], "dssm has two towers: run export"),
        (["--scripted_model_path", str(tutorial.model / "export")], "of two towers name `user` or `item` in it"),
    ):
        result = run([USERS[0], *model, *flags])
        assert said in result.output
    assert not (tutorial.home / "none").exists()
