"""Fixtures that several test files share, and which worker runs which tests."""

import gc
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

PROJECT = Path(__file__).parents[1]


def pytest_configure() -> None:
    """Make the imports of all tests cheap, here and in the processes that tests start."""
    sys.dont_write_bytecode = False  # otherwise each of them compiles the project again
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    gc.disable()


def pytest_collection_finish() -> None:
    """Keep the collector from looking at the millions of objects of the imports, now that all are there.

    If MLflow is among them, its tables are made only once.
    """
    if "mlflow" in sys.modules:
        from recsys_assets_tests.helpers import mlflow_tables

        mlflow_tables.install()
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    """Let these objects be freed; otherwise DuckDB prints a list of what was not."""
    gc.unfreeze()


# The tests that take longest begin, the longest first; otherwise one worker would end long after the others.
LONGEST = (
    "platform",
    "cli/test_cli.py",
    "ui/test_ui.py",
    "assets/test_daily_job.py",
    "test_killed.py",
    "test_benchmarks.py",
    "serving/test_processes.py",
    "training/test_processes.py",
    "test_readme.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of `LONGEST` first, in its order."""
    places = [f"recsys_assets_tests/{place}" for place in LONGEST]
    items.sort(
        key=lambda item: next((n for n, place in enumerate(places) if item.nodeid.startswith(place)), len(places))
    )


class ByFile(LoadFileScheduling):  # type: ignore[misc]
    """Gives all tests of a file, and those of the folder `platform`, to one worker: no fixture is built twice."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        config.option.loadscopereorder = False  # keeps the order above
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        file = Path(super()._split_scope(nodeid))
        return str(file.parent if file.parent.name == "platform" else file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """The scheduler of `pytest -n 2`."""
    return ByFile(config, log)


@pytest.fixture(scope="session")
def ml1m() -> Path:
    """The folder of the MovieLens 1M files."""
    folder = PROJECT.parent / "shared" / "data" / "ml-1m"
    if not (folder / "ratings.dat").is_file():
        pytest.skip(f"needs MovieLens 1M in {folder.relative_to(PROJECT.parent)} next to the project")
    return folder
