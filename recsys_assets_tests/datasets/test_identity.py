"""A place that holds one data set refuses a different one of the same name, and says how to continue."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from recsys_assets.cli import main
from recsys_assets.datasets.identity import OtherDataset, identify
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.lake import Lake
from recsys_assets.lake_place import LakePlace
from recsys_assets_tests.helpers.in_process import failures, materialize
from recsys_assets_tests.helpers.shop import DAY, GOOD, OWN, PARQUET, frame, put, shop

__all__ = ["shop"]  # a fixture


def recsys(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def home(shop: Profile, tmp_path: Path) -> Path:
    """A lake that holds a day of the data set `shop`."""
    put(shop, PARQUET, frame(*GOOD))
    assert materialize(["interactions"], DAY).success
    return tmp_path


def describe_again(home: Path, old: str, new: str) -> None:
    (home / "shop.yaml").write_text(OWN.replace(old, new))


def test_the_data_set_of_another_folder_is_refused_and_changes_nothing(home: Path) -> None:
    before = Lake(str(home / "lake"), "shop").manifest("interactions", DAY)
    shutil.copytree(home / "landing" / "shop", home / "landing" / "other")
    put(load_profile(), PARQUET, frame(*GOOD[:2]))
    describe_again(home, "/shop\n", "/other\n")
    said = failures(materialize(["interactions"], DAY))["interactions"]
    assert "OtherDataset" in said
    assert "it landed in ../../landing/shop, the profile's landing is ../../landing/other" in said
    assert "`recsys adopt`" in said
    assert Lake(str(home / "lake"), "shop").manifest("interactions", DAY) == before
    shown = recsys("show", "interactions")
    assert shown.exit_code == 1
    assert "holds another data set named 'shop'" in shown.output


def test_a_landing_folder_that_moved_is_adopted_by_the_command_that_the_refusal_names(home: Path) -> None:
    (home / "landing" / "shop").rename(home / "landing" / "moved")
    describe_again(home, "/shop\n", "/moved\n")
    assert recsys("show", "interactions").exit_code == 1
    assert recsys("adopt").exit_code == 0
    assert recsys("show", "interactions").exit_code == 0
    assert materialize(["interactions"], DAY).success


def test_one_more_column_is_named_and_adopted(home: Path) -> None:
    describe_again(home, "gender: string,", "gender: string, city: string,")
    put(load_profile(), "users/users.csv", "user_id,gender,age,city\n1,F,25,Ulm\n2,M,35,\n3,F,,Bonn\n")
    with pytest.raises(OtherDataset, match="users.city is absent there and string city here"):
        Lake.of(str(home / "lake"), load_profile())
    assert recsys("adopt").exit_code == 0
    assert materialize(["users"], DAY).success


def test_another_label_or_feature_is_the_same_data_set(home: Path) -> None:
    describe_again(home, "label: rating > 3", "label: rating > 4")
    assert Lake.of(str(home / "lake"), load_profile()).dataset == Lake.of(str(home / "lake"), load_profile()).dataset
    assert materialize(["interactions"], DAY).success


def test_lake_and_landing_can_move_together(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name in ("lake", "landing"):
        shutil.move(home / name, elsewhere / name)
    os.environ["RECSYS_LANDING"] = str(elsewhere / "landing")  # the fixture's monkeypatch restores it
    held = LakePlace(str(elsewhere / "lake"), "shop").read_dataset()
    assert Lake.of(str(elsewhere / "lake"), load_profile()).dataset == held


def test_rows_of_an_older_generator_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_LANDING", str(tmp_path / "landing"))
    place, profile = LakePlace(str(tmp_path / "lake"), "sample"), load_profile("sample")
    place.record_dataset(replace(identify(profile, tmp_path / "lake"), generator=""))
    with pytest.raises(OtherDataset, match="an older generator made its rows, and sample 2 makes others"):
        Lake.of(str(tmp_path / "lake"), profile)
    Lake(str(tmp_path / "lake"), "sample").adopt(profile)
    assert Lake.of(str(tmp_path / "lake"), profile).dataset == place.read_dataset()
