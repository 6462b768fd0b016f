"""Access to MongoDB: passwords, TLS, unusable URIs, and no secret in any message."""

import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pymongo import MongoClient

from recsys_assets.stores.mongo.store import MongoStore
from recsys_assets.stores.store import StoreError, StoreUnavailable
from recsys_assets_tests.helpers.mongo_servers import Daemon, daemon
from recsys_assets_tests.helpers.publishing import publish
from recsys_assets_tests.helpers.store_contract import NEW, no_gate, rows, said

USER, PASSWORD, WRONG = "bench-user", "right-S3cret", "wrong-S3cret"
SECRETS = (USER, PASSWORD, WRONG, "authSource", "appName")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A server with one user."""
    with daemon(tmp_path_factory.mktemp("guarded") / "data") as server:
        with MongoClient[dict[str, object]](server.uri) as client:
            client["admin"].command("createUser", USER, pwd=PASSWORD, roles=["readWriteAnyDatabase"])
        server.process.terminate()  # not killed, because SecantusDB would then lose the user
        server.process.wait()
        server.start("--auth")
        yield server


def test_the_right_password_works_and_is_not_shown(guarded: Daemon, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    uri = f"mongodb://{USER}:{PASSWORD}@{guarded.place}/?authSource=admin&appName=bench"
    with MongoStore(uri, "shop") as store:
        publish(store, "user", NEW, rows(), no_gate, keep=2)
        assert store.live_version("user") == NEW
        assert f"{store!r}" == f"MongoStore({guarded.place}/shop)"
    assert "insert" in caplog.text  # pymongo has logged
    assert not [secret for secret in (PASSWORD, "S3cret") if secret in caplog.text]


@pytest.mark.parametrize(
    ("user", "why"),
    [
        (f"{USER}:{WRONG}@", "refused the user or the password"),
        (f"nobody:{WRONG}@", "refused the user or the password"),
        ("", "not authorized"),
    ],
)
def test_a_wrong_password_or_none_is_refused_and_not_shown(
    user: str, why: str, guarded: Daemon, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    uri = f"mongodb://{user}{guarded.place}/?authSource=admin&appName=bench&serverSelectionTimeoutMS=500"
    with MongoStore(uri, "shop") as store:
        for ask in (store.collections, lambda: store.write("user", NEW, rows())):
            with pytest.raises(StoreUnavailable, match=f"at {guarded.place}/shop.* {why}") as refused:
                ask()
            assert not [secret for secret in SECRETS if secret in said(refused.value)]
        assert WRONG not in f"{store!r} {vars(store)}"
    assert WRONG not in caplog.text


def test_tls_by_the_uri(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    name = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = ["-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(certificate), "-days", "2"]
    subprocess.run(["openssl", "req", *made, *name], check=True, capture_output=True)
    options = ["--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    with daemon(tmp_path / "data", *options) as server:
        uri = f"mongodb://{server.place}/?serverSelectionTimeoutMS=500"
        with MongoStore(f"{uri}&tls=true&tlsCAFile={certificate}", "shop") as store:
            publish(store, "user", NEW, rows(), no_gate, keep=2)
            assert store.live_version("user") == NEW
        for wrong, why in ((f"{uri}&tls=true", "certificate verify failed"), (uri, "ServerSelectionTimeout")):
            with MongoStore(wrong, "shop") as store, pytest.raises(StoreUnavailable, match=why):
                store.collections()


@pytest.mark.parametrize(
    "uri",
    [
        f"mongodb://{USER}:right/S3cret@127.0.0.1/?authSource=admin",
        f"mongodb://{USER}:right@S3cret@127.0.0.1",
        f"mongodb://{USER}:S3cret%zz@127.0.0.1",
        f"mongodb://{USER}:S3cret@127.0.0.1/?tls=S3cret",
        f"mongodb://{USER}:S3cret@127.0.0.1/?tls=true&tlsCAFile=/S3cret",
        f"mongodb://{USER}:S3cret@127.0.0.1/?S3cret=1",
        f"http://{USER}:S3cret@127.0.0.1",
        "",
    ],
)
def test_a_uri_that_cannot_be_used_is_not_quoted(uri: str) -> None:
    with pytest.raises(StoreError, match="cannot be used") as refused:
        MongoStore(uri, "shop")
    assert not [secret for secret in (USER, "S3cret", "authSource") if secret in said(refused.value)]


def test_a_name_that_no_database_can_have_is_refused() -> None:
    with pytest.raises(StoreError, match="cannot be used"):
        MongoStore("mongodb://127.0.0.1", "a/b")
