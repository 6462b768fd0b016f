"""One further landing file of a day, written whole to its place by a service, next to those that landed otherwise."""

import contextlib
import datetime as dt
import io
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.datasets.disk import private_folder, sync_all, writing_to
from recsys_assets.datasets.folders import replacing
from recsys_assets.datasets.landing import lock
from recsys_assets.datasets.landing_write import place_of
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import TableName


def put_parquet(profile: Profile, table: TableName, day: dt.date, name: str, content: pa.Table) -> None:
    """Write a file to the landing folder, or to its object store; one of this name is replaced.

    Raises:
        LandingError: another process has locked the landing folder, or its store cannot be written.
        PlaceUnwritable: the landing folder cannot be written.
    """
    folder = profile.files.folder_of(day)
    if profile.store:
        profile.store.put(f"{table}/{folder}/{name}", _parquet(content))
        return
    place = profile.landing / table / folder / name
    with _writing_in(profile):
        sync_all(private_folder(place.parent))
        with replacing(place) as hidden:
            hidden.write_bytes(_parquet(content))


@contextlib.contextmanager
def _writing_in(profile: Profile) -> Iterator[None]:
    """The landing folder, locked against `recsys land`, which replaces folders."""
    with writing_to(place_of(profile.landing)), lock(profile.landing, timeout=0):
        yield


def _parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()
