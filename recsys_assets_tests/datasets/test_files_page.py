"""The examples of `docs/files.md`: each profile is loaded, each file is ingested, each command is run."""

import io
import re
import shlex
import shutil
import sqlite3
from pathlib import Path

import pandas as pd
import pytest

from recsys_assets.cli.data import land
from recsys_assets.datasets.landing import day_folder, landed_bizdates
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.lake import Lake
from recsys_assets.sensors import _times_of_news
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.in_process import materialize
from recsys_assets_tests.helpers.shop import DAY, OWN, WHOLE, ingest, lake, put, rows, shop

__all__ = ["lake", "shop"]  # fixtures

PAGE = (PROJECT / "docs" / "files.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```\n```(\w+)\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
SUFFIXES = {"csv": "csv", "json": "jsonl"}


def test_the_page_has_examples_and_names_every_key() -> None:
    assert (len(EXAMPLES), len(COMMANDS)) == (4, 4)
    keys = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert keys == set(type(load_profile("sample").files).model_fields) - {
        "interactions",
        "impressions",
        "users",
        "items",
    }


@pytest.mark.parametrize(("files", "kind", "content"), EXAMPLES)
def test_an_example_is_ingested_without_a_rejected_row(
    shop: Profile, lake: Lake, tmp_path: Path, files: str, kind: str, content: str
) -> None:
    shutil.rmtree(shop.landing / "items/bizdate=2026-01-06")
    for table in ("users", "items"):  # Parquet, which has no separators
        text = shop.landing / table / f"{table}.csv"
        pd.read_csv(text).to_parquet(text.with_suffix(".parquet"))
        text.unlink()
    (tmp_path / "shop.yaml").write_text(OWN + files)
    profile = load_profile()
    where = day_folder(profile, "interactions", DAY).relative_to(profile.landing)
    encoding = profile.files.of("interactions").encoding
    put(profile, f"{where}/events.{SUFFIXES[kind]}", content.encode(encoding))
    assert landed_bizdates(profile) == [DAY]
    assert ingest(lake, profile) == {"rows": 2}
    assert rows(lake).rating.tolist() == [4.5, 3.0]


@pytest.mark.parametrize("command", [each for each in COMMANDS if "postgresql://" not in each])
def test_a_command_lands_what_is_there(
    shop: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.csv").write_text(WHOLE + "1,10,4,soon\n")
    for table in ("users", "items"):
        (tmp_path / f"{table}.csv").write_bytes((shop.landing / table / f"{table}.csv").read_bytes())
    with sqlite3.connect("shop.db") as database:
        database.execute("CREATE TABLE log (user_id, item_id, rating, at)")
        values = [line.split(",") for line in WHOLE.splitlines()[1:]]
        database.executemany("INSERT INTO log VALUES (?, ?, ?, ?)", values)
    (tmp_path / "export/2026").mkdir(parents=True)
    export = pd.read_csv(io.StringIO(WHOLE)).rename(columns={"timestamp": "made"})
    export.to_parquet(tmp_path / "export/2026/events.parquet")
    land.main(shlex.split(command)[2:], standalone_mode=False)
    said = capsys.readouterr().out
    assert "shop: 12 events of 1 day (2026-01-05 to 2026-01-05)" in said
    assert ("1 rows were rejected: timestamp is not of type timestamp" in said) == ("log.csv" in command)


def test_days_without_files_cost_no_run_of_their_own(shop: Profile, lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(OWN + "files: {missing_days: empty}\n")
    profile = load_profile()
    put(shop, f"interactions/bizdate={DAY}/e.csv", WHOLE)
    put(shop, "interactions/bizdate=2026-01-09/e.csv", WHOLE.replace("17675", "17679"))
    times, empty = _times_of_news(profile)
    assert list(times) == landed_bizdates(profile)
    assert empty == {"2026-01-06", "2026-01-07", "2026-01-08"}
    assert times["2026-01-06"] == times["2026-01-09"]  # the file that landed is news of the empty days, too
    result = materialize(["interactions"], DAY, "2026-01-09")
    assert result.success
    assert [lake.manifest("interactions", day).rows for day in lake.bizdates("interactions")] == [12, 0, 0, 0, 12]
    copied = lake.manifest("interactions", "2026-01-08").fingerprint
    assert materialize(["interactions"], "2026-01-08").success
    assert lake.manifest("interactions", "2026-01-08").fingerprint == copied  # made alone, it is the same
