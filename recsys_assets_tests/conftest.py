"""What several test files share."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from recsys_assets_tests.dagster_dev import Backfilled

PROJECT = Path(__file__).parents[1]


# Both work on the one `dagster dev` that the fixture `platform` starts.
ON_THE_PLATFORM = ("test_automation", "test_dagster_dev")


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each file's tests, and those of the platform, to one worker, so that no fixture is made twice."""
    for item in items:
        group = "platform" if item.path.stem in ON_THE_PLATFORM else item.path.stem
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def ml1m() -> Path:
    """Folder of the MovieLens 1M files."""
    folder = PROJECT.parent / "shared" / "data" / "ml-1m"
    if not (folder / "ratings.dat").is_file():
        pytest.skip(f"needs MovieLens 1M in {folder.relative_to(PROJECT.parent)} beside the project")
    return folder


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Backfilled]":
    """`dagster dev` on a landed sample of which three days were backfilled: about three minutes, once."""
    from recsys_assets_tests.dagster_dev import DagsterDev, backfilled

    dev = DagsterDev(tmp_path_factory.mktemp("platform"))
    with dev.running():
        yield backfilled(dev)
