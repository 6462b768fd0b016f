"""Probabilities of the served model: its network on encoded rows, or on pairs from the two feature snapshots.

Two batches are scored at a time, with one thread each: on 2 busy cores, 1.8 * 10^6 rows of DeepFM took 3.5 s this way,
and 7.2 s in a session of two threads. Making the rows took about 9 s.
"""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys_assets.arrays import Doubles, Ints, Scores, runs, slices
from recsys_assets.datasets.names import DRAW_LOG_LEFT, DRAW_LOG_RATE
from recsys_assets.features.feed import Feed, Inputs, network_inputs
from recsys_assets.features.pair_data import ItemSnapshot, Pairs, UserSnapshot
from recsys_assets.features.pair_features import pair_numbers
from recsys_assets.features.schema import FeatureSchema, encode
from recsys_assets.funnel.network import Network, read_network
from recsys_assets.funnel.one_user import of_one_user
from recsys_assets.lake import Lake
from recsys_assets.manifest import Partition
from recsys_assets.models.catalogue import DESCRIPTION
from recsys_assets.ranking.champion import Champion
from recsys_assets.ranking.correction import CORRECTION, Correction

PLAIN = Correction()
Elsewhere = Callable[[Inputs], Scores | None]  # scores rows of one user in another process; None: it could not
THREADS = 2
ONNX_BATCH = 4096  # rows per call of the ONNX file
PAIRS_AT_ONCE = 2**16  # pairs made at once: 60 MB of features


class NotTheChampion(RuntimeError):
    """The files of a champion are not those that it was chosen with; the message says which and what to do."""


class Scorer:
    """A ranking model as a service uses it: an ONNX file, the schema of the rows that it takes, and its correction.

    Attributes:
        elsewhere: scores rows of one user before the file is asked; None: nothing does.

    Raises:
        NotTheChampion: the file was exported under a different schema.
    """

    def __init__(self, path: Path, schema: FeatureSchema, correction: Correction = PLAIN) -> None:
        self.schema, self.correction, self._model = schema, correction, read_network(path)
        self._of_one_user = Network(of_one_user(self._model, schema))
        self.elsewhere: Elsewhere | None = None
        exported = self._of_one_user.about["schema_fingerprint"]
        if exported != schema.fingerprint:
            raise NotTheChampion(
                f"{path} was exported under feature schema {exported[:12]}, not {schema.fingerprint[:12]}: "
                "materialize it again"
            )

    @cached_property
    def _network(self) -> Network:
        return Network(self._model)

    def __call__(self, rows: pa.Table) -> Scores:
        """(N,) probability of a positive for each row of raw columns; extra columns are ignored."""
        with ThreadPoolExecutor(THREADS) as pool:
            parts = pool.map(
                lambda first: self.at_once(rows.slice(first, ONNX_BATCH)), range(0, rows.num_rows, ONNX_BATCH)
            )
            return np.concatenate([np.empty(0, np.float32), *parts])

    def pairs(self, users: pa.Table, items: ItemSnapshot, user: Ints, item: Ints) -> Scores:
        """(N,) probability of a positive for pairs of a user and an item; corrected if items have `draw_log_rate`.

        Args:
            users: `user_features`.
            items: `item_features`, of all items.
            user: (N,) places among the rows of `users`, ascending.
            item: (N,) places among the rows of `items`.
        """
        feed, snapshot = Feed(self.schema, items.table), UserSnapshot.of(users, items)
        encoded, unknown = feed.users(users), feed.moments({}, 1)

        def score(rows: slice) -> Scores:
            block = Pairs(snapshot, items, user[rows], item[rows])
            return self.run(feed(encoded[block.user], block.item, pair_numbers(block), unknown))

        with ThreadPoolExecutor(THREADS) as pool:
            found = np.concatenate([np.empty(0, np.float32), *pool.map(score, slices(len(user), PAIRS_AT_ONCE))])
        rates = log_draw_rates(log_draw_left(users), items, user, item)
        return found if rates is None else self.correction(found, rates)

    def at_once(self, rows: pa.Table) -> Scores:
        """(N,) the same as a call, on the calling thread."""
        return self.run(network_inputs(encode(self.schema, rows)))

    def run(self, inputs: Inputs) -> Scores:
        """(N,) probability of a positive for inputs of the network, on the calling thread."""
        parts = [np.empty(0, np.float32)]
        for rows in slices(len(inputs["indices"]), ONNX_BATCH):
            parts.append(self._network({name: column[rows] for name, column in inputs.items()}))
        return np.concatenate(parts)

    def by_user(self, inputs: Inputs, user: Ints) -> Scores:
        """(N,) the same as `run` for rows of users (N,), ascending: each user's rows by the network for one user."""
        parts = [np.empty(0, np.float32)]
        for rows in runs(user):
            parts.append(self._one_user({name: column[rows] for name, column in inputs.items()}))
        return np.concatenate(parts)

    def _one_user(self, inputs: Inputs) -> Scores:
        found = self.elsewhere(inputs) if self.elsewhere else None
        return self._of_one_user(inputs) if found is None else found


def log_draw_left(users: pa.Table) -> Doubles | None:
    """(U,) the logarithm of the share of draws that a user's seen items leave; None if no negatives were drawn."""
    left: Doubles | None = users[DRAW_LOG_LEFT].to_numpy() if DRAW_LOG_LEFT in users.column_names else None
    return left


def log_draw_rates(left: Doubles | None, items: ItemSnapshot, user: Ints, item: Ints) -> Doubles | None:
    """(N,) the logarithm of how often the item was drawn as a negative for the user; None if none were drawn.

    Args:
        left: (U,) see `log_draw_left`.
        items: `item_features`.
        user: (N,) rows of the users.
        item: (N,) rows of the items.
    """
    if left is None or DRAW_LOG_RATE not in items.table.column_names:
        return None
    rates: Doubles = items.draw_rates[item] - left[user]
    return rates


def open_champion(lake: Lake, champion: Champion) -> tuple[Scorer, list[Partition]]:
    """The champion's model, and the partitions that it was read from: `onnx_<model>` and `rank_<model>`.

    Raises:
        PartitionMissing, PartitionDamaged: one of them is missing, or not whole.
        NotTheChampion: the ONNX file was made again after the choice, or does not fit the ranker.
    """
    onnx, ranker = (lake.read(asset, champion.bizdate) for asset in (champion.asset, f"rank_{champion.model}"))
    file = Path(champion.path).name
    if onnx.manifest.files.get(file) != champion.sha256:
        raise NotTheChampion(
            f"{onnx.folder / file} is not the file that was chosen: materialize rank_champion {champion.bizdate} again"
        )
    return open_ranker(onnx, ranker, file), [onnx, ranker]


def open_ranker(onnx: Partition, ranker: Partition, file: str) -> Scorer:
    """The model of a file of `onnx_<model>`, with the schema and the correction of `rank_<model>`.

    Raises:
        NotTheChampion: the ONNX file does not fit the ranker.
    """
    content = json.loads(ranker.path(DESCRIPTION).read_text(encoding="utf-8"))
    schema = FeatureSchema.from_json(json.dumps(content["schema"]))
    correction = Correction.read(ranker.path(CORRECTION)) if CORRECTION in ranker.manifest.files else PLAIN
    return Scorer(onnx.path(file), schema, correction)
