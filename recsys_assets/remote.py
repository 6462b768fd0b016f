"""Partitions on an object store: uploaded under a name of their own, published by their manifest, copied to be read.

An object store replaces one object in one step, but not a folder. So the files of each upload get a folder of their
own, their version: `{asset}/bizdate=YYYY-MM-DD/{version}/…`. The manifest, which names the version, is put last and
replaces the one before in one request. A reader that has either manifest finds all files of its version, whoever else
writes.

A folder named after the content would not do: while one writer removes what it replaced, another may publish the same
content again, and would be left without files. A version is published once, by the upload that it was made for. It is
removed when another is published and its own upload began more than a day ago: until then the upload may not be over,
the request that publishes it may still be on its way, or a reader may have read its manifest. The next publication of
the partition removes such versions, and so does `recsys clean`.
"""

import contextlib
import datetime as dt
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from recsys_assets.datasets.disk import Place, own_folder, writing_to
from recsys_assets.datasets.folders import clear_leftovers, move_in, new_folder
from recsys_assets.manifest import MANIFEST, VERSION, Draft, Manifest, Partition, PartitionDamaged

KEPT = dt.timedelta(days=1)  # how long after the beginning of its upload a version stays in any case
_TIME = "%Y%m%dT%H%M%SZ"  # the order of these texts is that of the times
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_FETCHED = ".fetched"  # prefix of the names of copies that are being fetched


def cache() -> Path:
    """The folder on this machine for copies and drafts of an object store's partitions."""
    return Path(tempfile.gettempdir()) / f"recsys_assets-{os.getuid()}"


def new_version() -> str:
    """The name of an upload that begins now."""
    return f"{dt.datetime.now(dt.UTC):{_TIME}}-{secrets.token_hex(8)}"


def upload(store: Any, draft: Draft, place: str) -> None:
    """Publish a partition at its place in a store (fsspec's file system), and remove what nobody needs any more."""
    for file in draft.manifest.files:
        store.put_file(str(draft.folder / file), f"{place}/{draft.manifest.version}/{file}")
    store.put_file(str(draft.folder / MANIFEST), f"{place}/{MANIFEST}")
    remove(store, unneeded(store.find(place), place, draft.manifest))


def by_partition(files: Iterable[str], base: str) -> dict[str, list[str]]:
    """The files of each partition below a profile's folder, by `asset/bizdate`; others are left out."""
    found: dict[str, list[str]] = {}
    for file in files:
        parts = PurePosixPath(file).relative_to(base).parts
        if len(parts) > 2 and parts[1].startswith("bizdate="):
            found.setdefault(f"{parts[0]}/{parts[1].removeprefix('bizdate=')}", []).append(file)
    return found


def unneeded(files: Iterable[str], place: str, published: Manifest | None) -> Iterator[str]:
    """Those files of a place that belong to no version which is published or may still be needed.

    Args:
        files: all files of the place.
        place: the folder of the partition.
        published: its manifest; None if it has none.
    """
    newest = f"{dt.datetime.now(dt.UTC) - KEPT:{_TIME}}"
    for file in files:
        first = PurePosixPath(file).relative_to(place).parts[0]
        if VERSION.fullmatch(first):
            old = first < newest and not (published and first == published.version)
        else:  # from before there were versions
            old = first != MANIFEST and bool(published and published.version)
        if old:
            yield file


def remove(store: Any, files: Iterable[str]) -> None:
    """Remove files, of which another process may have removed some."""
    for file in files:  # `rm` would read `[` and `*` in a name as a pattern
        with contextlib.suppress(FileNotFoundError):
            store.rm_file(file)


def fetch(store: Any, source: str, manifest: Manifest) -> Partition:
    """A local copy of a partition, cached by its fingerprint.

    Args:
        store: fsspec's file system.
        source: the folder in it that has the files.
        manifest: of the partition.

    Raises:
        PartitionDamaged: its files are not those that its manifest lists.
    """
    if not _FINGERPRINT.fullmatch(manifest.fingerprint):
        raise PartitionDamaged(f"the manifest of {source} has no valid fingerprint: materialize it again")
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
            _copy(store, source, coming)
            move_in(coming.folder, partition.folder)
    finally:
        shutil.rmtree(coming.folder, ignore_errors=True)
    return partition


def _copy(store: Any, source: str, coming: Partition) -> None:
    """Copy a partition's files into a folder, and verify them there."""
    for file in coming.manifest.files:
        target = coming.path(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # `verify` reports it
            store.get_file(f"{source}/{file}", str(target))
    coming.verify()
