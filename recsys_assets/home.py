"""The folder of an installation that is not a checkout: it gets the two files that Dagster reads there."""

import os
import shutil
from pathlib import Path

from recsys_assets.settings import project_home

PACKED = Path(__file__).parent / "home_files"  # in a wheel; a checkout has the files themselves
FILES = ("dagster.yaml", "workspace.yaml")


def prepare_home() -> Path:
    """Name the project's folder to Dagster, unless `DAGSTER_HOME` names another, and write what is missing there."""
    home = Path(os.environ.get("DAGSTER_HOME") or project_home())
    os.environ["DAGSTER_HOME"] = str(home)
    for name in FILES:
        if not (home / name).exists() and (PACKED / name).exists():
            home.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PACKED / name, home / name)
    return home
