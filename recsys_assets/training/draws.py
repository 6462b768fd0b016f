"""Negatives for two-tower models: what a batch's positives are set against."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from recsys_assets.models.towers import Batch, Negatives
from recsys_assets.retrieval.negatives import alias_table, popularity
from recsys_assets.training.config import ConfigError, RecallTraining
from recsys_assets.training.tower_data import TowerData

# An item that is never drawn can only be a row's own target: any finite correction will do.
_RAREST = np.log(1e-12)


class Draws:
    """Draws negatives as `RecallTraining.negatives` says.

    Raises:
        ConfigError: `table` is asked for, and there are no weights.
    """

    def __init__(
        self, training: RecallTraining, data: TowerData, weights: tuple[pa.Array, npt.NDArray[np.float32]] | None
    ) -> None:
        items = len(data.catalogue)
        self.kind = training.negatives
        if self.kind == "auto":
            self.kind = "all" if items <= training.whole_catalogue else "table"
        self.training = training
        events = data.interactions
        positives = data.tokens[(events.parts == 0) & (events.labels > 0)]
        if self.kind == "table":
            if weights is None:
                raise ConfigError("negatives: table needs the weights of `negative_items`")
            shares = _by_token(data, *weights)
        else:
            counts = np.bincount(positives, minlength=items + 1)[1:]
            powers = {"uniform": 0.0, "in_batch": 1.0}
            shares = popularity(counts, powers[self.kind]) if self.kind in powers else popularity(counts)
        self.table = alias_table(shares)
        log_share = np.maximum(self.table.log_probability, _RAREST)
        self.log_share = torch.from_numpy(np.append(0.0, log_share)).float()

    def negatives(self, batch: Batch, rng: np.random.Generator) -> Negatives | None:
        """Those of one batch, on its device."""
        if self.kind == "all":
            return None
        device = batch.users.device
        tokens: Tensor = batch.targets[batch.targets > 0]
        if self.kind != "in_batch":
            tokens = torch.from_numpy(self.table.draw(rng, self.training.sampled) + 1).to(device)
        return Negatives(tokens, (self.log_share + np.log(len(tokens))).to(device))


def _by_token(data: TowerData, ids: pa.Array, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The table's weight of each token; 0 for an item that it lacks."""
    shares = np.zeros(len(data.catalogue) + 1)
    numbers = pc.index_in(ids, value_set=pa.array(data.interactions.item_ids, ids.type))
    known = pc.is_valid(numbers).to_numpy(zero_copy_only=False)
    shares[data.token_of[numbers.drop_null().to_numpy()]] = weights[known]
    return shares[1:]
