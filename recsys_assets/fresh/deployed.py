"""The towers of a deployed service (`recsys deploy`), asked over HTTP as if they were here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from recsys_assets.arrays import Vectors, slices
from recsys_assets.client import Call, Client, ServiceError
from recsys_assets.fresh.towers import FILES
from recsys_assets.funnel.tower_file import FEATURE_TYPES

ROWS_AT_ONCE = 1_000  # the most that the service takes
_TOO_LARGE = 413


class TowerChanged(RuntimeError):
    """The service answers with another tower than the one that was asked for: open its towers again."""


class OtherModel(ValueError):
    """The service has the towers of another model than the profile's fresh rows; the message names both."""


class DeployedEncoder:
    """One tower of the service.

    Args:
        client: of the service.
        side: `item` or `user`.
        name: the hash of the tower's file.
        types: the type of each feature that it reads.
    """

    def __init__(self, client: Client, side: str, name: str, types: Mapping[str, pa.DataType]) -> None:
        self._client, self._side, self._name, self.types = client, side, name, types

    def __call__(self, table: pa.Table) -> Vectors:
        """(N, D) the vectors of the rows of a table, which has a column for every feature.

        Raises:
            TowerChanged: the service was updated meanwhile.
            ServiceError: it refuses the rows, or does not answer.
        """
        columns = pa.table({name: table[name].cast(kind) for name, kind in self.types.items()})
        parts = (columns.slice(each.start, ROWS_AT_ONCE) for each in slices(len(table), ROWS_AT_ONCE))
        return np.array([vector for part in parts for vector in self._ask(part.to_pylist())], np.float32)

    def _ask(self, rows: Sequence[Mapping[str, Any]]) -> list[list[float]]:
        """The vectors of rows; if they are too large for one request, of one half after the other."""
        try:
            answer = self._client.send(Call("POST", "/vectors", dict, body={"side": self._side, "rows": rows}))
        except ServiceError as error:
            if error.status != _TOO_LARGE or len(rows) == 1:
                raise
            half = len(rows) // 2
            return [*self._ask(rows[:half]), *self._ask(rows[half:])]
        if answer["file"] != self._name:
            raise TowerChanged(f"version {answer['version']} of {answer['deployment']} answers now")
        vectors: list[list[float]] = answer["vectors"]
        return vectors


@dataclass(frozen=True)
class DeployedTower:
    """A tower that runs in the service, and the hash of its file."""

    name: str
    encode: DeployedEncoder


def deployed_towers(client: Client, model: str) -> dict[str, DeployedTower]:
    """The towers of both sides that the service answers from now.

    Raises:
        OtherModel: they are of another model.
        ServiceError: it does not answer.
    """
    answer = client.send(Call("GET", "/inputs", dict))
    if answer["model"] != model:
        raise OtherModel(
            f"the deployment '{answer['deployment']}' has the towers of {answer['model']}, and fresh rows take those "
            f"of {model}: deploy that model, or change `fresh: model` in the profile"
        )
    made = {}
    for side, name in answer["files"].items():
        types = {feature: FEATURE_TYPES[kind] for feature, kind in answer["inputs"][side].items()}
        made[side] = DeployedTower(name, DeployedEncoder(client, side, name, types))
    return {side: made[file.removesuffix(".onnx")] for side, file in FILES.items()}
