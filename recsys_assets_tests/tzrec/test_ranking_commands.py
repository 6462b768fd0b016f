"""Training, export and prediction of ranking models on labelled tables, compared with the assets of the same rows."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner, Result
from pyarrow import csv

from recsys_assets.assets.rank import PREDICTIONS
from recsys_assets.datasets.duck import connect_without_lake
from recsys_assets.datasets.profile import load_profile
from recsys_assets.metrics import auc
from recsys_assets.tzrec.export import export
from recsys_assets.tzrec.pipeline import read_pipeline
from recsys_assets.tzrec.predict import predict
from recsys_assets.tzrec.samples import rank_samples
from recsys_assets.tzrec.train_eval import train_eval
from recsys_assets_tests.helpers.ranking_rows import ranking_rows
from recsys_assets_tests.helpers.worlds import World, own_environment

DAYS = ["2026-01-01", "2026-01-02", "2026-01-03"]  # one for each part
COLUMNS = {
    "user_id": "int64",
    "item_id": {"type": "int64", "column": "ad"},
    "gender": "string",
    "genres": "strings",
    "activity": "float32",
    "clicked": {"type": "int64", "min": 0, "max": 1},
}
FEATURES = {
    "categorical": ["user_id", "item_id", "gender"],
    "multi_valued": ["genres"],
    "numeric": ["activity"],
    "crosses": [["gender", "genres"]],
}
SETTINGS: dict[str, Any] = {"leaves": 7, "epochs": 3}
PIPELINE = {
    "train_input_path": "train.parquet",
    "validation_input_path": "validation.parquet",
    "eval_input_path": "test.csv",
    "model_dir": "lgbm",
    "data_config": {"columns": COLUMNS, "label": "clicked = 1", "features": FEATURES},
    "model_config": {"name": "lgbm", **SETTINGS},
}
PROFILE = {
    "name": "ads",
    "first_bizdate": DAYS[0],
    "landing": "${RECSYS_LANDING}/ads",
    "tables": {"interactions": COLUMNS},
    "label": "clicked = 1",
    "features": FEATURES,
    "split": {"strategy": "given", "parts": {part: part for part in ("train", "validation", "test")}},
}


def rows(count: int, seed: int) -> pa.Table:
    """Rows of the ranking problem, with lists as text."""
    table = ranking_rows(count, seed)[0]
    names = {"user_id": "user_id", "item_id": "ad", "gender": "gender", "activity": "activity", "label": "clicked"}
    genres = ["|".join(each) for each in table["genres"].to_pylist()]
    return table.select(list(names)).rename_columns(list(names.values())).append_column("genres", pa.array(genres))


PARTS = {"train": rows(3000, 1), "validation": rows(800, 2), "test": rows(900, 3)}


@dataclass
class Ads:
    """The folder of the commands, and the lake."""

    home: Path
    world: World

    def run(self, command: Any, *flags: str) -> Result:
        result: Result = CliRunner().invoke(command, flags)
        return result

    def output(self, command: Any, *flags: str) -> str:
        result = self.run(command, *flags)
        assert result.exit_code == 0, result.output
        return str(result.output)


@pytest.fixture(scope="module")
def ads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ads]:
    home = tmp_path_factory.mktemp("ads")
    with own_environment(home), pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        (home / "profile.yaml").write_text(yaml.safe_dump(PROFILE))
        (home / "ads.config").write_text(yaml.safe_dump(PIPELINE))
        world = World(home, load_profile())
        for day, (part, table) in zip(DAYS, PARTS.items(), strict=True):
            folder = world.profile.landing / "interactions" / f"bizdate={day}"
            folder.mkdir(parents=True)
            pq.write_table(table, folder / f"{part}.parquet")
            pq.write_table(table, home / f"{part}.parquet")
            csv.write_csv(table, home / f"{part}.csv")
        world.run(["interactions"], DAYS[0], DAYS[-1])
        world.run(
            ["splits", "rank_samples", "feature_schema", "rank_lgbm"],
            DAYS[-1],
            config={"rank_lgbm": {"model": SETTINGS}},
        )
        found = Ads(home, world)
        found.output(train_eval, "--pipeline_config_path", "ads.config")
        found.output(export, "--pipeline_config_path", "lgbm/pipeline.config", "--export_dir", "lgbm/export")
        yield found


def test_probabilities_are_those_of_the_asset_and_the_auc_is_printed(ads: Ads) -> None:
    expected = pq.read_table(ads.world.read("rank_lgbm", DAYS[-1]).path(PREDICTIONS))["score"].to_numpy()
    exact = auc(PARTS["test"]["clicked"].to_numpy(), expected)
    assert exact > 0.6
    for place, source in (("lgbm/export", "--scripted_model_path"), ("lgbm/pipeline.config", "--pipeline_config_path")):
        flags = [source, place, "--predict_input_path", "test.csv", "--predict_output_path", f"out{len(place)}.parquet"]
        told = ads.output(predict, *flags, "--writer_type", "ParquetWriter")
        found = pq.read_table(f"out{len(place)}.parquet")
        assert found.column_names == ["probs"]
        assert np.abs(found["probs"].to_numpy() - expected).max() < 1e-6
        assert f"auc: {exact:.6f}\n" in told
        assert "gauc: " in told
    told = json.loads((ads.home / "lgbm" / "train_eval_result.txt").read_text())
    assert told["eval"]["auc"] == pytest.approx(exact, abs=1e-6)


def test_every_row_has_a_score_and_its_own_columns(ads: Ads) -> None:
    """A value that cannot be read, or is not there, counts as missing; a file without labels needs none."""
    some = PARTS["test"].slice(0, 5).drop(["clicked"]).append_column("note", pa.array(list("abcde")))
    for file, users, said in (
        ("some.csv", pa.array(["1", "x", "3", "4", "5"]), "1 rows: user_id is not of type int64 (some.csv, row 2)"),
        ("some.parquet", pa.array([1, None, 3, 4, 5]), "1 rows: user_id is missing (some.parquet, row 2)"),
    ):
        kind = file.partition(".")[2]
        (csv.write_csv if kind == "csv" else pq.write_table)(some.set_column(0, "user_id", users), ads.home / file)
        flags = ["--scripted_model_path", "lgbm/export", "--predict_input_path", file, "--reserved_columns", "note,ad"]
        told = ads.output(predict, *flags, "--predict_output_path", "scored", "--output_columns", "probs")
        found = (csv.read_csv if kind == "csv" else pq.read_table)(ads.home / "scored" / f"part-0.{kind}")
        assert found.column_names == ["probs", "note", "ad"]
        assert found.drop(["probs"]).to_pydict() == some.select(["note", "ad"]).to_pydict()
        assert said in told
        assert "auc" not in told


def test_a_network_learns_from_the_good_rows_of_several_files(ads: Ads) -> None:
    bad = PARTS["train"].slice(0, 2).drop(["clicked"]).append_column("clicked", pa.array([7, None], pa.int64()))
    pq.write_table(bad.select(PARTS["train"].column_names), ads.home / "bad.parquet")
    edits = {"model_config": {"name": "widedeep"}, "train_config": {"epochs": 8, "batch": 256}}
    flags = ["--pipeline_config_path", "ads.config", "--edit_config_json", json.dumps(edits), "--model_dir", "deep"]
    told = ads.output(train_eval, *flags, "--train_input_path", "bad.parquet,train.parquet")
    assert "left out of bad.parquet,train.parquet: 1 rows: clicked is out of bounds (bad.parquet, row 1); " in told
    assert "1 rows: the label rule gives no answer (bad.parquet, row 2)" in told
    assert json.loads(told.splitlines()[-1])["eval"]["auc"] > 0.6
    kept = yaml.safe_load((ads.home / "deep" / "pipeline.config").read_text())
    assert (kept["train_config"], kept["model_dir"]) == (edits["train_config"], "deep")


def test_without_validation_rows_the_last_train_rows_are_taken(ads: Ads, tmp_path: Path) -> None:
    edits = {"validation_input_path": None, "data_config.validation_ratio": 0.15}
    pipeline = read_pipeline(ads.home / "ads.config", json.dumps(edits))
    with connect_without_lake(tmp_path) as connection:
        parts = rank_samples(connection, pipeline, tmp_path, print).parts
    activity = PARTS["train"]["activity"].to_pylist()
    for part, expected in (("train", activity[:2550]), ("validation", activity[2550:])):
        assert pq.read_table(parts[part])["activity"].to_pylist() == expected


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        (
            {"data_config.features.numeric": ["height"]},
            "data_config.features.numeric.0: 'height' is not a column",
        ),
        ({"data_config.label": "clicked >"}, "data_config.label"),
        ({"model_config.name": "tree"}, "no model 'tree'"),
        ({"model_config.leafs": 3}, "lgbm: model.leafs does not exist: did you mean 'leaves'?"),
        ({"train_input_path.x": 3}, "train_input_path.x cannot be set: train_input_path is not a section"),
        ({"eval_input_path": "none.csv"}, "there is no file at none.csv"),
        ({"data_config.columns.clicked": "vector"}, "data_config.columns.clicked: a vector needs a width"),
        ({"data_config.columns.ad": "timestamp"}, "as several columns"),
        ({"data_config.columns.gender": "int64"}, "gender"),
        ({"weights": 3}, "weights: is not a key that pipeline files have here"),
        ({"model_config": {"name": "dssm"}}, "say whose it is"),
    ],
)
def test_faults_are_named_and_leave_nothing(ads: Ads, edits: dict[str, Any], said: str) -> None:
    flags = ["--pipeline_config_path", "ads.config", "--edit_config_json", json.dumps(edits), "--model_dir", "faulty"]
    result = ads.run(train_eval, *flags)
    assert result.exit_code == 1
    assert said in result.output
    assert "traceback" not in result.output
    assert not (ads.home / "faulty").exists()


def test_faults_of_predict_are_named(ads: Ads) -> None:
    def said(*flags: str, place: str = "faulty.parquet") -> str:
        result = ads.run(predict, *flags, "--predict_output_path", place)
        assert result.exit_code != 0
        assert not (ads.home / "faulty.parquet").exists()
        return str(result.output)

    model, rows_of_test = ("--scripted_model_path", "lgbm/export"), ("--predict_input_path", "test.parquet")
    assert "give either" in said(*rows_of_test)
    assert "holds no exported model" in said("--scripted_model_path", "lgbm", *rows_of_test)
    assert "the model does not give logits: it gives probs" in said(*model, *rows_of_test, "--output_columns", "logits")
    assert "has no column nothing" in said(*model, *rows_of_test, "--reserved_columns", "nothing")
    assert "holds the rows to be scored" in said(*model, *rows_of_test, place=str(ads.home))
    assert "export the table to Parquet" in said(*model, "--predict_input_path", "test.parquet,odps://a/tables/b")
