"""Partitions on an object store: they are uploaded with the manifest last, and copied to this machine to be read."""

import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from recsys_assets.datasets.disk import Place, own_folder, writing_to
from recsys_assets.datasets.folders import clear_leftovers, move_in, new_folder
from recsys_assets.manifest import MANIFEST, Draft, Manifest, Partition, PartitionDamaged

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_FETCHED = ".fetched"  # prefix of the names of copies that are being fetched


def cache() -> Path:
    """The folder on this machine for copies and drafts of an object store's partitions."""
    return Path(tempfile.gettempdir()) / f"recsys_assets-{os.getuid()}"


def upload(store: Any, draft: Draft, place: str) -> None:
    """Put a partition at its place in a store (fsspec's file system); nobody reads it until its manifest is there."""
    if store.exists(f"{place}/{MANIFEST}"):
        store.rm_file(f"{place}/{MANIFEST}")
    for file in store.find(place):  # `rm` would read `[` and `*` in a name as a pattern
        store.rm_file(file)
    for file in [*draft.manifest.files, MANIFEST]:
        store.put_file(str(draft.folder / file), f"{place}/{file}")


def fetch(store: Any, place: str, manifest: Manifest) -> Partition:
    """A local copy of a partition, cached by its fingerprint.

    Raises:
        PartitionDamaged: its files are not those that its manifest lists.
    """
    if not _FINGERPRINT.fullmatch(manifest.fingerprint):
        raise PartitionDamaged(f"{place}/{MANIFEST} has no valid fingerprint: materialize it again")
    home = own_folder(cache())
    partition = Partition(home / manifest.fingerprint, manifest)
    with contextlib.suppress(PartitionDamaged):
        partition.verify()
        return partition
    temporary = Place("the temporary folder", home, "TMPDIR")
    with writing_to(temporary):
        clear_leftovers(home, _FETCHED)
        coming = Partition(new_folder(home, _FETCHED, manifest.fingerprint), manifest)
    try:
        with writing_to(temporary):
            _copy(store, place, coming)
            move_in(coming.folder, partition.folder)
    finally:
        shutil.rmtree(coming.folder, ignore_errors=True)
    return partition


def _copy(store: Any, place: str, coming: Partition) -> None:
    """Copy a partition's files into a folder, and verify them there."""
    for file in coming.manifest.files:
        target = coming.path(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # `verify` reports it
            store.get_file(f"{place}/{file}", str(target))
    coming.verify()
