"""The parts of the example of `docs/datasets.md` that came in files of their own: landed, ingested and split."""

import re
import shlex
from collections import Counter
from pathlib import Path

import pytest

from recsys_assets.cli.data import land as land_command
from recsys_assets.datasets.duck import connect
from recsys_assets.datasets.ingest import ROWS, ingest_events
from recsys_assets.datasets.profile import Profile, ProfileError, load_profile
from recsys_assets.datasets.splits import split_rows
from recsys_assets.datasets.text_files import LandedFileError
from recsys_assets_tests.conftest import PROJECT

((EXAMPLE, COMMANDS),) = re.findall(
    r"```yaml\n(split: {strategy: given, parts: .*)\n```\n```sh\n(.*?)```",
    (PROJECT / "docs" / "datasets.md").read_text(),
    re.DOTALL,
)
DAY = "2026-01-01"
TABLE = f"""
name: shop
first_bizdate: {DAY}
landing: ${{RECSYS_LANDING}}/shop
tables:
  interactions: {{clicked: int64, brand: string}}
label: clicked = 1
features: {{categorical: [brand]}}
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    monkeypatch.setenv("RECSYS_LANDING", str(tmp_path / "landing"))
    monkeypatch.chdir(tmp_path)
    Path("shop.yaml").write_text(TABLE + EXAMPLE)
    return load_profile(str(tmp_path / "shop.yaml"))


def parts(profile: Profile, folder: Path) -> dict[str, int]:
    folder.mkdir()
    with connect(folder) as connection:
        ingest_events(connection, profile, DAY, folder)
        split_rows(connection, profile, [folder / ROWS], DAY)
        return Counter(part for (part,) in connection.execute("SELECT part FROM splits").fetchall())


def test_each_file_is_a_part(shop: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate(("train", "valid", "test"), start=2):
        Path(f"{name}.csv").write_text("clicked,brand\n" + "1,a\n0,b\n" * number)
    monkeypatch.setenv("RECSYS_HOME", str(tmp_path))
    for command in COMMANDS.strip().splitlines():
        land_command.main(shlex.split(command)[2:], standalone_mode=False)
    assert parts(shop, tmp_path / "first") == {"train": 4, "validation": 6, "test": 8}
    more = shop.landing / "interactions" / f"bizdate={DAY}" / "train"
    more.mkdir()
    (more / "part-0.csv").write_text("clicked,brand\n1,c\n")
    assert parts(shop, tmp_path / "second") == {"train": 5, "validation": 6, "test": 8}
    (more.parent / "valid2.csv").write_text("clicked,brand\n1,c\n")
    with pytest.raises(LandedFileError, match=r"valid2\.csv is of no part: split\.parts has train, valid, test"):
        parts(shop, tmp_path / "third")


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("{strategy: given}", "needs either column"),
        ("{strategy: given, column: brand, parts: {train: a, validation: b, test: c}}", "needs either column"),
        ("{strategy: given, parts: {train: a, test: b}}", "split.parts: lacks validation"),
        ("{strategy: given, parts: {train: a, validation: a, test: c}}", "names a file or folder twice"),
        ("{strategy: by_day, parts: {train: a, validation: b, test: c}}", "is for split.strategy given, not by_day"),
        ("{strategy: random, shares: [7, 1, 1, 1]}", "split.shares: .* has no online part: give three numbers"),
        ("{strategy: successive}", "split.strategy successive needs user_id, item_id and timestamp"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(tmp_path: Path, rule: str, says: str) -> None:
    (tmp_path / "shop.yaml").write_text(TABLE.replace("${RECSYS_LANDING}", str(tmp_path)) + f"split: {rule}\n")
    with pytest.raises(ProfileError, match=says):
        load_profile(str(tmp_path / "shop.yaml"))
