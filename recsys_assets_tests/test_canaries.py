"""No secret of a URI is shown or kept: the short version of `canaries.py`."""

import io
import logging
import re
import shutil
import socketserver
import threading
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster._core.remote_representation.external_data import RepositorySnap

from recsys_assets.cli import main
from recsys_assets.datasets.profile import ProfileError, load_profile
from recsys_assets.definitions import build_defs
from recsys_assets.lake import Lake
from recsys_assets.lake_place import LakeUnavailable
from recsys_assets.stores.registry import STORES, open_store
from recsys_assets.stores.store import StoreError
from recsys_assets.tracking import Tracking, TrackingError, _mlflow
from recsys_assets.uris import NotAFolder, guard_logs, reveals, safe_message, safe_uri, without_secrets
from recsys_assets_tests.canaries import CANARY, DAY, FORMS, IMPATIENT, SETTINGS, found_in, sings
from recsys_assets_tests.conftest import PROJECT

PLACES = [name for name in SETTINGS if name != "RECSYS_SOURCE"]
STORE_SETTINGS = [store.variable for store in STORES.values()]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    for name, value in {**IMPATIENT, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RECSYS_PROFILE", "sample")
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return tmp_path


@pytest.fixture(scope="module")
def http() -> Iterator[int]:
    """The port of a server that answers every request with 404; well-formed URIs lead to it."""

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def everything_of(error: BaseException) -> bytes:
    return "".join([*traceback.format_exception(error), repr(error), str(vars(error))]).encode()


@pytest.mark.parametrize(
    ("uri", "seen"),
    {
        "mongodb://u:CANARY@h1:1,h2:2/db?authSource=admin": "mongodb://***@h1:1,h2:2/db?***",
        "mongodb+srv://CANARY@example.org/db": "mongodb+srv://***@example.org/db",
        "mongodb://u:a@CANARY@h": "mongodb://***",
        "mongodb://u:a/CANARY@h": "mongodb://***",
        "mongodb://u:a?CANARY@h": "mongodb://***",
        "mongodb://u:a#CANARY@h": "mongodb://***",
        "mongodb://u:a CANARY@h": "mongodb://***",
        " mongodb://é:%43ANARY@h ": "mongodb://***@h",
        "redis://:CANARY@h:6379/2": "redis://***@h:6379/2",
        "redis://u:CANARY": "redis://***",
        "unix:///run/redis.sock?password=CANARY": "unix:///run/redis.sock?***",
        "u:CANARY@h:19530": "***@h:19530",
        "CANARY@h": "***@h",
        "u:CANARY": "***",
        "host=h password=CANARY": "***",
        "https:/u:CANARY@h/x.zip": "https:/***@h/x.zip",
        "https://h/x?X-Amz-Signature=CANARY&sig=CANARY": "https://h/x?***",
        "https://h/x?CANARY": "https://h/x?***",
        "https://h/x#access_token=CANARY": "https://h/x#***",
        "https://h/x;password=CANARY": "https://***",
        "jdbc:sqlserver://h:1;user=sa;password=CANARY": "***",
        "/home/me/s3:/CANARY@bucket": "***",
        "/home/u:CANARY@h/lake": "***",
        "/lake?token=CANARY": "/lake?***",
        "sqlite:////data/mlflow.db?key=CANARY": "sqlite:////data/mlflow.db?***",
    }.items(),
)
def test_user_password_and_options_are_hidden_also_where_the_uri_is_malformed(uri: str, seen: str) -> None:
    assert safe_uri(uri) == seen
    assert "canary" not in safe_message("the library said canary here", uri)
    assert not reveals("recsys materialize test_auc", uri)
    assert "CANARY" not in safe_message(ValueError(f"cannot connect to '{uri}'"), uri)
    assert safe_message(ValueError("connection refused"), uri) == "ValueError: connection refused"


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://localhost:27017/db",
        "localhost:19530",
        "http://[::1]:5000",
        "s3://bucket/lake/sample/users/bizdate=2026-06-30",
        "sqlite:////home/my data (1)/mlflow.db",
        "file:///tmp/lake",
        "memory://x/lake",
        "/data/me@example.org/lake",
        "/what?/lake",
        "data/my lake",
        "",
    ],
)
def test_what_hides_nothing_is_shown_whole(uri: str) -> None:
    assert safe_uri(uri) == uri
    assert safe_message(f"cannot connect to {uri}".strip(), uri) == f"cannot connect to {uri}".strip()


def test_our_own_texts_stay_whole_where_they_have_the_name_of_a_user_or_a_password_within_a_word() -> None:
    uri = "mongodb://recsys:test@h"
    line = "recsys materialize rank_lgbm: test_auc 0.7"
    assert without_secrets(line, uri) == line
    assert reveals("the password is test", uri)
    assert reveals("the token is recsys", "mongodb://recsys@h")


def test_only_the_lines_of_a_text_that_show_a_secret_are_left_out() -> None:
    kept = without_secrets("one\nmongodb://u:sesame@h\nthree", "mongodb://u:sesame@h").splitlines()
    assert (kept[0], kept[2], "sesame" in kept[1]) == ("one", "three", False)


def test_nothing_that_is_logged_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGO_URI", f"mongodb://me:{CANARY}@h")
    written, factory = io.StringIO(), logging.getLogRecordFactory()
    logger, handler = logging.getLogger("a library"), logging.StreamHandler(written)
    logger.addHandler(handler)
    try:
        guard_logs()
        logger.warning("connecting to %s as %s", f"mongodb://me:{CANARY}@h", "me")
        logger.warning("retry %d of %d", 1, 3)
        try:
            raise ConnectionError(f"no route to {CANARY}")
        except ConnectionError:
            logger.exception("it failed")
    finally:
        logging.setLogRecordFactory(factory)
        logger.removeHandler(handler)
    assert not sings(written.getvalue().encode())
    assert "retry 1 of 3" in written.getvalue() and "it failed" in written.getvalue()


@pytest.mark.parametrize("form", range(len(FORMS)), ids=FORMS)
@pytest.mark.parametrize("setting", STORE_SETTINGS)
def test_a_store_that_fails_shows_no_secret(
    setting: str, form: int, http: int, home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    forms = SETTINGS.get(setting, SETTINGS["RECSYS_MILVUS_URI"])  # a new store's URI is tried as an http address
    monkeypatch.setenv(setting, forms[form].format(http=http))
    monkeypatch.setattr("recsys_assets.stores.milvus.store._TIMEOUT", 1)
    (name,) = [name for name, store in STORES.items() if store.variable == setting]
    try:
        with open_store(name, "sample") as store:
            assert not sings(repr(store).encode())
            assert store.collections() == []  # LanceDB in memory
    except StoreError as error:
        assert not sings(everything_of(error))
    assert not sings("".join(capfd.readouterr()).encode())
    assert [path for path in home.rglob("*") if sings(str(path.relative_to(home)).encode())] == []


@pytest.mark.parametrize("form", range(len(FORMS)), ids=FORMS)
def test_a_lake_that_fails_shows_no_secret(form: int, monkeypatch: pytest.MonkeyPatch, http: int) -> None:
    roots = (SETTINGS["RECSYS_LAKE"][form], f"http://me:{CANARY}@127.0.0.1:{http}/lake")
    for root in roots:
        monkeypatch.setenv("RECSYS_LAKE", root)
        asked: list[Callable[[Lake], object]] = [Lake.partitions, lambda lake: lake.manifest("users", DAY)]
        for ask in asked:
            with pytest.raises((LakeUnavailable, FileNotFoundError)) as refused:
                lake = Lake(root, "sample")
                assert not sings(lake.location("users", DAY).encode())
                assert ask(lake) == []
                lake.manifest("users", DAY)
            assert not sings(everything_of(refused.value))


@pytest.mark.parametrize("form", range(len(FORMS)), ids=FORMS)
def test_mlflow_that_fails_shows_no_secret(
    form: int, http: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", SETTINGS["MLFLOW_TRACKING_URI"][form].format(http=http))
    with pytest.raises(TrackingError) as refused, _mlflow():
        Tracking(profile="sample")._prepare()
    assert "MLFLOW_TRACKING_URI" in str(refused.value)
    assert not sings(everything_of(refused.value))
    assert not sings(caplog.text.encode())


@pytest.mark.parametrize("form", range(len(FORMS)), ids=FORMS)
def test_a_landing_folder_that_is_an_address_is_refused(form: int, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_LANDING", SETTINGS["RECSYS_LANDING"][form])
    with pytest.raises(NotAFolder, match="RECSYS_LANDING is .*, an address: give the path of a folder") as refused:
        build_defs()
    assert not sings(everything_of(refused.value))
    profile = home / "own.yaml"
    profile.write_text("")
    for command in (["bizdate"], ["doctor"], ["land", "sample"]):
        said = CliRunner().invoke(main, command)
        assert said.exit_code == 1 and "RECSYS_LANDING" in said.output
        assert not sings(said.output.encode())
    assert found_in(home) == []


def test_a_label_rule_that_quotes_a_secret_is_refused_without_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGO_URI", f"mongodb://me:{CANARY}@h")
    bundled = (PROJECT / "recsys_assets/datasets/profiles/sample.yaml").read_text(encoding="utf-8")
    own = re.sub("^label:.*$", "label: rating > 3 and '${MONGO_URI}' <> ''", bundled, flags=re.MULTILINE)
    (home / "own.yaml").write_text(own, encoding="utf-8")
    with pytest.raises(ProfileError) as refused:
        load_profile(str(home / "own.yaml"))
    assert not sings(everything_of(refused.value))


@pytest.mark.parametrize("form", range(len(FORMS)), ids=FORMS)
@pytest.mark.parametrize("profile", ["movielens-1m", "criteo"])
def test_a_source_that_fails_shows_no_secret(profile: str, form: int, http: int, home: Path) -> None:
    uri = SETTINGS["RECSYS_SOURCE"][form].format(http=http)
    said = CliRunner().invoke(main, ["land", profile, "--source", uri])
    assert said.exit_code == 1 and "--source" in said.output
    assert not sings(said.output.encode())
    assert CliRunner().invoke(main, ["land", profile], env={"RECSYS_SOURCE": uri}).output == said.output
    assert found_in(home) == []


@pytest.mark.parametrize("form", range(len(FORMS)), ids=FORMS)
def test_doctor_names_every_place_that_is_wrong_and_no_secret(
    form: int, http: int, home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("recsys_assets.stores.milvus.store._TIMEOUT", 1)
    for name in PLACES[1:]:
        monkeypatch.setenv(name, SETTINGS[name][form].format(http=http))
    said = CliRunner().invoke(main, ["doctor"])
    wrong = [line.split()[1] for line in said.output.splitlines() if line.startswith("FIX")]
    assert {"mlflow", "mongo", "redis", "milvus"} <= {*wrong}
    assert not sings("".join([said.output, *capfd.readouterr()]).encode())
    assert found_in(home) == []


def test_the_history_keeps_no_secret_that_an_error_says(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGO_URI", f"mongodb://me:{CANARY}@h/{CANARY}")
    shutil.copy(PROJECT / "dagster.yaml", home)
    monkeypatch.setenv("DAGSTER_HOME", str(home))

    @dg.asset
    def careless(context: dg.AssetExecutionContext) -> None:
        context.log.info(f"connecting to {CANARY}")
        try:
            raise ConnectionError(f"no route to {CANARY}")
        except ConnectionError as error:
            raise ValueError(f"mongodb://me:{CANARY}@h is away") from error

    with dg.DagsterInstance.get() as instance:
        ran = dg.materialize([careless], instance=instance, raise_on_error=False)
        events = [each.get_dagster_event() for each in instance.all_logs(ran.run_id) if each.is_dagster_event]
    (error,) = [each.step_failure_data.error for each in events if each.is_step_failure]
    assert error and "this text is left out" in str(error.cause)
    assert found_in(home / ".dagster") == []


def test_no_uri_is_in_what_the_code_location_tells_dagster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PLACES[1:]:
        monkeypatch.setenv(name, SETTINGS[name][0].format(http=1))
    repository = build_defs().get_repository_def()
    assert not sings(dg.serialize_value(RepositorySnap.from_def(repository)).encode())
