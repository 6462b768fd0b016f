"""A feature repository: its files are written, applied, filled with a snapshot, and read back.

The online stores have their traps, which this module avoids. SQLite lets an older row overwrite a newer one, so that an
earlier bizdate is never written over a later one. Redis ignores a row whose event time it already has, so that the rows
of a day that is published again are removed first.
"""

import contextlib
import datetime as dt
import io
import runpy
import sqlite3
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import yaml
from filelock import FileLock

from recsys_assets.arrays import slices
from recsys_assets.datasets.disk import private_folder
from recsys_assets.datasets.folders import replacing
from recsys_assets.datasets.identity import refuse_other
from recsys_assets.datasets.profile import Profile
from recsys_assets.features.schema import FeatureSchema
from recsys_assets.stores.base import importing
from recsys_assets.stores.feast.definitions import DEFINITIONS, SETTINGS, definitions_text, settings_text
from recsys_assets.stores.feast.online_stores import redis_settings
from recsys_assets.stores.feast.place import ONLINE_DATABASE, REGISTRY, FeastFailed, Place, feast_place
from recsys_assets.stores.feast.snapshots import SIDES, Side, from_feast
from recsys_assets.uris import name_errors

if TYPE_CHECKING:
    from feast import FeatureStore

_OWNER = "owner"
_ROWS_PER_READ = 1000
_KINDS = ("Entity", "FeatureView", "FeatureService", "FileSource")


def describe(profile: Profile) -> str:
    """A line on what Feast has online, for people; empty if the setting of Feast is not given.

    Raises:
        ExtraMissing: Feast is not installed.
        FeastFailed: the repository cannot be read.
    """
    place = feast_place(profile)
    if not place:
        return ""
    if not (place.folder / SETTINGS).exists():
        return f"nothing is in {place.folder} yet: `recsys materialize +feast_online`"
    moment = Repository(place).materialized()
    known = f"the snapshots as of {moment:%Y-%m-%d %H:%M} UTC" if moment else "no snapshot"
    return f"{place.folder} has {known} online"


class Repository:
    """The feature repository of a profile.

    Args:
        place: of it.

    Raises:
        ExtraMissing: Feast is not installed.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        with importing("feast"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import feast  # noqa: F401

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Let no other process change the repository during the block."""
        private_folder(self.place.folder)
        with FileLock(self.place.folder / ".lock"):
            yield

    def claim(self, owner: str) -> None:
        """Write down which data set the repository belongs to.

        Raises:
            OtherDataset: it belongs to another one.
        """
        file = self.place.folder / _OWNER
        refuse_other(f"the features in {self.place.folder}", file.read_text() if file.exists() else None, owner)
        file.write_text(owner, encoding="utf-8")

    def apply(self, schema: FeatureSchema, snapshots: Mapping[Side, pa.Schema], paths: Mapping[Side, str]) -> None:
        """Write the files, and register what they define in place of what was defined before.

        Args:
            schema: describes the features and gives their order.
            snapshots: the columns of each snapshot.
            paths: patterns of the files of all days, for each side.

        Raises:
            Unrepresentable: Feast has no type for a column.
            FeastFailed: Feast refuses the definitions.
        """
        texts = {
            SETTINGS: settings_text(self.place, redis_settings(self.place.redis, secrets=False)),
            DEFINITIONS: definitions_text(self.place, schema, snapshots, paths),
        }
        for name, text in texts.items():
            with replacing(self.place.folder / name) as file:
                file.write_text(text, encoding="utf-8")
        self._let_readers_go_on()
        with self._failing("apply its definitions"):
            defined = runpy.run_path(str(self.place.folder / DEFINITIONS)).values()
            self.open().apply([each for each in defined if type(each).__name__ in _KINDS])

    def materialized(self) -> dt.datetime | None:
        """The event time of the newest snapshot in the online store; None: there is none of all sides."""
        with self._failing("read its registry"):
            store = self.open()
            ends = [store.get_feature_view(side.view).most_recent_end_time for side in SIDES]
        return min(ends) if all(ends) else None

    def materialize(self, moment: dt.datetime) -> None:
        """Write the snapshots of this event time into the online store.

        Raises:
            FeastFailed: Feast cannot.
        """
        with self._failing(f"write the snapshots of {moment:%Y-%m-%d %H:%M} UTC into its online store"):
            store = self.open()
            if self.place.redis and self.materialized() == moment:
                for side in SIDES:
                    store._get_provider().online_store.delete_entity_values(store.config, [side.join_key])  # noqa: SLF001
            store.materialize(moment, moment, [side.view for side in SIDES])

    def read(self, side: Side, keys: Sequence[object], schema: pa.Schema) -> pa.Table:
        """Rows of entities (N) in the order of their keys, as the online store has them; nulls where it has none.

        Args:
            side: of the entities.
            keys: (N,) theirs.
            schema: of the snapshot.

        Raises:
            FeastFailed: Feast cannot.
        """
        with self._failing(f"read features of {side.name}s"):
            store = self.open()
            service, parts = store.get_feature_service(self.place.service(side)), [schema.empty_table()]
            for rows in slices(len(keys), _ROWS_PER_READ):
                found = store.get_online_features(service, {side.join_key: list(keys[rows])}).to_dict()
                parts.append(from_feast(found, schema, side))
        return pa.concat_tables(parts)

    def open(self) -> "FeatureStore":
        """Feast's own object for the repository.

        Raises:
            FeastFailed: there is none yet.
        """
        from feast import FeatureStore, RepoConfig

        if not (file := self.place.folder / SETTINGS).exists():
            raise FeastFailed(
                f"there is no feature repository in {self.place.folder}: `recsys materialize +feast_online`"
            )
        content: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
        content["online_store"] |= redis_settings(self.place.redis, secrets=True)
        # A relative place would count from the current folder, because this is not read from the file by Feast.
        content["registry"]["path"] = str(self.place.folder / REGISTRY)
        return FeatureStore(config=RepoConfig(**content, repo_path=self.place.folder))

    def _let_readers_go_on(self) -> None:
        """Let a server read SQLite's file while a day is written: the mode is kept in the file."""
        if not self.place.redis:
            with contextlib.closing(sqlite3.connect(self.place.folder / ONLINE_DATABASE)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")

    @contextlib.contextmanager
    def _failing(self, doing: str) -> Iterator[None]:
        """Name an error of Feast, and leave out what it prints: its progress, and warnings about its own code."""
        what = f"Feast in {self.place.folder} cannot {doing}"
        with name_errors(FeastFailed, what, self.place.redis), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.redirect_stdout(io.StringIO()):
                yield
