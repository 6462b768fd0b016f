"""MovieLens 1M (Harper & Konstan, The MovieLens Datasets, 2015) as a source of landing files.

The files are GroupLens's own: latin-1, '::' between fields, no header.
"""

import datetime as dt
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pooch
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from recsys_assets.datasets import archives
from recsys_assets.datasets.disk import Place, private_folder, writing_to
from recsys_assets.datasets.feed import EPOCH, SECONDS_A_DAY, Feed, LandingError
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import TableName
from recsys_assets.settings import settings
from recsys_assets.uris import name_errors, safe_uri

URL = "https://files.grouplens.org/datasets/movielens/ml-1m.zip"
CHECKSUM = "md5:c4d9eecfca2ab87c1945afe126590906"  # as GroupLens publishes it next to the zip
_COLUMNS = {
    "ratings.dat": {"user_id": pa.int64(), "item_id": pa.int64(), "rating": pa.float32(), "timestamp": pa.int64()},
    "users.dat": {
        "user_id": pa.int64(),
        "gender": pa.string(),
        "age": pa.int64(),
        "occupation": pa.int64(),
        "zip": pa.string(),
    },
    "movies.dat": {"item_id": pa.int64(), "title": pa.string(), "genres": pa.string()},
}
_LINKS = {"movieId": pa.int64(), "imdbId": pa.string()}  # imdbId is zero-padded text
_IN_TABS = pa.csv.ParseOptions(delimiter="\t", quote_char=False, double_quote=False, ignore_empty_lines=False)

Folder = Path | zipfile.Path


def feed(
    profile: Profile,
    source: str | Path | None = None,
    first: dt.date | None = None,
    last: dt.date | None = None,
    links: Path | None = None,
) -> Feed:
    """Open the data set at `source`: the zip, its unpacked folder, or a URL of the zip (default: GroupLens's).

    Events land on the UTC day of their time, in the order of `ratings.dat`; users and items are undated.

    Raises:
        LandingError: there is no such source, a file is missing, a line is malformed, or an event is outside the
            profile's bizdates.
    """
    folder = _open(source or URL)
    ratings = _read(folder / "ratings.dat")
    days = ratings["timestamp"].to_numpy() // SECONDS_A_DAY
    lower, upper = first or profile.first_bizdate, last or profile.last_bizdate or dt.date.max
    inside = (days >= (lower - EPOCH).days) & (days <= (upper - EPOCH).days)
    if first is None and last is None and not inside.all():
        raise LandingError(
            f"{folder / 'ratings.dat'}, line {int(inside.argmin()) + 1}: its time is outside the bizdates of "
            f"'{profile.name}', {lower} to {upper}: widen the profile's, or land a part with --from and --to"
        )
    if not inside.any():
        raise LandingError(f"{folder / 'ratings.dat'} has no rating from {lower} to {upper}: give other days")
    kept = np.flatnonzero(inside)
    kept = kept[np.argsort(days[kept], kind="stable")]
    found, starts, counts = np.unique(days[kept], return_index=True, return_counts=True)
    dates = [EPOCH + dt.timedelta(days=int(number)) for number in found]
    slices = dict(zip(dates, zip(starts.tolist(), counts.tolist(), strict=True), strict=True))
    by_day = ratings.take(pa.array(kept)).combine_chunks()

    def day(date: dt.date) -> Iterator[tuple[TableName, pa.Table]]:
        yield "interactions", by_day.slice(*slices[date])

    items = _items(_read(folder / "movies.dat"), _links(folder, links))
    return Feed(dates, day, {"users": _read(folder / "users.dat"), "items": items})


def _open(source: str | Path) -> Folder:
    """The folder that holds `ratings.dat`, on disk or in a zip."""
    if str(source).startswith(("http://", "https://")):
        source = _download(str(source))
    path = Path(source).expanduser()
    if not path.exists():
        where = safe_uri(str(source))
        raise LandingError(f"--source {where} does not exist: give the ml-1m zip, its folder, or a URL of the zip")
    root: Folder = path
    if path.is_file():
        if not zipfile.is_zipfile(path):
            raise LandingError(f"--source {safe_uri(str(path))} is neither a zip nor a folder: give the ml-1m zip")
        root = archives.open_zip(path)
    return root / "ml-1m" if (root / "ml-1m" / "ratings.dat").is_file() else root


def _download(url: str) -> Path:
    """Fetch the zip once and keep it; a kept zip is used again if its checksum is right."""
    folder = settings().data / "downloads"
    pooch.get_logger().setLevel("WARNING")  # it would log the URL, with the password in it
    what = f"{safe_uri(url)} could not be fetched, get ml-1m.zip another way (--source ZIP)"
    with name_errors(LandingError, what, url), writing_to(Place("the data folder", folder, "RECSYS_DATA")):
        private_folder(folder)
        return Path(pooch.retrieve(url, CHECKSUM, fname="ml-1m.zip", path=folder, progressbar=True))


def _read(file: Folder) -> pa.Table:
    if not file.is_file():
        raise LandingError(f"{file} is missing: --source is the ml-1m zip or the folder of its .dat files")
    columns = _COLUMNS[file.name]
    content = _read_bytes(file)
    if b"\t" in content:  # a tab becomes the separator below: pyarrow takes a single character
        line = content[: content.index(b"\t")].count(b"\n") + 1
        raise LandingError(f"{file}, line {line}: a tab, where fields are separated by '::'")
    reading = pa.csv.ReadOptions(column_names=list(columns), use_threads=False, encoding="latin-1")
    return _parse(file, content.replace(b"::", b"\t"), reading, _IN_TABS, columns)


def _read_bytes(file: Folder) -> bytes:
    return archives.read(file) if isinstance(file, zipfile.Path) else file.read_bytes()


def _parse(
    file: Folder,
    content: bytes,
    reading: pa.csv.ReadOptions,
    parsing: pa.csv.ParseOptions,
    columns: dict[str, pa.DataType],
) -> pa.Table:
    """Parse CSV of exactly these columns; in one thread, because errors name their row only then."""
    converting = pa.csv.ConvertOptions(column_types=columns, include_columns=list(columns), null_values=[])
    try:
        return pa.csv.read_csv(pa.BufferReader(content), reading, parsing, converting)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        row = re.search(r"Row #(\d+)", str(error))
        raise LandingError(f"{file}{f', line {row[1]}' if row else ''}: {error}") from error


def _links(folder: Folder, links: Path | None) -> pa.Table | None:
    """Columns movieId and imdbId of a links file: the one that was named, else the one next to the ratings, if any."""
    if links and not links.is_file():
        raise LandingError(f"--links {links} does not exist: give the path of a links.csv, or leave it out")
    file: Folder = links or folder / "links.csv"
    if not file.is_file():
        return None
    found = _parse(file, _read_bytes(file), pa.csv.ReadOptions(use_threads=False), pa.csv.ParseOptions(), _LINKS)
    return found.filter(pc.field("imdbId") != "")


def _items(movies: pa.Table, links: pa.Table | None) -> pa.Table:
    """`Toy Story (1995)` has year 1995; `imdb_url` is null for movies that the links lack."""
    year = pc.struct_field(pc.extract_regex(movies["title"], r"\((?P<year>\d{4})\)\s*$"), "year")
    found: pa.ChunkedArray = pa.nulls(movies.num_rows, pa.string())
    if links is not None:
        found = pc.take(links["imdbId"], pc.index_in(movies["item_id"], value_set=links["movieId"]))
    return pa.table(
        {
            "item_id": movies["item_id"],
            "title": movies["title"],
            "year": year.cast(pa.int64()),
            "genres": pc.split_pattern(movies["genres"], "|"),
            "imdb_url": pc.binary_join_element_wise("https://www.imdb.com/title/tt", found, "/", ""),
        }
    )
