"""Probabilities of the served model: its ONNX file on raw rows, or on pairs from the two feature snapshots.

Two batches are scored at a time, with one thread each: on 2 busy cores, 1.8 * 10^6 rows of DeepFM took 3.5 s this way,
and 7.2 s in a session of two threads. Making the rows took about 9 s.
"""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from recsys_assets.arrays import Array, Doubles, Ints, Scores, slices
from recsys_assets.datasets.names import DRAW_LOG_LEFT, DRAW_LOG_RATE
from recsys_assets.features.feed import Feed
from recsys_assets.features.pair_data import ItemSnapshot, Pairs
from recsys_assets.features.pair_features import pair_numbers
from recsys_assets.features.raw import raw_inputs
from recsys_assets.features.schema import FeatureSchema
from recsys_assets.lake import Lake
from recsys_assets.manifest import Partition
from recsys_assets.models.catalogue import DESCRIPTION
from recsys_assets.ranking.champion import Champion
from recsys_assets.ranking.correction import CORRECTION, Correction

if TYPE_CHECKING:
    import onnxruntime

PLAIN = Correction()
THREADS = 2
ONNX_BATCH = 4096  # rows per call of the ONNX file
PAIRS_AT_ONCE = 2**16  # pairs made at once: 60 MB of features


class NotTheChampion(RuntimeError):
    """The files of a champion are not those that it was chosen with; the message says which and what to do."""


class Scorer:
    """A ranking model as a service uses it: an ONNX file, the schema of the rows that it takes, and its correction.

    Raises:
        NotTheChampion: the file was exported under a different schema.
    """

    def __init__(self, path: Path, schema: FeatureSchema, correction: Correction = PLAIN) -> None:
        self.schema, self.correction, self._runtime = schema, correction, open_session(path)
        exported = self._runtime.get_modelmeta().custom_metadata_map["schema_fingerprint"]
        if exported != schema.fingerprint:
            raise NotTheChampion(
                f"{path} was exported under feature schema {exported[:12]}, not {schema.fingerprint[:12]}: "
                "materialize it again"
            )

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
        feed = Feed(self.schema, items)

        def score(block: Pairs) -> Scores:
            found, rates = self.run(feed(block, pair_numbers(block), {})), log_draw_rates(block)
            return found if rates is None else self.correction(found, rates)

        with ThreadPoolExecutor(THREADS) as pool:
            return np.concatenate([np.empty(0, np.float32), *pool.map(score, pair_blocks(users, items, user, item))])

    def at_once(self, rows: pa.Table) -> Scores:
        """(N,) the same as a call, on the calling thread."""
        return self.run(raw_inputs(self.schema, rows))

    def run(self, feed: Mapping[str, Array]) -> Scores:
        """(N,) probability of a positive for inputs of the ONNX file, on the calling thread."""
        parts = [np.empty(0, np.float32)]
        for rows in slices(len(next(iter(feed.values()))), ONNX_BATCH):
            parts.extend(self._runtime.run(["score"], {name: column[rows] for name, column in feed.items()}))
        return np.concatenate(parts)


def log_draw_rates(pairs: Pairs) -> Doubles | None:
    """(N,) the logarithm of how often the item was drawn as a negative for the user; None if none were drawn."""
    if DRAW_LOG_RATE not in pairs.items.table.column_names:
        return None
    of_item, of_user = pairs.items.table[DRAW_LOG_RATE].to_numpy(), pairs.users[DRAW_LOG_LEFT].to_numpy()
    rates: Doubles = of_item[pairs.item] - of_user[pairs.user]
    return rates


def pair_blocks(users: pa.Table, items: ItemSnapshot, user: Ints, item: Ints) -> Iterator[Pairs]:
    """The pairs of places among the rows of users (N,), ascending, and of items (N,), `PAIRS_AT_ONCE` at a time."""
    for rows in slices(len(user), PAIRS_AT_ONCE):
        first, last = user[rows][0], user[rows][-1]
        yield Pairs(users.slice(first, last - first + 1), items, user[rows] - first, item[rows])


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
    content = json.loads(ranker.path(DESCRIPTION).read_text(encoding="utf-8"))
    schema = FeatureSchema.from_json(json.dumps(content["schema"]))
    correction = Correction.read(ranker.path(CORRECTION)) if CORRECTION in ranker.manifest.files else PLAIN
    return Scorer(onnx.path(file), schema, correction), [onnx, ranker]


def open_session(path: Path) -> "onnxruntime.InferenceSession":
    """An onnxruntime session of the file, on one thread of the CPU, which does not spin while it waits."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
