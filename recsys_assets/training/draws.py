"""Negative sampling for two-tower models: the items that a batch's positives are contrasted with."""

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from recsys_assets.arrays import Doubles
from recsys_assets.models.config import ConfigError, NegativesKind, RecallTraining
from recsys_assets.models.towers import Batch, Negatives
from recsys_assets.retrieval.negatives import alias_table, popularity
from recsys_assets.retrieval.weighted_items import WeightedItems, integer_ids
from recsys_assets.training.tower_data import TowerData

# An item that is never drawn can only be a row's own target, so any finite correction will do.
_RAREST = np.log(1e-12)


class Draws:
    """Draws negatives as `RecallTraining.negatives` says.

    Raises:
        ConfigError: `table` is wanted, but there are no weights.
    """

    def __init__(self, training: RecallTraining, data: TowerData, table: WeightedItems | None) -> None:
        self.kind, self.number = training.negatives, training.sampled
        if self.kind == "auto":
            self.kind = "all" if len(data.catalogue) <= training.whole_catalogue else "table"
        if self.kind != "all":
            weights = _table_weights(data, table) if self.kind == "table" else _event_weights(data, self.kind)
            self.table = alias_table(weights)
            log_share = np.maximum(self.table.log_probability, _RAREST)
            self.log_share = torch.from_numpy(np.append(0.0, log_share)).float()

    def negatives(self, batch: Batch, rng: np.random.Generator) -> Negatives | None:
        """The negatives of one batch, on its device; None for the whole catalogue."""
        if self.kind == "all":
            return None
        device = batch.users.device
        tokens: Tensor = batch.targets[batch.targets > 0]
        if self.kind != "in_batch":
            tokens = torch.from_numpy(self.table.draw(rng, self.number) + 1).to(device)
        return Negatives(tokens, (self.log_share + np.log(len(tokens))).to(device))


def _event_weights(data: TowerData, kind: NegativesKind) -> Doubles:
    """(V,) the weight of each token's item, from its number of positive train rows."""
    events = data.interactions
    positives = data.tokens[(events.parts == 0) & (events.labels > 0)]
    counts = np.bincount(positives, minlength=len(data.catalogue) + 1)[1:]
    powers = {"uniform": 0.0, "in_batch": 1.0}
    return popularity(counts, powers[kind]) if kind in powers else popularity(counts)


def _table_weights(data: TowerData, table: WeightedItems | None) -> Doubles:
    """(V,) the table's weight of each token's item; 0 if the table lacks it."""
    if table is None:
        raise ConfigError("negatives: table needs the weights of `negative_items`")
    ids = integer_ids(pa.array(data.interactions.item_ids), hash_text=True)
    order = np.argsort(table.ids, kind="stable")
    place = order[np.minimum(np.searchsorted(table.ids, ids, sorter=order), len(order) - 1)]  # (items,)
    weights = np.where(table.ids[place] == ids, table.weights[place], 0.0)
    shares: Doubles = np.zeros(len(data.catalogue) + 1)
    shares[data.token_of] = weights
    return shares[1:]
