"""The towers that turn fresh rows into vectors: those of a partition of `onnx_<model>`."""

from dataclasses import dataclass

from recsys_assets.funnel.tower_file import TowerFile
from recsys_assets.manifest import Partition

FILES = {"items": "item.onnx", "users": "user.onnx"}  # by side


@dataclass(frozen=True)
class Tower:
    """A tower, and the hash of its file, which tells its vectors from those of others."""

    name: str
    encode: TowerFile


def towers_of(files: Partition) -> dict[str, Tower]:
    """The towers of both sides."""
    return {side: Tower(files.manifest.files[file], TowerFile(files.path(file))) for side, file in FILES.items()}
