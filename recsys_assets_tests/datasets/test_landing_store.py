"""A landing folder in an object store: days, files and changes are seen as in a folder, on a real server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import pytest
from click.testing import CliRunner

from recsys_assets import sensors
from recsys_assets.cli import main
from recsys_assets.cli.doctor import check_landing
from recsys_assets.datasets import landing_store
from recsys_assets.datasets.feed import LandingError
from recsys_assets.datasets.identity import identify
from recsys_assets.datasets.ingest import NotLanded
from recsys_assets.datasets.landing import contents, fingerprint, land, landed_bizdates, landing_files
from recsys_assets.datasets.landing_store import LandingStore
from recsys_assets.datasets.profile import ProfileError, load_profile
from recsys_assets.forget import landing as forgetting
from recsys_assets.lake import Lake
from recsys_assets.resources import Dataset, LakeStore
from recsys_assets.settings import settings
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.object_store import BUCKET, KEY, SECRET, object_store
from recsys_assets_tests.helpers.shop import DAY, OWN, WHOLE, csv, ingest, rows

NEXT = "2026-01-06"
TABLES = {
    "users/users.csv": "user_id,gender,age\n1,F,25\n2,M,35\n3,F,\n",
    "items/items.csv": "item_id,title,genres\n" + "".join(f"{item},T,drama\n" for item in range(10, 14)),
    f"interactions/bizdate={DAY}/events [1].csv": WHOLE,
}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with object_store(tmp_path_factory.mktemp("store")) as address:
        yield address


class Bucket:
    """Objects of a test below its own folder, as another program would write them."""

    def __init__(self, endpoint: str, folder: str) -> None:
        import s3fs

        self.files = s3fs.S3FileSystem(key=KEY, secret=SECRET, endpoint_url=endpoint, use_listings_cache=False)
        self.folder = folder

    def put(self, name: str, content: str) -> None:
        self.files.pipe_file(f"{BUCKET}/{self.folder}/{name}", content.encode())

    def remove(self, name: str) -> None:
        self.files.rm_file(f"{BUCKET}/{self.folder}/{name}")


@pytest.fixture
def bucket(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    place = {"RECSYS_DATA": tmp_path, "RECSYS_LAKE": tmp_path / "lake", "RECSYS_PROFILE": tmp_path / "shop.yaml"}
    keys = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    for name, value in (place | keys | {"SHOP_BUCKET": BUCKET, "SHOP_FOLDER": f"in/{tmp_path.name}"}).items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(landing_store, "_FRESH", 0.0)
    clear_connections()
    write_profile(tmp_path, "s3://${SHOP_BUCKET}/${SHOP_FOLDER}/")
    found = Bucket(endpoint, f"in/{tmp_path.name}")
    for name, content in TABLES.items():
        found.put(name, content)
    return found


def write_profile(folder: Path, landing: str) -> None:
    (folder / "shop.yaml").write_text(OWN.replace("${RECSYS_LANDING}/shop", landing))


def clear_connections() -> None:
    """Let the next connection take its key from the present environment."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


def downloads() -> Any:
    """Counts the downloads of a block."""
    return mock.patch.object(LandingStore, "_download", autospec=True, side_effect=LandingStore._download)


def test_days_are_seen_ingested_and_read_again_when_an_object_changes(bucket: Bucket, tmp_path: Path) -> None:
    profile = load_profile()
    lake = Lake(str(tmp_path / "lake"), profile.name)
    assert landed_bizdates(profile) == [DAY]
    assert ingest(lake, profile) == {"rows": 12}
    assert [file.name for file in landing_files(profile, "interactions", DAY)] == ["events [1].csv"]
    before = fingerprint(profile, DAY)
    with downloads() as count:
        assert fingerprint(load_profile(), DAY) == before
        bucket.put(f"interactions/bizdate={DAY}/events [1].csv", WHOLE.replace(",1.0,", ",5.0,"))  # of the same size
        assert fingerprint(profile, DAY) != before
    assert count.call_count == 1
    assert ingest(lake, profile) == {"rows": 12}
    assert rows(lake).rating.min() == 2
    bucket.put(f"interactions/bizdate={NEXT}/part=0/e.csv.tmp", "half")
    assert landed_bizdates(profile) == [DAY]
    bucket.put(f"interactions/bizdate={NEXT}/part=0/e.csv", csv())
    bucket.remove(f"interactions/bizdate={DAY}/events [1].csv")
    assert landed_bizdates(profile) == [NEXT]
    with pytest.raises(NotLanded, match=f"has not landed: put its events under s3://{BUCKET}/in/.*/interactions/bizd"):
        ingest(lake, profile)
    assert not (profile.landing / f"interactions/bizdate={DAY}").exists()


def test_only_what_is_read_is_downloaded(bucket: Bucket) -> None:
    bucket.put(f"interactions/bizdate={NEXT}/e.csv", WHOLE)
    bucket.put(f"interactions/bizdate={DAY}/report.pdf", "not a table")
    profile = load_profile()
    with downloads() as count:
        assert landed_bizdates(profile) == [DAY, NEXT]
        assert count.call_count == 0
        found = contents(profile, "interactions", DAY)
        assert [path.name for path in found.files] == ["events [1].csv"]
        assert [path.name for path in found.left_out] == ["report.pdf"]
        contents(profile, "interactions", DAY)
    assert [call.args[1] for call in count.call_args_list] == [f"interactions/bizdate={DAY}/events [1].csv"]
    assert found.files[0].read_text() == WHOLE


def test_a_list_of_objects_is_used_for_seconds_unless_another_process_knows_better(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = load_profile()
    monkeypatch.setattr(landing_store, "_FRESH", 600.0)
    assert landed_bizdates(profile) == [DAY]
    bucket.put(f"interactions/bizdate={NEXT}/e.csv", WHOLE)
    assert landed_bizdates(profile) == [DAY]
    place = profile.landing / f"interactions/bizdate={NEXT}"
    place.mkdir()
    (place / "e.csv").touch()  # as another process makes it
    assert [path.read_text() for path in landing_files(profile, "interactions", NEXT)] == [WHOLE]


def test_the_sensor_and_doctor_see_the_days(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "SETTLED_SECONDS", 0.0)
    own = settings().profile
    resources = {"dataset": Dataset(profile=own), "lake": LakeStore(profile=own)}
    cursor, days = "", []
    with dg.DagsterInstance.ephemeral() as instance:
        for _ in range(3):
            with dg.build_sensor_context(instance, cursor, resources=resources) as context:
                result = sensors.new_data_sensor(context)
            assert isinstance(result, dg.SensorResult)
            cursor = result.cursor or ""
            days.append([request.partition_key for request in result.run_requests or []])
            bucket.put(f"interactions/bizdate={NEXT}/e.csv", WHOLE)  # from the second time on it has no new content
    assert days == [[DAY], [NEXT], []]
    assert check_landing(settings()).found == f"2 days, {DAY} to {NEXT}, in s3://{BUCKET}/{bucket.folder}"


def test_the_data_set_is_known_by_the_address(bucket: Bucket, tmp_path: Path) -> None:
    found = identify(load_profile(), tmp_path / "lake")
    assert found.landing == (f"s3://{BUCKET}/{bucket.folder}",)
    assert json.loads(found.to_json())["landing"] == [f"s3://{BUCKET}/{bucket.folder}"]


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize(
    ("landing", "keys", "says"),
    [
        ("s3://no-bucket/x", {}, "the landing folder s3://no-bucket/x cannot be read .*bucket does not exist"),
        ("", {"AWS_SECRET_ACCESS_KEY": "wr0ng"}, "AWS_SECRET_ACCESS_KEY.*signature"),
        ("", {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "AWS_ACCESS_KEY_ID.*Unable to locate credentials"),
        ("", {"AWS_ENDPOINT_URL": "http://me:wr0ng@127.0.0.1:1"}, "the landing folder s3://shop/in/.* cannot be read"),
    ],
)
def test_a_store_that_refuses_is_named_without_a_secret(
    tmp_path: Path, landing: str, keys: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if landing:
        write_profile(tmp_path, landing)
    for name, value in {"AWS_EC2_METADATA_DISABLED": "true", **keys}.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    clear_connections()
    with pytest.raises(LandingError, match=says) as refused:
        landed_bizdates(load_profile())
    assert "wr0ng" not in str(refused.value)
    assert CliRunner().invoke(main, ["bizdate"]).exit_code == 1


@pytest.mark.parametrize(
    "names",
    [
        ["users/../../hidden.csv", "users/e.csv", "users/e.csv/e.csv"],
        [f"users/{'e' * 300}.csv"],
        ["users//e.csv"],
        ["users/\0"],
    ],
)
def test_objects_that_cannot_be_files_are_named(
    tmp_path: Path, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = {f"bucket/in/{name}": {"size": 1} for name in names}  # the real store has no such names, others do
    monkeypatch.setattr(landing_store, "_file_system", lambda: mock.Mock(find=lambda *_, **__: listed))
    (tmp_path / "copy").mkdir()
    with pytest.raises(LandingError, match=r"s3://bucket/in/users/.* cannot be the name of a file here: give the obj"):
        landing_store.LandingStore("s3://bucket/in", tmp_path / "copy").follow(["users"])
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


@pytest.mark.usefixtures("bucket")
def test_recsys_land_says_that_it_writes_folders_only() -> None:
    with pytest.raises(LandingError, match="`recsys land` writes to folders of this machine"):
        land(load_profile(), "log.csv")


@pytest.mark.usefixtures("bucket")
def test_the_example_of_the_documentation_is_read(tmp_path: Path) -> None:
    page = (PROJECT / "docs" / "files.md").read_text(encoding="utf-8")
    (line,) = [line for line in page.splitlines() if line.startswith("landing: s3://")]
    (tmp_path / "shop.yaml").write_text(OWN.replace("landing: ${RECSYS_LANDING}/shop", line))
    assert landed_bizdates(load_profile()) == [DAY]


@pytest.mark.parametrize(
    "landing",
    [
        "s3://key:wr0ng@bucket/x",
        "s3://b?wr0ng",
        "s3://bucket/../wr0ng",
        "s3:///wr0ng",
        "s3://Bucket/wr0ng",
        "s3://a/wr0ng",
    ],
)
def test_an_address_of_another_form_is_refused_without_showing_it(tmp_path: Path, landing: str) -> None:
    write_profile(tmp_path, landing)
    with pytest.raises(ProfileError, match="line 4: landing: write s3://BUCKET/FOLDER; credentials come") as refused:
        load_profile(str(tmp_path / "shop.yaml"))
    assert "wr0ng" not in str(refused.value)


def test_a_user_is_removed_from_the_objects_themselves(bucket: Bucket) -> None:
    profile = load_profile()
    found = forgetting.find(profile, 2)
    assert {path.name: rows for path, rows in found.rows.items()} == {"events [1].csv": 4, "users.csv": 1}
    forgetting.remove(profile, 2, found)
    stored = bucket.files.cat_file(f"{BUCKET}/{bucket.folder}/interactions/bizdate={DAY}/events [1].csv").decode()
    assert stored == csv(*(line for line in WHOLE.splitlines()[1:] if not line.startswith("2,")))
    assert forgetting.find(load_profile(), 2).rows == {}
