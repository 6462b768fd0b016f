"""The site of the documentation is built as `make docs` builds it, and its reference pages name what there is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from recsys_assets.cli import main
from recsys_assets.models.catalogue import MODELS
from recsys_assets_tests.conftest import PROJECT

REFERENCE = "profile", "commands", "http", "assets", "errors"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "docs", str(folder)]
    place = {**os.environ, "RECSYS_DATA": str(folder / "data"), "RECSYS_PROFILE": "sample"}
    done = subprocess.run(words, cwd=PROJECT, env=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr  # among others for a link that leads nowhere
    return folder


def test_the_pages_fetch_nothing_from_another_site(site: Path) -> None:
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert 'src="http' not in text, page.name
        assert 'rel="stylesheet" type="text/css" href="http' not in text, page.name


def test_the_reference_names_every_command_and_model(site: Path) -> None:
    pages = {name: (site / "reference" / f"{name}.html").read_text(encoding="utf-8") for name in REFERENCE}
    for command in main.commands:
        assert f"recsys {command}" in pages["commands"]
    for model in MODELS:
        assert f"_{model}" in pages["assets"]
    for path in ("/recommend/{user_id}", "/events", "/health/ready"):
        assert path in pages["http"]
    assert "first_bizdate" in pages["profile"]
    assert "LandingError" in pages["errors"]
