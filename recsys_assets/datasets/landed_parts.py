"""Parts that somebody else has made: each landed file, or folder of a day, belongs to one part of the split."""

import re
from collections.abc import Sequence
from pathlib import Path

from recsys_assets.datasets.duck import quote, quote_name
from recsys_assets.datasets.landing import day_folder
from recsys_assets.datasets.names import LANDED_PART
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.text_files import LandedFileError


def part_column(profile: Profile, bizdate: str, files: Sequence[Path]) -> str:
    """SQL to follow a select list over a day's landed rows: the part of each row's `file`; empty without such parts.

    Raises:
        LandedFileError: a file is of none of the parts.
    """
    if not profile.split.parts:
        return ""
    home = day_folder(profile, "interactions", bizdate)
    parts = {file.relative_to(profile.landing): _part_of(profile, home, file) for file in files}
    cases = " ".join(f"WHEN {quote(str(file))} THEN {quote(part)}" for file, part in parts.items())
    part = f"CASE file {cases} END" if cases else "NULL::VARCHAR"
    return f", {part} AS {quote_name(LANDED_PART)}"


def _part_of(profile: Profile, home: Path, file: Path) -> str:
    """The part whose name a file has in the day's folder, or the folder in it that holds the file.

    `train.csv`, `train/anything.csv` and `from-train-0000.parquet`, which `recsys land` makes of a source `train.csv`,
    all have the name `train`.
    """
    first, *inside = file.relative_to(home).parts
    name = first if inside else first.partition(".")[0]
    name = re.sub(r"^from-(.*)-\d{4,}$", r"\1", name)
    for part, wanted in profile.split.parts.items():
        if name == wanted:
            return part
    known = ", ".join(profile.split.parts.values())
    raise LandedFileError(f"{file} is of no part: split.parts has {known}: rename the file or folder, or add its name")
