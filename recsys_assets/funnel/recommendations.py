"""The final lists as a table: for each user, the items, their scores, and the channels that listed them."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from recsys_assets.arrays import Bools, Ints, is_among, list_array
from recsys_assets.funnel.model import Ranked
from recsys_assets.retrieval.interactions import Interactions, Queries
from recsys_assets.retrieval.lists import Lists


def table(interactions: Interactions, queries: Queries, channels: Mapping[str, Lists], final: Ranked) -> pa.Table:
    """One row for each query: `user_id`, and `items`, best first.

    An item has its `item_id`, its final `score`, its `recall` score as a candidate, its `probability` of being liked
    (missing without a ranker), and `channels`, the names of the channels that list it.
    """
    items = final.lists.items
    listed = items >= 0
    entries = {
        "item_id": pa.array(interactions.item_ids[items[listed]]),
        "score": pa.array(final.lists.scores[listed], pa.float32()),
        "recall": pa.array(final.candidate_scores[listed], pa.float32()),
        "probability": pa.array(final.probabilities[listed], pa.float32(), from_pandas=True),
        "channels": _sources(channels, items, listed),
    }
    of_user = pa.StructArray.from_arrays(list(entries.values()), names=list(entries))
    users = interactions.user_ids[queries.users]
    return pa.table({"user_id": users, "items": list_array(of_user, listed.sum(axis=1))})


def _sources(channels: Mapping[str, Lists], items: Ints, listed: Bools) -> pa.ListArray:
    """The channels of each listed item, in the order of `channels`."""
    held = np.stack([_holds(channel.items, items)[listed] for channel in channels.values()], axis=1)
    return list_array(pa.array(list(channels)).take(pa.array(np.nonzero(held)[1])), held.sum(axis=1))


def _holds(channel: Ints, items: Ints) -> Bools:
    """(N, L) whether each item of N lists is in the channel's list (N, K) for the same query."""
    row, width = np.arange(len(items))[:, None], 2 + max(int(items.max(initial=0)), int(channel.max(initial=0)))
    return is_among(row * width + items, row * width + channel)
