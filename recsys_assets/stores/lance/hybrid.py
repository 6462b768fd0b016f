"""The hybrid query of recsys_pipeline on a Lance table: one score from the vector and the terms, without seen items.

In recsys_pipeline one Elasticsearch request adds 0.9 times a similarity of the vectors, (1 + cosine) / 2, for the 200
nearest items, and the constant 0.1 for items with any of the user's terms. Here the similarity is the inner product,
with which the models are trained, and every item gets both parts::

    score = vector_weight * <user's vector, item's vector> + term_weight * (the item has any of the user's terms)

An item that is neither among the k nearest items nor among the k nearest with a matching term cannot be among the k
best, so two exact searches find them all.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.arrays import Vectors
from recsys_assets.datasets.names import TERMS, VECTOR
from recsys_assets.stores.store import KEY

if TYPE_CHECKING:
    from lancedb.table import Table

RECSYS_PIPELINE_WEIGHTS = (0.9, 0.1)  # of the inner product and of a match


def best_items(
    table: "Table",
    vector: Vectors,
    terms: Sequence[str],
    seen: Sequence[str],
    k: int,
    weights: tuple[float, float] = RECSYS_PIPELINE_WEIGHTS,
) -> pa.Table:
    """The k best items of a user: `queryid` and `score`, best first, ties in the order of `queryid`.

    Args:
        table: with the columns `queryid`, `vector` and `terms`.
        vector: (D,) the user's vector.
        terms: the user's terms.
        seen: keys of the items that are left out.
        k: how many items.
        weights: of the inner product, above 0, and of a match, not below 0.

    Raises:
        ValueError: a weight is outside these bounds.
    """
    of_vector, of_term = weights
    if of_vector <= 0 or of_term < 0:
        raise ValueError(
            f"weights {weights}: the first must be above 0 and the second at least 0, or the best are not near"
        )
    unseen = f"{KEY} NOT IN ({sql_texts(seen)})" if seen else "true"
    fitting = f"array_has_any({TERMS}, [{sql_texts(terms)}])" if terms else "false"
    matching = _nearest_rows(table, vector, k, f"{unseen} AND {fitting}")
    both = pa.concat_tables([matching, _nearest_rows(table, vector, k, unseen)])
    keys, places = np.unique(both[KEY].to_numpy(), return_index=True)
    vectors = pc.list_flatten(both[VECTOR]).to_numpy().reshape(-1, len(vector))[places]
    products = (vectors * vector.astype(np.float64)).sum(axis=1)  # equal for equal rows, which BLAS does not promise
    scores = of_vector * products + of_term * (places < len(matching))
    best = np.argsort(-scores, kind="stable")[:k]
    return pa.table({KEY: pa.array(keys[best], pa.string()), "score": scores[best]})


def _nearest_rows(table: "Table", vector: Vectors, k: int, where: str) -> pa.Table:
    """Keys and vectors of the k rows that fit `where` with the highest inner product, and of all ties with the last."""
    search: Any = table.search(vector, VECTOR)  # LanceDB's type hints do not say that this is a vector search
    search = search.distance_type("dot").where(where, prefilter=True).select([KEY, VECTOR, "_distance"])
    limit = k + 1
    while True:
        found = search.limit(limit).to_arrow()
        distances = found["_distance"].to_numpy()
        if len(found) < limit or distances[k - 1] < distances[-1]:
            return found
        limit *= 2


def sql_texts(values: Sequence[str]) -> str:
    """Texts as a list of SQL literals, separated by commas."""
    return ", ".join("'" + value.replace("'", "''") + "'" for value in values)
