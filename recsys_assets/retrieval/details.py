"""The details of an evaluation: each query's list and hits as a row, in the columns of TorchEasyRec's tool.

`id`: the user; `topk_ids`, `topk_dists`: the list, best first, and its scores; `hitrate`: hits over right
answers; `hit_ids`: the right answers in the list, best first. Ids keep their own type. With successive queries, which
are several per user, `position` says how many events of the user were before.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_assets.arrays import Ints, distinct, find, is_among, list_array, place_in_group
from recsys_assets.datasets.blocks import table_blocks
from recsys_assets.retrieval.interactions import BLOCK, Interactions, Queries
from recsys_assets.retrieval.lists import Lists, history, hits

DETAILS = "details.parquet"


def details(interactions: Interactions, queries: Queries, lists: Lists) -> pa.Table:
    """A row for each query, in their order."""
    listed, hit = lists.items >= 0, hits(lists.items, queries)
    sizes = listed.sum(axis=1)
    ids = pa.array(interactions.item_ids)  # of one type, even where no item is taken
    position = {"position": queries.ends - queries.starts} if queries.successive else {}
    return pa.table(
        {
            "id": interactions.user_ids[queries.users],
            **position,
            "topk_ids": list_array(ids.take(pa.array(lists.items[listed])), sizes),
            "topk_dists": list_array(lists.scores[listed], sizes),
            "hitrate": hit.sum(axis=1) / queries.truth_sizes,
            "hit_ids": list_array(ids.take(pa.array(lists.items[hit])), hit.sum(axis=1)),
        }
    )


def read_items(path: Path, interactions: Interactions, asked: Queries, k: int, size: int = BLOCK) -> Iterator[Ints]:
    """For each block of queries, (n, k) numbers of the first items in the lists of a details file, padded with -1.

    Raises:
        ValueError: the file's rows are not those of the queries.
    """
    other = ValueError(f"{path} belongs to other queries: materialize it again")
    if pq.read_metadata(path).num_rows != len(asked):
        raise other
    rows = len(asked) if asked.successive else size
    for queries, table in zip(asked.blocks(size), table_blocks(path, rows, ["id", "topk_ids"]), strict=True):
        if not np.array_equal(table["id"].to_numpy(), interactions.user_ids[queries.users]):
            raise other
        yield _first_items(table["topk_ids"].combine_chunks(), interactions, k)


def _first_items(lists: pa.ListArray, interactions: Interactions, k: int) -> Ints:
    lengths = pc.list_value_length(lists).to_numpy()
    row = np.repeat(np.arange(len(lengths)), lengths)
    place = place_in_group(row)
    found = find(interactions.item_ids, pc.list_flatten(lists).to_numpy(zero_copy_only=False))
    items = np.full((len(lists), k), -1)
    items[row[place < k], place[place < k]] = found[place < k]
    return items


def faults(interactions: Interactions, queries: Queries, lists: Lists, filter_seen: bool) -> dict[str, int]:
    """Counts of faults: items listed twice, scores that rise, and with `filter_seen` items of the history."""
    width, listed = len(interactions.item_ids), lists.items >= 0
    keys = (np.arange(len(queries))[:, None] * width + lists.items)[listed]
    row, item = history(interactions, queries, slice(0, len(queries)))
    seen = is_among(keys, row * width + item).sum() if filter_seen else 0
    rising = (lists.scores[:, 1:] > lists.scores[:, :-1]).sum()
    return {"listed_twice": len(keys) - len(distinct(keys)), "rising_scores": int(rising), "seen": int(seen)}
