"""The files of the parts of samples, `rank_samples` or `touch_samples`, that ranking models read."""

from pathlib import Path

from recsys_assets.manifest import Manifest, Partition

RANKED_PARTS = ("train", "validation", "test")
FILES = "files"  # in a manifest's config: the files of each part, where they are not one for each part


def part_files(samples: Partition, part: str) -> list[Path]:
    """The files that hold the rows of a part, one after the other."""
    return [samples.path(file) for file in files_by_part(samples.manifest)[part]]


def files_by_part(samples: Manifest) -> dict[str, list[str]]:
    """The names of the files of each part."""
    named: dict[str, list[str]] = samples.config.get(FILES, {part: [part_file(part)] for part in RANKED_PARTS})
    return named


def part_file(part: str) -> str:
    """The name of the only file of a part."""
    return f"{part}.parquet"
