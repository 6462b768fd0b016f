"""Fixtures that several test files share, and which worker runs which tests."""

from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

PROJECT = Path(__file__).parents[1]


class ByFile(LoadFileScheduling):  # type: ignore[misc]
    """Gives all tests of a file, and those of the folder `platform`, to one worker: no fixture is built twice."""

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
