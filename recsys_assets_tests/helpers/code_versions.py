"""Data of assets and their code versions in a generated world, compared with a committed snapshot."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.datasets.folders import file_hash
from recsys_assets.datasets.profile import Profile
from recsys_assets.lake import Lake
from recsys_assets.models.catalogue import RANKERS, TOWERS
from recsys_assets_tests.conftest import PROJECT

SNAPSHOT = PROJECT / "recsys_assets_tests" / "snapshots" / "code_versions.txt"
COMMAND = "RECSYS_UPDATE_SNAPSHOTS=1 pytest recsys_assets_tests/assets/test_daily_job.py -k code_version"
# Assets whose bytes depend on the machine; those that are made from them depend on it too.
LEFT_OUT = {
    **{f"rank_{model}": "its training adds floats in the order of threads" for model in RANKERS},
    **{f"recall_{model}": "its training adds floats in the order of threads" for model in TOWERS},
    "touch_model": "its training adds floats in the order of threads",
    "cold_start_report": "it trains models too",
    "i2i_swing": "the last digit of a power depends on the processor",
    "negative_items": "the last digit of a power depends on the processor",
}


class Record(NamedTuple):
    """One line of the snapshot: the code version, and hashes of what the partition was made from and of its data."""

    code_version: str
    made_from: str
    data: str


class Records:
    """The records of a world; the column of true probabilities is ignored, as its last digits depend on the machine."""

    def __init__(self, lake: Lake, profile: Profile) -> None:
        self._lake, self._profile = lake, profile

    def of(self, assets: Iterable[str], day: str) -> dict[str, Record]:
        """The record of each asset's partition of a day."""
        return {asset: self._record(asset, day) for asset in sorted(assets)}

    def _record(self, asset: str, day: str) -> Record:
        """An input counts with its data alone, so that a raised code version asks for no other to be raised."""
        manifest = self._lake.manifest(asset, day)
        landed = {path: self._file_hash(self._profile.landing / path) for path in manifest.config.get("landed", ())}
        inputs = {name: self._data_hash(*name.split("/")) for name in manifest.upstream}
        config = {**manifest.config, "landed": landed}
        config.pop("known", None)  # a checksum of the rows of `splits`, with the column that is ignored
        made_from = _hash({"config": config, "seed": manifest.seed, "inputs": inputs})
        return Record(manifest.code_version, made_from, self._data_hash(asset, day))

    def _data_hash(self, asset: str, day: str) -> str:
        partition = self._lake.read(asset, day)
        return _hash({file: self._file_hash(partition.path(file)) for file in partition.manifest.files})

    def _file_hash(self, path: Path) -> str:
        oracle = self._profile.oracle
        if path.suffix != ".parquet" or oracle not in pq.read_schema(path).names:
            return file_hash(path)
        sink = pa.BufferOutputStream()
        pq.write_table(pq.read_table(path).drop_columns([oracle]), sink)
        return hashlib.sha256(sink.getvalue()).hexdigest()


def unraised(before: dict[str, Record], now: dict[str, Record]) -> list[str]:
    """Assets that have other data than in the snapshot, although the same version made them from the same."""
    both = [(asset, before[asset], found) for asset, found in now.items() if asset in before]
    return [asset for asset, old, new in both if old[:2] == new[:2] and old.data != new.data]


def read_snapshot() -> dict[str, Record]:
    lines = SNAPSHOT.read_text(encoding="utf-8").splitlines() if SNAPSHOT.exists() else []
    return {asset: Record(*fields) for asset, *fields in map(str.split, lines)}


def write_snapshot(records: dict[str, Record]) -> None:
    lines = (" ".join((asset, *found)) for asset, found in sorted(records.items()))
    SNAPSHOT.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
