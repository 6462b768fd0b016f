"""The user tower of a two-tower model, for histories that go on after those of which vectors are kept."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa

from recsys_assets.arrays import Array, Floats, Ids, Ints, Vectors, find, list_array, slices
from recsys_assets.datasets.names import HISTORY
from recsys_assets.features.raw import INPUTS, raw_columns, read_inputs
from recsys_assets.funnel.network import Lookups, Network, read_network
from recsys_assets.manifest import Partition
from recsys_assets.retrieval.interactions import Interactions, Queries

KEPT = 1 << 13  # vectors of the latest histories: at most 10 MB; most requests of a user come without a new event
ROWS_AT_ONCE = 4096  # bounds the memory of histories that are looked up


class TowerTooOld(RuntimeError):
    """The ONNX file of a user tower does not say what its inputs are; the message names the command that renews it."""


class UserTower:
    """Encodes users by the network of the tower's file; users and items are looked up once, when it is opened.

    Args:
        tower: the ONNX files of the model.
        users: the users' table.
        item_ids: (I,) the items of the log.

    Raises:
        TowerTooOld: the file was made by an older version.
    """

    def __init__(self, tower: Partition, users: pa.Table, item_ids: Ids) -> None:
        self._network = Network(read_network(tower.path("user.onnx")))
        if INPUTS not in self._network.about:
            made = tower.manifest
            raise TowerTooOld(
                f"{made.asset} is of an older version: `recsys materialize {made.asset} --bizdate {made.bizdate}`"
            )
        self._inputs = read_inputs(self._network.about[INPUTS])
        self._length = next(each.length for each in self._inputs if each.name == HISTORY)
        lookups = Lookups(tower.path("user.onnx"))
        length = lookups.widths[HISTORY]
        self._shortest = length if isinstance(length, int) else 1  # files of older versions take one length
        ids = users["user_id"].to_numpy()
        order = np.argsort(ids, kind="stable")
        self._ids = ids[order]
        # The last row is that of somebody who is not in the table.
        everyone = users.take(pa.array([*order.tolist(), None]))
        self._rows, self._numbers = self._look_up(lookups, everyone)
        nobody = everyone.slice(len(ids))
        blocks = (item_ids[block] for block in slices(len(item_ids), ROWS_AT_ONCE))
        past = [lookups(self._raw(nobody.take(np.zeros(len(block), int)), block)) for block in blocks]
        self._past = np.concatenate(past)[:, -self._length].astype(np.int32)  # (I,) stands for an item in a history
        self._encode = lru_cache(KEPT)(self._vector)

    def _look_up(self, lookups: Lookups, users: pa.Table) -> tuple[Ints, Floats | None]:
        """The users' rows of `indices` without the history, and of `numeric`, if the tower reads numbers."""
        numeric = [each.name for each in self._inputs if each.kind == "numeric"]
        indices, numbers = [], []
        for block in slices(users.num_rows, ROWS_AT_ONCE):
            raw = self._raw(users.slice(block.start, block.stop - block.start), np.zeros(0, np.int64))
            indices.append(lookups(raw)[:, : -self._length])
            if numeric:
                numbers.append(_numbers(raw, numeric))
        return np.concatenate(indices), np.concatenate(numbers) if numeric else None

    def __call__(self, interactions: Interactions, queries: Queries) -> Vectors:
        """(N, D) the vectors of the queries."""
        starts, ends = np.maximum(queries.starts, queries.ends - self._length), queries.ends
        user = find(self._ids, interactions.user_ids[queries.users])  # -1 is the last row
        pasts = (self._past[interactions.items[first:end]].tobytes() for first, end in zip(starts, ends, strict=True))
        return np.concatenate([self._encode(*each) for each in zip(user.tolist(), pasts, strict=True)])

    def _vector(self, user: int, past: bytes) -> Vectors:
        """(1, D) the vector of a row of the users with a history."""
        items, own = np.frombuffer(past, np.int32), self._rows.shape[1]
        indices = np.zeros((1, own + max(len(items), self._shortest)), np.int64)
        indices[0, :own], indices[0, own : own + len(items)] = self._rows[user], items
        inputs: dict[str, Array] = {"indices": indices}
        if self._numbers is not None:
            inputs["numeric"] = self._numbers[[user]]
        return self._network(inputs)

    def _raw(self, users: pa.Table, items: Ids) -> dict[str, Array]:
        """The raw inputs of users (N,), each with one item (N,) as history, or without any (0,)."""
        sizes = np.full(users.num_rows, min(len(items), 1))
        return raw_columns(self._inputs, users.append_column(HISTORY, list_array(pa.array(items), sizes)))


def _numbers(raw: Mapping[str, Array], names: Sequence[str]) -> Floats:
    """(N, F) the numbers of the named raw inputs of N users."""
    return np.concatenate([raw[name].reshape(len(raw[name]), -1) for name in names], 1, dtype=np.float32)
