"""The lake: one folder for each partition, written under a hidden name next to its place and then moved in.

`{lake}/{profile}/{asset}/bizdate=YYYY-MM-DD/` holds data files and a `manifest.json` that describes them.
A reader sees the old partition or the new one, never a partial one. On a local file system the new folder is
exchanged with the old one in a single system call. On an object store each upload has a folder of its own, and the
manifest, which names it, replaces the old one in a single request (`remote`).

A power cut also leaves either the old partition or the new one. On a local file system this is the order: all files are
written; each of them, including the manifest, is synced, then the folders that hold them; the folders are exchanged;
the asset's folder is synced; the old partition is removed last.
"""

import contextlib
import errno
import functools
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO

from recsys_assets import remote
from recsys_assets.datasets.disk import Place, own_folder, private_folder, sync, sync_all, sync_tree, writing_to
from recsys_assets.datasets.folders import clear_leftovers, file_hash, identity, move_in, new_folder
from recsys_assets.datasets.identity import Identity, OtherDataset, check_same, identify, mark
from recsys_assets.datasets.profile import Profile
from recsys_assets.lake_place import LakePlace
from recsys_assets.lineage import Lineage
from recsys_assets.manifest import (
    MANIFEST,
    Draft,
    GateNotPassed,
    Manifest,
    Partition,
    PartitionDamaged,
    PartitionMissing,
    PartitionOutdated,
    PartitionReplaced,
    describe_outdated,
)

REMOVED = ".removed"  # the folder of manifests whose partitions were removed
READINGS = 10  # how often a partition that is replaced while it is read is read again


class Lake:
    """Partitions of one profile under a root folder or fsspec URL.

    `dataset` identifies their data set, if the lake was opened with `of`; it is recorded with the first partition.
    `owner` is the data set's mark on stores and experiments.
    """

    dataset: Identity | None = None
    owner: str = ""

    def __init__(self, root: str, profile: str) -> None:
        self.profile = profile
        self._place = LakePlace(root, profile)

    @classmethod
    def of(cls, root: str, profile: Profile) -> "Lake":
        """The lake of a profile.

        Raises:
            OtherDataset: it holds a different data set of that name.
        """
        lake = cls(root, profile.name)
        lake.dataset = identify(profile, lake._place.local_folder)
        if held := lake._place.read_dataset():
            check_same(lake.folder, held, lake.dataset)
            lake.dataset = held
        lake.owner = mark(lake.dataset, profile)
        return lake

    @property
    def folder(self) -> str:
        """Folder or URL of the profile's partitions."""
        return self._place.folder

    def adopt(self, profile: Profile) -> Identity:
        """Accept the profile as a new description of the data set that the lake holds; returns that data set."""
        described = identify(profile, self._place.local_folder)
        try:
            held = self._place.read_dataset() or described
        except OtherDataset:  # its record is unreadable: the user states that it is this data set
            held = described
        self.dataset = held.with_tables_of(described)
        self.owner = mark(self.dataset, profile)
        self._place.record_dataset(self.dataset)
        return self.dataset

    def location(self, asset: str, bizdate: str) -> str:
        """Folder or URL of a partition for messages, whether it exists or not."""
        return self._place.location(asset, bizdate)

    def bizdates(self, asset: str) -> list[str]:
        """Bizdates of the asset's published partitions, in order."""
        folder = f"{self._place.base}/{asset}"
        with self._place.name_errors():
            if self._place.is_local:
                found = [place.parent.name for place in Path(folder).glob(f"bizdate=*/{MANIFEST}")]
            else:
                self._place.fs.invalidate_cache()
                # Without a glob pattern: the lake's own name may look like one. Without a depth: a store lists 1,000
                # files in a request, but with a depth s3fs lists each partition in a request of its own.
                files = [str(path).rsplit("/", 3)[1:] for path in self._place.fs.find(folder)]
                found = [day for above, day, file in files if (above, file) == (asset, MANIFEST)]
        return sorted(name.removeprefix("bizdate=") for name in found if name.startswith("bizdate="))

    def partitions(self) -> list[tuple[str, str]]:
        """Asset and bizdate of every partition's folder, in order, including one that has lost its manifest."""
        folders = [
            (asset, name) for asset in self.assets() for name in self._place.folders(f"{self._place.base}/{asset}")
        ]
        return [(asset, name.removeprefix("bizdate=")) for asset, name in folders if name.startswith("bizdate=")]

    def assets(self) -> list[str]:
        """Names of the assets that have a folder in the lake, in order."""
        return [name for name in self._place.folders(self._place.base) if not name.startswith(".")]

    def manifest(self, asset: str, bizdate: str) -> Manifest:
        """The manifest of a partition; its files are not checked.

        Raises:
            PartitionMissing: it was never published.
            PartitionDamaged: its manifest cannot be read.
        """
        place = self.location(asset, bizdate)
        with self._place.name_errors():
            try:
                text = self._place.fs.cat_file(f"{self._place.partition(asset, bizdate)}/{MANIFEST}")
            except FileNotFoundError:
                raise PartitionMissing(
                    f"{asset} has no partition for {bizdate} ({place}): "
                    f"run `recsys materialize +{asset} --bizdate {bizdate}`"
                ) from None
        try:
            return _parse(text)
        except (ValueError, TypeError) as error:
            raise PartitionDamaged(
                f"{place}/{MANIFEST} cannot be read ({error}): run `recsys materialize {asset} --bizdate {bizdate}`"
            ) from error

    def read(self, asset: str, bizdate: str) -> Partition:
        """The partition, verified and local to this machine (one on an object store is fetched first).

        A later run may replace it while it is being read: call `is_current` after reading.

        Raises:
            PartitionMissing: it was never published.
            PartitionDamaged: its files are not those that its manifest lists.
            PartitionReplaced: it was replaced during each of `READINGS` attempts.
        """
        for _ in range(READINGS):
            manifest = self.manifest(asset, bizdate)
            try:
                return self._open(manifest) if self._place.is_local else self._fetch(manifest)
            except PartitionDamaged:
                if self.manifest(asset, bizdate) == manifest:
                    raise  # otherwise it has been replaced meanwhile: read the new one
        raise PartitionReplaced(
            f"{self.location(asset, bizdate)} was replaced {READINGS} times while it was being read: "
            "find out which runs publish it again and again"
        )

    def read_sound(self, asset: str, bizdate: str, lineage: Lineage | None = None) -> Partition:
        """The same, if others may build on it; those that are read together may share a lineage.

        Raises:
            PartitionMissing, PartitionDamaged: see `read`.
            GateNotPassed: it failed a blocking check, in this run or an earlier one.
            PartitionOutdated: something that it was built from has been materialized again since.
        """
        partition = self.read(asset, bizdate)
        if failed := partition.manifest.failed_checks:
            raise GateNotPassed(
                f"{asset} {bizdate} failed {', '.join(failed)}: see the check in the UI, "
                f"fix its cause and materialize {asset} again"
            )
        self.refuse_outdated(partition.manifest, lineage)
        return partition

    def is_current(self, partition: Partition) -> bool:
        """Whether neither the partition nor anything that it was made from has changed since it was read."""
        return self.is_in_place(partition) and not self.outdated_inputs(partition.manifest)

    def is_in_place(self, partition: Partition) -> bool:
        """Whether the partition is the one that was read, and was never replaced in between.

        A copy of a partition on an object store has no identity: its fingerprint alone is compared.
        """
        manifest = partition.manifest
        at_its_place = self._identity(manifest) if partition.identity else None
        unchanged = not self.changed_partitions({manifest.name: manifest.fingerprint})
        return at_its_place == partition.identity and unchanged

    def outdated_inputs(self, manifest: Manifest) -> list[str]:
        """Direct and indirect inputs that changed since the partition was made (`Lineage.outdated_inputs`)."""
        return Lineage(self).outdated_inputs(manifest)

    def refuse_outdated(self, manifest: Manifest, lineage: Lineage | None = None) -> None:
        """Check that nothing that the partition was made from has changed since; see `read_sound`.

        Raises:
            PartitionOutdated: one of its direct or indirect inputs has.
        """
        if outdated := (lineage or Lineage(self)).outdated_inputs(manifest):
            raise PartitionOutdated(describe_outdated(manifest, outdated))

    def fingerprints(self, asset: str, bizdates: Iterable[str]) -> dict[str, str]:
        """Fingerprints of the asset's existing partitions, by `asset/bizdate`."""
        found = self.manifests(f"{asset}/{day}" for day in bizdates)
        return {name: manifest.fingerprint for name, manifest in found.items()}

    def changed_partitions(self, upstream: Mapping[str, str]) -> list[str]:
        """Names of those partitions, given with their fingerprints, that no longer have them."""
        now = self.manifests(upstream)
        return [name for name, before in upstream.items() if name not in now or now[name].fingerprint != before]

    def manifests(self, names: Iterable[str]) -> dict[str, Manifest]:
        """Manifests by `asset/bizdate`, read together; missing and damaged ones are left out."""
        wanted = {name: name.partition("/") for name in names}
        paths = [f"{self._place.partition(asset, bizdate)}/{MANIFEST}" for asset, _, bizdate in wanted.values()]
        with self._place.name_errors():  # not `cat`, which would read a bracket in a path as a pattern
            # From the first byte: for a whole file s3fs asks for its size before. An empty file has no first byte.
            texts = self._place.fs.cat_ranges(paths, 0, None, on_error="return") if paths else []
        found = {}
        for name, text in zip(wanted, texts, strict=True):
            if isinstance(text, FileNotFoundError) or (isinstance(text, OSError) and text.errno == errno.EINVAL):
                continue
            if isinstance(text, Exception):
                raise text
            with contextlib.suppress(ValueError, TypeError):
                found[name] = _parse(text)
        return found

    @contextlib.contextmanager
    def open_file(self, manifest: Manifest, file: str) -> Iterator[IO[bytes]]:
        """A file of a partition, to read parts of it where it is; it is not compared with its hash."""
        with self._place.name_errors(), self._place.fs.open(f"{self._place.files(manifest)}/{file}") as opened:
            yield opened

    def size(self, asset: str, bizdate: str) -> int:
        """Bytes of a partition's files."""
        with self._place.name_errors():  # `du` would ask for each file
            found = self._place.fs.find(self._place.partition(asset, bizdate), detail=True)
        return sum(int(each["size"]) for each in found.values())

    def remove(self, asset: str, bizdate: str) -> None:
        """Remove a partition; its manifest, with the metrics, is kept as `.removed/<asset>/<bizdate>.json`.

        A reader sees the partition or none: the manifest goes first, and a folder without one is none.
        """
        fs, place = self._place.fs, self._place.partition(asset, bizdate)
        archive = f"{self._place.base}/{REMOVED}/{asset}"
        with self._place.name_errors():
            if fs.exists(f"{place}/{MANIFEST}"):
                fs.makedirs(archive, exist_ok=True)
                fs.pipe_file(f"{archive}/{bizdate}.json", fs.cat_file(f"{place}/{MANIFEST}"))
                fs.rm_file(f"{place}/{MANIFEST}")
            remote.remove(fs, fs.find(place))
            if self._place.is_local:
                shutil.rmtree(place)

    def unneeded(self) -> list[str]:
        """Files in an object store of replaced partitions and of uploads that were killed (`remote.unneeded`).

        A partition whose manifest cannot be read keeps all of its files: a later version of the code may have made it.
        """
        if self._place.is_local:
            return []  # the next draft of the asset removes them
        with self._place.name_errors():
            self._place.fs.invalidate_cache()
            there = self._place.fs.find(self._place.base)
        found = remote.by_partition(there, self._place.base)
        published, gone = self.manifests(found), list[str]()
        for name, files in found.items():
            asset, _, bizdate = name.partition("/")
            place = self._place.partition(asset, bizdate)
            if name in published or f"{place}/{MANIFEST}" not in files:
                gone += remote.unneeded(files, place, published.get(name))
        return gone

    def remove_unneeded(self, files: Iterable[str]) -> None:
        """Remove files that `unneeded` has found."""
        with self._place.name_errors():
            remote.remove(self._place.fs, files)

    @contextlib.contextmanager
    def draft(self, asset: str, bizdate: str) -> Iterator[Draft]:
        """Write a partition: it is published when the block ends, and removed without a trace if the block raises.

        Raises:
            PlaceUnwritable: the disk is full, or may not be written.
        """
        place = self._drafts(asset)
        with writing_to(place):
            if self.dataset and self._place.read_dataset() is None:
                self._place.record_dataset(self.dataset)
            folder = self._draft_folder(asset, bizdate)
        draft = Draft(folder, Manifest(asset, self.profile, bizdate))
        try:
            with writing_to(place):
                yield draft
                self._publish(draft)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _drafts(self, asset: str) -> Place:
        """The folder of drafts: on the lake's own file system; for an object store, on this machine."""
        if self._place.is_local:
            return Place("the lake", Path(f"{self._place.base}/{asset}"), "RECSYS_LAKE")
        return Place("the temporary folder", remote.cache(), "TMPDIR")

    def _draft_folder(self, asset: str, bizdate: str) -> Path:
        """A new empty folder for a partition that is being written."""
        home = self._drafts(asset).folder
        if self._place.is_local:
            sync_all(private_folder(home))
        else:
            own_folder(home)
        clear_leftovers(home, f".{self.profile}.{asset}")
        return new_folder(home, f".{self.profile}.{asset}", f"bizdate={bizdate}")

    def _publish(self, draft: Draft) -> None:
        draft.manifest.version = "" if self._place.is_local else remote.new_version()
        files = sorted(path for path in draft.folder.rglob("*") if path.is_file())
        names = [str(path.relative_to(draft.folder)) for path in files]
        draft.manifest.files = {name: draft.kept.get(name) or file_hash(draft.folder / name) for name in names}
        (draft.folder / MANIFEST).write_text(draft.manifest.seal().to_json(), encoding="utf-8")
        place = self._place.partition(draft.manifest.asset, draft.manifest.bizdate)
        if self._place.is_local:
            if self._holds(draft.manifest):
                return
            sync_tree(draft.folder)
            move_in(draft.folder, Path(place))
            sync(Path(place).parent)
        else:
            with self._place.name_errors():
                remote.upload(self._place.fs, draft, place)

    def _holds(self, manifest: Manifest) -> bool:
        """Whether the same partition exists undamaged: then it stays, and its readers are not disturbed."""
        with contextlib.suppress(PartitionMissing, PartitionDamaged):
            there = self.manifest(manifest.asset, manifest.bizdate)
            same = replace(manifest, seconds=there.seconds)  # it may have taken longer this time
            return there.to_json() == same.to_json() and bool(self.read(manifest.asset, manifest.bizdate))
        return False

    def _fetch(self, manifest: Manifest) -> Partition:
        with self._place.name_errors():
            return remote.fetch(self._place.fs, self._place.files(manifest), manifest)

    def _open(self, manifest: Manifest) -> Partition:
        partition = Partition(Path(self._place.files(manifest)), manifest, self._identity(manifest))
        partition.verify()
        return partition

    def _identity(self, manifest: Manifest) -> tuple[int, int, int]:
        """The identity of the partition at the manifest's place on this machine."""
        return identity(Path(self._place.partition(manifest.asset, manifest.bizdate)) / MANIFEST)


@functools.lru_cache(maxsize=10_000)
def _parse(text: bytes) -> Manifest:
    """Parse a manifest, with a cache: each check of an asset's inputs reads the manifests of all days of events."""
    return Manifest.from_json(text)
