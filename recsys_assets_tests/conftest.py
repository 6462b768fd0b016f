"""What several test files share."""

from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def ml1m() -> Path:
    """Folder of the MovieLens 1M files."""
    folder = PROJECT.parent / "shared" / "data" / "ml-1m"
    if not (folder / "ratings.dat").is_file():
        pytest.skip(f"needs MovieLens 1M in {folder.relative_to(PROJECT.parent)} beside the project")
    return folder
