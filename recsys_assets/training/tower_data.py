"""Events for two-tower models: users and items are encoded once, histories are slices, batches are taken by index."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from recsys_assets.arrays import Array, Bools, Ints, blocks, place_in_group
from recsys_assets.datasets.names import HISTORY
from recsys_assets.datasets.splits import PARTS
from recsys_assets.declined import NothingToLearn
from recsys_assets.features.raw import rows_of
from recsys_assets.features.schema import Encoded, FeatureSchema, encode
from recsys_assets.models.towers import Batch, TwoTower
from recsys_assets.retrieval.interactions import Interactions


@dataclass(frozen=True)
class TowerData:
    """M events of U users on one device.

    Attributes:
        interactions: the events; users and items by number.
        tokens: (M,) token of each event's item, 0 for an item that the schema does not know.
        token_of: (I,) token of each item number.
        users: (U, user columns without the history) encoded features of each user number.
        items: (I, item columns) encoded features of each item number.
        catalogue: (V, item columns) encoded features of the item of each token, from token 1.
        first_past: index of token 1 in the history feature.
    """

    interactions: Interactions
    tokens: Ints
    token_of: Ints
    users: Tensor
    items: Tensor
    catalogue: Tensor
    first_past: int

    def user_indices(self, users: Ints, starts: Ints, ends: Ints, length: int) -> Tensor:
        """Indices (N, user columns) for the user tower: histories `[start, end)` cut to their newest `length`."""
        starts = np.maximum(starts, ends - length)
        width = max(1, int((ends - starts).max(initial=0)))
        past = _windows(self.tokens, starts, ends, width)  # (N, width)
        indices = np.where(past > 0, past + (self.first_past - 1), 0).astype(np.int32)
        numbers = torch.as_tensor(users, device=self.users.device)
        return torch.cat([self.users[numbers], torch.from_numpy(indices).to(self.users.device)], 1)


def load(model: TwoTower, interactions: Interactions, users: pa.Table, items: pa.Table) -> TowerData:
    """Encode the features of all users and items in the events, on the device of the model.

    `users` and `items` are the tables with their keys and features; rows that are in no event are skipped.
    """
    vocabulary = pa.array(item_vocabulary(model))
    found = pc.index_in(pa.array(interactions.item_ids).cast(vocabulary.type), value_set=vocabulary)
    token_of = pc.fill_null(pc.add(found, 1), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    encoded = encode_items(model, items, interactions.item_ids)
    without_history = FeatureSchema(model.user_schema.features[:-1])
    static = taken(encode(without_history, rows_of(users, "user_id", pa.array(interactions.user_ids))))
    return TowerData(
        interactions,
        token_of[interactions.items],
        token_of,
        static.to(encoded.device),
        encoded,
        encode_items(model, items, np.asarray(item_vocabulary(model))),
        model.user_schema.first_row[HISTORY],
    )


def encode_items(model: TwoTower, items: pa.Table, ids: Array) -> Tensor:
    """Inputs (N, item columns) of the item tower for the items of these ids, on the device of the model."""
    found = taken(encode(model.item_schema, rows_of(items, "item_id", pa.array(ids))))
    return found.to(next(model.parameters()).device)


def taken(rows: Encoded) -> Tensor:
    """Encoded rows as the input of a tower: int32 indices, or float64 numbers and then indices if it takes numbers."""
    if not rows.numeric.shape[1]:
        return torch.from_numpy(rows.indices)
    return torch.from_numpy(np.concatenate([rows.numeric, rows.indices], 1, dtype=np.float64))


def item_vocabulary(model: TwoTower) -> list[int] | list[str]:
    """Ids of the items that a model knows, in the order of their tokens."""
    return next(feature for feature in model.item_schema.features if feature.name == "item_id").vocabulary


def targets_of(data: TowerData, part: str, labelled: bool) -> Bools:
    """(M,) the events of a part that a model learns to predict: the positives, or all if it learns labels.

    Raises:
        NothingToLearn: there is none, or labels are to be learned from train rows that all have the same.
    """
    events = data.interactions
    wanted: Bools = (events.parts == PARTS.index(part)) & (data.tokens > 0)
    if not labelled:
        wanted &= events.labels > 0
    if not wanted.any():
        what = "row" if labelled else "positive"
        raise NothingToLearn(
            f"no {part} {what} has an item of the vocabulary: land more days, or widen the {part} part"
        )
    if labelled and part == "train" and np.ptp(events.labels[wanted]) == 0:
        raise NothingToLearn(
            f"every train row has label {events.labels[wanted][0]}: a model that learns labels needs positives and "
            "negatives to learn from"
        )
    return wanted


def event_batches(data: TowerData, wanted: Bools, history: int, size: int, rng: np.random.Generator) -> Iterator[Batch]:
    """Each wanted event once, in a new random order, with the history before it."""
    events = data.interactions
    starts = np.searchsorted(events.users, events.users)  # (M,) the first event of each event's user
    for rows in blocks(rng.permutation(np.flatnonzero(wanted)), size):
        users = data.user_indices(events.users[rows], starts[rows], rows, history)
        yield _batch(data, users, data.tokens[rows], events.labels[rows])


def window_batches(
    data: TowerData, wanted: Bools, history: int, size: int, rng: np.random.Generator
) -> Iterator[Batch]:
    """Windows of `history` places that cover every wanted event, with a target at each place if it is wanted.

    A long history is cut at a different place each time, so that over the epochs every event is predicted after
    short and long contexts. A batch holds windows whose lengths differ by less than 16, which saves most of the
    padding: on a small log, where one batch would hold all histories, an epoch takes a quarter of the time.
    """
    events = data.interactions
    starts, ends = _tiles(events.users, wanted, history, rng)
    targets = np.where(wanted, data.tokens, 0)
    lengths = ends - starts
    about = lengths // 16
    order = np.lexsort((rng.random(len(starts)), about))
    alike = np.split(order, np.flatnonzero(np.diff(about[order])) + 1)
    batches = [batch for rows in alike for batch in blocks(rows, size)]
    for rows in (batches[place] for place in rng.permutation(len(batches))):
        users = data.user_indices(events.users[starts[rows]], starts[rows], ends[rows] - 1, history)
        width = int(lengths[rows].max()) - 1
        after = [_windows(column, starts[rows] + 1, ends[rows], width) for column in (targets, events.labels)]
        yield _batch(data, users, *after)


def _tiles(users: Ints, wanted: Bools, history: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Starts and ends of windows, each of one user's events: at most `history`, and the target of the last.

    Together they cover the wanted events. One window of each user ends with the last wanted event. The others end at a
    random place up to `history` events before that, and then every `history` events further back.
    """
    rows = np.flatnonzero(wanted)
    asked, first = np.unique(users[rows], return_index=True)
    begin = np.searchsorted(users, asked)
    low, high = rows[first], rows[np.append(first[1:], len(rows)) - 1] + 1  # (users,) first; end of the last
    cut = high - rng.integers(0, history, len(asked))
    number = np.maximum(-(-(cut - np.maximum(low, begin + 1)) // history), 0)  # (users,) windows before the last
    owner = np.repeat(np.arange(len(asked)), number)  # (windows,)
    step = place_in_group(owner)
    # A history that fits into one window is not cut.
    short = (high - begin <= history + 1)[owner]
    ends = np.concatenate([high, (cut[owner] - step * history)[~short]])
    starts = np.maximum(np.concatenate([begin, begin[owner][~short]]), ends - history - 1)
    kept = ends - starts > 1
    return starts[kept], ends[kept]


def _batch(data: TowerData, users: Tensor, targets: Array, labels: Array) -> Batch:
    device = users.device
    return Batch(
        users,
        torch.from_numpy(targets.astype(np.int64)).to(device),
        torch.from_numpy(labels.astype(np.float32)).to(device),
        data.catalogue,
    )


def _windows(values: npt.NDArray[Any], starts: Ints, ends: Ints, width: int) -> npt.NDArray[Any]:
    """(N, width) the values in `[start, end)`, padded with zeros at the end."""
    places = starts[:, None] + np.arange(width)
    return np.where(places < ends[:, None], values[np.minimum(places, len(values) - 1)], 0)
