"""Cold items of a release: those of the items' table that no event names, which no other channel can list.

An item leaves the fresh rows when it is a day old. If nobody has touched it by then, it is one of these. Their vectors
are those of `emb_<model>_item`, which a model that needs no events (`Model.cold`) has for every item of the table.
"""

from collections.abc import Collection, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.arrays import Ints, Vectors
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.features.raw import rows_of
from recsys_assets.retrieval import embeddings
from recsys_assets.retrieval.lists import top_k
from recsys_assets.serving.engine import Engine


class Cold:
    """C cold items.

    Args:
        ids: (C,) their ids.
        vectors: (C, D).
        items: the items' table.

    Attributes:
        places: the places of the items among the vectors, by key.
    """

    def __init__(self, ids: pa.Array, vectors: Vectors, items: pa.Table) -> None:
        self._keys, self._vectors = [str(each) for each in ids.to_pylist()], vectors
        self._rows = rows_of(items, "item_id", ids)
        self.places = {key: place for place, key in enumerate(self._keys)}

    def nearest(self, vector: Vectors, k: int, barred: Collection[str], hidden: Ints) -> tuple[list[str], list[float]]:
        """Keys and inner products of the k items with the highest products with a vector (D,), the first of equals.

        Args:
            vector: of a user.
            k: the most items.
            barred: keys of items that are left out, and of others.
            hidden: (H,) places of items that are left out too.
        """
        scores = self._vectors @ vector
        scores[hidden] = -np.inf
        scores[[self.places[key] for key in barred if key in self.places]] = -np.inf
        found = top_k(scores[None], k)
        there = found.items[0] >= 0
        return [self._keys[place] for place in found.items[0][there].tolist()], found.scores[0][there].tolist()

    def rows(self, keys: Sequence[str]) -> pa.Table:
        """The rows of items in the items' table."""
        return self._rows.take(pa.array([self.places[key] for key in keys], pa.int64()))


def cold_items(engine: Engine) -> Cold | None:
    """The cold items of a release with vectors of the model of fresh items; None if there are none."""
    partitions = engine.funnel.inputs.partitions
    if (made := partitions.get(f"emb_{engine.fresh_model}_item")) is None:
        return None
    ids, vectors = embeddings.read(made.path(ROWS))
    cold = ~np.isin(ids.to_numpy(zero_copy_only=False), engine.log.item_ids)
    if not cold.any():
        return None
    return Cold(ids.filter(pa.array(cold)), vectors[cold], pq.read_table(partitions["items"].path(ROWS)))
