"""A search space's `result_path`: a copy of the results for people, in addition to the partition in the lake.

A space file may come from anywhere, so it must not decide freely where files are written. A relative path starts at the
project's home; after links are followed, the folder must be in the home or in the data folder, but not in the lake or
the landing folder, which have their own rules. `${VAR}` is an environment variable; a path with one that is not set is
not used. Below the folder the layout is the lake's, so that no two results share a path.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from recsys_assets.settings import Settings
from recsys_assets.tuning.form import SpaceError

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def unset(written: str, environment: Mapping[str, str]) -> list[str]:
    """The variables in a path that are not set in the environment."""
    return [name for found in _VARIABLE.findall(written) if (name := "".join(found)) not in environment]


def place(written: str, below: str, settings: Settings, environment: Mapping[str, str]) -> Path:
    """The folder `below` under a written path, whose variables are all set.

    Raises:
        SpaceError: it is not in a folder that results may be written to.
    """
    path = _VARIABLE.sub(lambda found: environment[found[1] or found[2]], written)
    if "://" in path:
        raise SpaceError(f"result_path {written} is not a folder of this machine: {_ADVICE}")
    folder = (settings.home / path / below).resolve()
    allowed = [root.resolve() for root in (settings.home, settings.data)]
    taken = [Path(root).resolve() for root in (settings.landing, settings.lake) if "://" not in str(root)]
    if not any(folder.is_relative_to(root) for root in allowed):
        raise SpaceError(f"result_path {written} is outside of {' and '.join(map(str, allowed))}: {_ADVICE}")
    if any(folder.is_relative_to(root) for root in taken):
        raise SpaceError(f"result_path {written} is in the lake or the landing folder: {_ADVICE}")
    return folder


_ADVICE = "write a path such as data/tuner, or leave result_path out: the results are always in the lake too"


def copy(files: Iterable[Path], folder: Path) -> None:
    """Copy files into a folder, each in one step; a file or link of the same name is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=folder)
        os.close(handle)
        shutil.copyfile(file, name)
        Path(name).replace(folder / file.name)
