"""MovieLens as a source: its three forms, its columns, its counts, and the errors for damaged files."""

import datetime as dt
import hashlib
import http.server
import io
import stat
import threading
import tracemalloc
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from recsys_assets.datasets import archives, movielens
from recsys_assets.datasets.disk import PlaceUnwritable
from recsys_assets.datasets.feed import LandingError
from recsys_assets.datasets.landing import land, landed_bizdates, landing_files
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets_tests.helpers.small_disk import mounted

DAY = 956_707_200 // 86_400 * 86_400  # 2000-04-26 00:00 UTC
FILES = {
    "ratings.dat": f"2::20::5::{DAY + 9}\n1::10::4::{DAY + 9}\n1::20::3::{DAY - 1}\n2::10::1::{DAY + 86_399}\n",
    "users.dat": "1::F::1::10::48067\n2::M::56::16::70072-1234\n",
    "movies.dat": '10::Caf\xe9: "Noir" (1995)::Comedy|Film-Noir\n20::Untitled::Drama\n',
}


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    return load_profile("movielens-1m").model_copy(update={"landing": tmp_path / "landing"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "unpacked"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="latin-1")
    return folder


@pytest.fixture
def zipped(tmp_path: Path, folder: Path) -> Path:
    with zipfile.ZipFile(tmp_path / "ml-1m.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"ml-1m/{file.name}")
    return tmp_path / "ml-1m.zip"


def day(profile: Profile, bizdate: str) -> list[tuple[int, int, float, int]]:
    (file,) = landing_files(profile, "interactions", bizdate)
    return list(pd.read_parquet(file).itertuples(index=False, name=None))


def test_events_land_on_their_utc_day_in_the_order_of_the_file(profile: Profile, folder: Path) -> None:
    report = land(profile, folder)
    assert (report.rows, report.bizdates) == (4, ["2000-04-25", "2000-04-26"])
    assert day(profile, "2000-04-25") == [(1, 20, 3.0, DAY - 1)]
    assert day(profile, "2000-04-26") == [(2, 20, 5.0, DAY + 9), (1, 10, 4.0, DAY + 9), (2, 10, 1.0, DAY + 86_399)]


def test_users_and_items_land_undated_in_the_profiles_types(profile: Profile, folder: Path) -> None:
    land(profile, folder)
    (users,), (items,) = landing_files(profile, "users"), landing_files(profile, "items")
    assert pq.read_table(users).to_pylist()[1] == {
        "user_id": 2,
        "gender": "M",
        "age": 56,
        "occupation": 16,
        "zip": "70072-1234",
    }
    assert pq.read_table(items).to_pylist() == [
        {
            "item_id": 10,
            "title": 'Café: "Noir" (1995)',
            "year": 1995,
            "genres": ["Comedy", "Film-Noir"],
            "imdb_url": None,
        },
        {"item_id": 20, "title": "Untitled", "year": None, "genres": ["Drama"], "imdb_url": None},
    ]


@pytest.mark.parametrize("in_folder", [True, False])
def test_links_give_the_imdb_address_of_the_movies_they_know(profile: Profile, folder: Path, in_folder: bool) -> None:
    links = (folder if in_folder else folder.parent) / "links.csv"
    links.write_text("movieId,imdbId,tmdbId\n10,0114709,862\n20,,\n30,0113497,8844\n")
    land(profile, folder, links=None if in_folder else links)
    (items,) = landing_files(profile, "items")
    assert pq.read_table(items)["imdb_url"].to_pylist() == ["https://www.imdb.com/title/tt0114709/", None]


def test_the_zip_lands_the_same_bytes_as_the_folder(profile: Profile, folder: Path, zipped: Path) -> None:
    land(profile, folder)
    assert land(profile, str(zipped)).changed == []


def test_a_range_lands_its_days_only(profile: Profile, folder: Path) -> None:
    first = dt.date(2000, 4, 26)
    assert land(profile, folder, first).bizdates == landed_bizdates(profile) == ["2000-04-26"]
    with pytest.raises(LandingError, match="no rating from 2001-01-01 to 2001-01-02"):
        land(profile, folder, dt.date(2001, 1, 1), dt.date(2001, 1, 2))


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("ratings.dat", "1::10::4::5\n1::10::4\n", r"ratings.dat, line 2: .*Expected 4 columns, got 3"),
        ("ratings.dat", f"1::10::4::{DAY}\n1::x::4::{DAY}\n", r"ratings.dat, line 2: .*invalid value 'x'"),
        ("ratings.dat", f"1::10::4::{DAY}\n\n1::10::4::{DAY}\n", r"ratings.dat, line 2"),
        ("ratings.dat", f"1::10::::{DAY}\n", r"ratings.dat, line 1: .*invalid value ''"),
        ("ratings.dat", "", r"ratings.dat: Empty"),
        ("ratings.dat", f"1::10::4::{DAY}\n1::10::4::5\n", r"ratings.dat, line 2: its time is outside the bizdates"),
        ("users.dat", "1::F\t::1::10::48067\n", r"users.dat, line 1: a tab"),
        ("movies.dat", "1::Some::Film::Drama\n", r"movies.dat, line 1: .*got 4"),
        ("links.csv", "movieId,tmdbId\n1,2\n", r"links.csv: .*imdbId"),
        ("links.csv", "movieId,imdbId\nx,2\n", r"links.csv, line 2: .*invalid value 'x'"),
    ],
)
def test_a_damaged_line_is_named_and_nothing_lands(
    profile: Profile, folder: Path, file: str, text: str, message: str
) -> None:
    (folder / file).write_text(text)
    with pytest.raises(LandingError, match=message):
        land(profile, folder)
    assert not landed_bizdates(profile)
    assert not landing_files(profile, "users")


def test_sources_that_are_no_data_set_are_named(profile: Profile, folder: Path) -> None:
    with pytest.raises(LandingError, match="absent does not exist: give the ml-1m zip"):
        land(profile, folder / "absent")
    with pytest.raises(LandingError, match="neither a zip nor a folder"):
        land(profile, folder / "users.dat")
    with pytest.raises(LandingError, match="--links absent does not exist"):
        land(profile, folder, links=Path("absent"))
    (folder / "movies.dat").unlink()
    with pytest.raises(LandingError, match=r"movies.dat is missing"):
        land(profile, folder)


def test_a_spoiled_zip_is_named(profile: Profile, zipped: Path) -> None:
    content = bytearray(zipped.read_bytes())
    content[content.index(FILES["ratings.dat"].encode())] ^= 1
    zipped.write_bytes(content)
    with pytest.raises(LandingError, match=r"ratings.dat cannot be unpacked: .*CRC"):
        land(profile, zipped)


def test_a_small_zip_that_unpacks_to_much_is_refused_unread(profile: Profile, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("ml-1m/ratings.dat", "w") as member:
        for _ in range(40):
            member.write(bytes(2**20))
    assert bomb.stat().st_size < 2**20
    tracemalloc.start()
    bounds = (
        r"bomb.zip/ml-1m/ratings.dat is packed into .* unpacks to more than .* \(100 times its size, 1 GiB\): unpack it"
    )
    with pytest.raises(LandingError, match=bounds):
        land(profile, bomb)
    assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    tracemalloc.stop()


def test_a_stream_that_does_not_say_how_much_it_unpacks_to_is_read_up_to_the_bound() -> None:
    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            return bytes(size)

    tracemalloc.start()
    with pytest.raises(
        LandingError, match="events.csv.gz is packed into 100,000 bytes and unpacks to more than 10,000,000"
    ):
        archives.read_bounded(Endless(), 100_000, "events.csv.gz")  # type: ignore[arg-type]
    assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
    tracemalloc.stop()
    assert archives.read_bounded(io.BytesIO(bytes(2**20)), 1, "small.gz") == bytes(2**20)


@pytest.mark.parametrize("name", ["../ratings.dat", "/etc/ratings.dat", "ml-1m/../../ratings.dat", "..\\ratings.dat"])
def test_a_zip_whose_members_do_not_lie_in_it_is_refused(profile: Profile, tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "odd.zip", "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(LandingError, match=r"odd.zip has a member that is a link or leads out of it, '.*ratings.dat'"):
        land(profile, tmp_path / "odd.zip")


def test_a_link_in_a_zip_is_refused(profile: Profile, tmp_path: Path) -> None:
    link = zipfile.ZipInfo("ml-1m/ratings.dat")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "odd.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(LandingError, match="odd.zip has a member that is a link or leads out of it"):
        land(profile, tmp_path / "odd.zip")


def test_a_zip_under_a_password_is_named(profile: Profile, zipped: Path) -> None:
    content = bytearray(zipped.read_bytes())
    for header in (b"PK\x03\x04", b"PK\x01\x02"):
        place = content.index(header)
        content[place + (6 if header.endswith(b"\x04") else 8)] |= 1  # the flag of encryption
    zipped.write_bytes(content)
    with pytest.raises(LandingError, match=r"ml-1m.zip.* cannot be unpacked: .*encrypted"):
        land(profile, zipped)


@pytest.fixture
def served(zipped: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of the zip on this machine; downloads are kept in the test's own folder."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("RECSYS_DATA", str(zipped.parent / "data"))
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=zipped.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{zipped.name}"
        server.shutdown()


def test_without_a_source_the_zip_is_downloaded_once(
    profile: Profile, served: str, zipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(movielens, "URL", served)
    monkeypatch.setattr(movielens, "CHECKSUM", f"md5:{hashlib.md5(zipped.read_bytes()).hexdigest()}")  # noqa: S324
    assert land(profile).rows == 4
    zipped.unlink()
    assert land(profile).rows == 4


def test_a_disk_that_is_too_small_for_the_download_is_named(
    profile: Profile, served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "large.zip").write_bytes(bytes(8_000_000))
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path / "small"))
    with mounted(tmp_path / "small", "size=4m") as small:
        with pytest.raises(PlaceUnwritable, match=r"^the data folder is full: .* set RECSYS_DATA to another place"):
            land(profile, served.replace("ml-1m.zip", "large.zip"))
        assert [path for path in small.rglob("*") if path.is_file()] == []


def test_a_download_of_other_content_is_refused(profile: Profile, served: str) -> None:
    with pytest.raises(LandingError, match=r"could not be fetched.*--source ZIP.*: .*hash"):
        land(profile, served)
    with pytest.raises(LandingError, match=r"could not be fetched.*: .*404"):
        land(profile, served + ".gone")


def test_movielens_1m_lands_in_full(profile: Profile, ml1m: Path) -> None:
    report = land(profile, ml1m)
    assert report.rows == 1_000_209
    assert len(report.bizdates) == len(landed_bizdates(profile)) == 1040
    events = pq.read_table(profile.landing / "interactions", columns=["rating", "timestamp"]).to_pandas()
    counts = events.rating.value_counts().sort_index()
    assert counts.to_dict() == {1: 56_174, 2: 107_557, 3: 261_197, 4: 348_971, 5: 226_310}
    files = [landing_files(profile, table)[0] for table in ("users", "items")]
    assert [pq.read_metadata(file).num_rows for file in files] == [6040, 3883]
    assert min(pq.read_metadata(landing_files(profile, "interactions", day)[0]).num_rows for day in report.bizdates) > 0
