"""The walks of `docs/quick_start.md` and `docs/datasets.md`, typed: from a log to landing files that are checked.

`recsys materialize '*'`, which would follow, takes minutes. So the requests of the quick start are judged by the forms
by which the service reads them, with the profile that the walk has made.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import pandas as pd
import pytest
from click.testing import CliRunner

from recsys_assets.cli import main
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.serving.requests import RecommendBody
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.page_blocks import blocks, commands_of, only_block
from recsys_assets_tests.helpers.told_events import telling

LATER = ("make setup", ". ./activate", "recsys materialize", "recsys serve", "curl")  # other tests run these
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which everything is typed; the environment names its data."""
    folder = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("RECSYS_", "DAGSTER_", "MLFLOW_"))]:
            patch.delenv(name)
        patch.setenv("RECSYS_HOME", str(folder))
        patch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
        patch.setenv("PYTHONPATH", str(PROJECT))
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def said(folder: Path) -> str:
    """The output of the quick start in one shell, as far as it takes seconds."""
    page = [block.text for block in blocks("sh") if block.page == "quick_start.md"]
    typed = [line for text in page for line in commands_of(text) if not line.startswith(LATER)]
    assert len(typed) == 5
    script = "\n".join([*typed, "recsys bizdate"])
    done = subprocess.run(["bash", "-euc", script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_log_of_the_quick_start_lands_and_nothing_is_in_the_way(said: str) -> None:
    assert "mine: 12,096 events of 56 days (2026-01-01 to 2026-02-25)" in said
    assert "300 users are known" in said and "200 items are known" in said
    assert "nothing is in the way of" in said
    assert said.splitlines()[-1] == "2026-02-25"  # of the exported profile


@pytest.fixture(scope="module")
def mine(said: str, folder: Path) -> Profile:  # noqa: ARG001 (it writes the profile)
    return load_profile(str(folder / "mine.yaml"))


def test_the_requests_of_the_quick_start_are_of_the_forms_that_the_service_reads(mine: Profile) -> None:
    address, told, history = map(shlex.split, commands_of(only_block("quick_start.md", "curl")))
    known, asked = pd.read_csv("log.csv"), urlsplit(f"http://{address[1]}")
    by_query = RecommendBody(user_id=asked.path.rpartition("/")[2], size=int(asked.query.removeprefix("size=")))
    assert by_query.user_id in set(known["user"])
    assert {event.item_id for event in RecommendBody.model_validate_json(history[3]).history} <= set(known["item"])
    with telling(mine) as tell:
        assert tell(*orjson.loads(told[3])["events"]).new == 1


@pytest.mark.usefixtures("said")
def test_the_four_lines_for_a_log_of_ones_own_are_typed(folder: Path) -> None:
    rows = [f"i{n},Product {n},{'ab'[n % 2]},{n + 0.5}" for n in range(200)]
    (folder / "products.csv").write_text("\n".join(["item,title,category,price", *rows]) + "\n")
    init, land, check, _ = commands_of(only_block("datasets.md", "recsys init"))
    for line, told in ((init, "recsys check shop.yaml"), (land, "12,096 events"), (check, "nothing is in the way of")):
        done = CliRunner().invoke(main, shlex.split(line)[1:])
        assert done.exit_code == 0, done.output
        assert told in done.output
