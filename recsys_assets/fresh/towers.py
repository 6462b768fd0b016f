"""The towers that turn fresh rows into vectors: files of a partition of `onnx_<model>`, or a service that has them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from recsys_assets.arrays import Vectors
from recsys_assets.funnel.tower_file import TowerFile
from recsys_assets.manifest import Partition

FILES = {"items": "item.onnx", "users": "user.onnx"}  # by side


class Encoder(Protocol):
    """Turns rows of raw features into vectors."""

    @property
    def types(self) -> Mapping[str, pa.DataType]:
        """The type of each feature that it reads."""

    def __call__(self, table: pa.Table) -> Vectors:
        """(N, D) the vectors of the rows of a table, which has a column for every feature."""


class AnyTower(Protocol):
    """A tower wherever it runs, and the hash of its file, which tells its vectors from those of others."""

    @property
    def name(self) -> str:
        """The hash of its file."""

    @property
    def encode(self) -> Encoder:
        """Gives its vectors."""


@dataclass(frozen=True)
class Tower:
    """A tower that runs in this process, and the hash of its file."""

    name: str
    encode: TowerFile


def towers_of(files: Partition) -> dict[str, Tower]:
    """The towers of both sides."""
    return {side: Tower(files.manifest.files[file], TowerFile(files.path(file))) for side, file in FILES.items()}
