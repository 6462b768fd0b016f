"""Fixtures and the order of tests that several test files share."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    from recsys_assets_tests.helpers.dagster_dev import Backfilled

PROJECT = Path(__file__).parents[1]


# Both files use the one `dagster dev` that the fixture `platform` starts.
ON_THE_PLATFORM = ("test_automation.py", "test_dagster_dev.py")


class ByFile(LoadFileScheduling):  # type: ignore[misc]
    """Gives all tests of a file, and those of both platform files, to one worker, so that no fixture is built twice."""

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return "platform" if Path(file).name in ON_THE_PLATFORM else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """The scheduler of `pytest -n 2`."""
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the tests of the automation to the end: they correct days that other tests of the platform read."""
    items.sort(key=lambda item: item.path.name == "test_automation.py")


@pytest.fixture(scope="session")
def ml1m() -> Path:
    """The folder of the MovieLens 1M files."""
    folder = PROJECT.parent / "shared" / "data" / "ml-1m"
    if not (folder / "ratings.dat").is_file():
        pytest.skip(f"needs MovieLens 1M in {folder.relative_to(PROJECT.parent)} next to the project")
    return folder


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Backfilled]":
    """`dagster dev` on a landed sample with two backfilled days; built once, in about three minutes."""
    from recsys_assets_tests.helpers.dagster_dev import DagsterDev, backfilled

    dev = DagsterDev(tmp_path_factory.mktemp("platform"))
    with dev.running():
        yield backfilled(dev)
