"""Dagster's history in a real PostgreSQL with `deploy/dagster.yaml`: runs, health, the doctor, backup and restore."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dagster as dg
import pytest
import yaml
from click.testing import CliRunner, Result
from dagster._core.run_coordinator import QueuedRunCoordinator
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster._daemon.cli import liveness_check_command
from dagster._daemon.controller import daemon_controller_from_instance
from dagster_webserver.app import create_app_from_workspace_process_context
from starlette.testclient import TestClient

from recsys_assets.cli import main, places
from recsys_assets.history_database import VARIABLE, HistoryDatabase, history_database
from recsys_assets.instance import MACHINE_TAG, ProjectInstance
from recsys_assets.settings import settings
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.environment import forget_tracking_uri
from recsys_assets_tests.helpers.postgres_server import PASSWORD, Postgres, postgres, programs

DEPLOY = PROJECT / "deploy"


@dg.asset(pool="training")
def cheap() -> None: ...


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    pytest.importorskip("dagster_postgres", reason="needs the extra `deploy`, which `dev` installs")
    with postgres("CREATE DATABASE dagster; CREATE DATABASE other; CREATE DATABASE empty;") as running:
        yield running


@pytest.fixture
def home(server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that has deploy/dagster.yaml and an environment as deploy/recsys.env has it."""
    shutil.copy(DEPLOY / "dagster.yaml", tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("RECSYS_PROFILE", "sample")
    forget_tracking_uri(monkeypatch)
    use(server, "dagster", monkeypatch)
    return tmp_path


def use(server: Postgres, database: str, patch: pytest.MonkeyPatch) -> None:
    address = server.address(quote(PASSWORD, safe=""), database)
    patch.setenv(VARIABLE, address.replace("postgresql://", "postgresql+psycopg2://"))


def rows(server: Postgres, query: str, run_id: str) -> list[Any]:
    import psycopg

    with psycopg.connect(server.address(quote(PASSWORD, safe=""), "dagster")) as connection:
        return list(connection.execute(query, [run_id]))


def recsys(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_all_but_the_storage_is_as_on_one_person_s_machine() -> None:
    own, deployed = (yaml.safe_load((folder / "dagster.yaml").read_text()) for folder in (PROJECT, DEPLOY))
    assert deployed.pop("storage") == {"postgres": {"postgres_url": {"env": VARIABLE}}}
    assert deployed == own


def test_a_run_its_events_and_its_tags_are_in_postgresql(server: Postgres, home: Path) -> None:
    with dg.DagsterInstance.get() as instance:
        assert isinstance(instance, ProjectInstance)
        assert isinstance(instance.run_coordinator, QueuedRunCoordinator)
        run = dg.materialize([cheap], instance=instance, tags={"recsys/turn": "newest"}).run_id
        assert instance.event_log_storage.get_pool_limits()[0].name == "training"
    assert rows(server, "SELECT status FROM runs WHERE run_id = %s", run) == [("SUCCESS",)]
    made = "SELECT asset_key FROM event_logs WHERE run_id = %s AND dagster_event_type = 'ASSET_MATERIALIZATION'"
    assert rows(server, made, run) == [('["cheap"]',)]
    tags = dict(rows(server, "SELECT key, value FROM run_tags WHERE run_id = %s", run))
    assert tags["recsys/turn"] == "newest" and MACHINE_TAG in tags
    assert not (home / ".dagster" / "history").exists()


@pytest.mark.usefixtures("home")
def test_the_daemon_and_the_webserver_say_that_they_are_well() -> None:
    with dg.DagsterInstance.get() as instance:
        assert CliRunner().invoke(liveness_check_command).exit_code == 1
        with daemon_controller_from_instance(instance, EmptyWorkspaceTarget()) as controller:
            controller.check_daemon_threads()
            live = CliRunner().invoke(liveness_check_command)
        assert live.exit_code == 0, live.output
        with WorkspaceProcessContext(instance, EmptyWorkspaceTarget()) as context:
            app = create_app_from_workspace_process_context(context)
            assert TestClient(app).get("/server_info").json()["dagster_version"] == dg.__version__


@pytest.mark.usefixtures("home")
def test_the_doctor_asks_the_database_and_hides_the_password(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    found = places.check_history(settings())
    assert (found.state, found.found.split("@")[0]) == ("ok", "postgresql+psycopg2://***")
    use(server, "missing", monkeypatch)
    found = places.check_history(settings())
    assert found.state == "fix" and 'database "missing" does not exist' in found.found
    assert PASSWORD not in found.found
    monkeypatch.delenv(VARIABLE)
    assert f"set {VARIABLE}" in places.check_history(settings()).found


def test_a_backup_has_a_dump_that_fills_an_empty_database(
    server: Postgres, home: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(programs()), prepend=":")
    with dg.DagsterInstance.get() as instance:
        run = dg.materialize([cheap], instance=instance).run_id
    place = tmp_path_factory.mktemp("backups") / "monday"
    saved = recsys("backup", str(place))
    assert saved.exit_code == 0, saved.output
    shutil.rmtree(home / ".dagster")
    refused = recsys("restore", str(place))
    assert refused.exit_code == 1 and f"name an empty database in {VARIABLE}" in refused.output
    assert not (home / ".dagster").exists()  # nothing was put back
    use(server, "empty", monkeypatch)
    done = recsys("restore", str(place))
    assert done.exit_code == 0, done.output
    with dg.DagsterInstance.get() as instance:
        assert run in [each.run_id for each in instance.get_runs()]
        assert instance.get_latest_materialization_event(cheap.key) is not None
    shutil.copy(PROJECT / "dagster.yaml", home)
    assert "history from PostgreSQL" in recsys("restore", str(place)).output


@pytest.mark.usefixtures("home")
def test_a_backup_without_pg_dump_is_refused_and_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    refused = recsys("backup", str(tmp_path / "backup"))
    assert refused.exit_code == 1 and "postgresql-client" in refused.output
    assert not (tmp_path / "backup").exists()


@pytest.mark.parametrize(
    "storage",
    [
        {"run_storage": {"module": "dagster_postgres", "class": "PostgresRunStorage", "config": {}}},  # as Helm's chart
        {"storage": {"mysql": {"mysql_url": "mysql://h/d"}}},
    ],
    ids=["run_storage", "mysql"],
)
def test_another_kind_of_storage_is_refused(home: Path, storage: dict[str, Any]) -> None:
    (home / "dagster.yaml").write_text(yaml.safe_dump(storage))
    with pytest.raises(HistoryDatabase, match="a storage that this command does not know"):
        history_database()
    (home / "dagster.yaml").write_text("storage: {postgres: {url: x}}")
    with pytest.raises(HistoryDatabase, match="dagster.yaml cannot be used: DagsterInvalidConfigError"):
        history_database()
