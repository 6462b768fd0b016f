"""The files of `deploy/` are as programs accept them: units, compose.yaml, Dockerfile, values.yaml; and their page."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from configparser import ConfigParser
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from dagster._core.instance.config import dagster_instance_config
from dagster._grpc import server as code_server

from recsys_assets.cli import main
from recsys_assets.guard import hosts_of, listening_address
from recsys_assets.serving.supervisor import listen
from recsys_assets.settings import PORTS
from recsys_assets.ui.servers import mlflow_server
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.command_lines import parse
from recsys_assets_tests.helpers.dagster_dev import free_port
from recsys_assets_tests.helpers.page_blocks import commands_of, only_block

DEPLOY = PROJECT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
PAGE = (PROJECT / "docs" / "deploy.md").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
VALUES = yaml.safe_load((DEPLOY / "values.yaml").read_text(encoding="utf-8"))
OURS = [name for name, service in COMPOSE["services"].items() if service["image"] == "recsys-assets"]
SHELL, BIN = ("sh", "-c"), "/opt/recsys/.venv/bin/"
VARIABLE = r"\b(?:RECSYS|DAGSTER|MLFLOW)_[A-Z_]+\b|\bMONGO_URI\b"
MLFLOW = importlib.util.find_spec("mlflow")
assert MLFLOW and MLFLOW.origin
SOURCES = [
    *(PROJECT / "recsys_assets").rglob("*.py"),
    PROJECT / "activate",
    Path(MLFLOW.origin).parent / "environment_variables.py",
]
KNOWN = set(re.findall(VARIABLE, "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)))


class Several(dict[str, Any]):
    """Keys of a unit that occur several times keep all their values."""

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, [*self[key], *value] if isinstance(value, list) and key in self else value)


def unit(path: Path) -> dict[str, list[str]]:
    parser = ConfigParser(strict=False, interpolation=None, dict_type=Several, default_section="", comment_prefixes="#")
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read_string(path.read_text(encoding="utf-8"))
    return {key: value.splitlines() for key, value in parser["Service"].items()}


def environment_file() -> dict[str, str]:
    lines = (DEPLOY / "recsys.env").read_text(encoding="utf-8").splitlines()
    return dict(line.lstrip("#").split("=", 1) for line in lines if re.match(r"#?[A-Z_]+=", line))


def started(words: Sequence[str]) -> Iterator[list[str]]:
    """The programs that a command starts, also through a shell."""
    if tuple(words[:2]) == SHELL:
        for part in words[2].split(" && "):
            yield [word for word in shlex.split(part) if word != "exec"]
    else:
        yield list(words)


def commands() -> list[list[str]]:
    """The commands of units, containers and health checks, with the programs' names alone and our own paths."""
    lines = [line for path in UNITS for key, said in unit(path).items() if key.startswith("ExecStart") for line in said]
    ours = [
        line.replace(BIN, "").replace("/opt/recsys", str(PROJECT)) for line in lines if not line.startswith("/bin/")
    ]
    found = [shlex.split(line) for line in ours]
    for name in OURS:
        service = COMPOSE["services"][name]
        here = [word.replace("workspace.yaml", str(DEPLOY / "workspace.yaml")) for word in service["command"]]
        found += started(here)
        found.append(service["healthcheck"]["test"][1:])
    return found


def accept(words: list[str]) -> None:
    """Let a program's own parser read its arguments, as far as before it would start."""
    program, *arguments = words
    if program == "python" and arguments[0] != "-m":
        assert arguments[0] == "-c" or (DEPLOY / arguments[0]).is_file()
    elif program == "mlflow":  # its import takes seconds; the tests of `make ui` start what is compared with
        flags = [word for word in mlflow_server().arguments if not word.replace(".", "").isdecimal()]
        assert [word for word in arguments if not word.replace(".", "").isdecimal()] == flags
    elif program != "rm":
        parse(words)


def test_every_command_of_units_and_containers_is_one_that_its_program_accepts() -> None:
    found = commands()
    assert len(found) >= 17
    for words in found:
        accept(words)
    with pytest.raises(click.NoSuchOption):
        accept(["recsys", "serve", "--prot", "8000"])


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    folder = Path(sys.executable).parent
    for path in UNITS:
        here = path.read_text(encoding="utf-8").replace(BIN, f"{folder}/").replace("/opt/recsys", str(PROJECT))
        (tmp_path / path.name).write_text(here, encoding="utf-8")
    words = ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / path.name) for path in UNITS)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_units_are_hardened_restarted_and_stopped_as_the_page_says() -> None:
    assert [path.stem for path in UNITS] == [f"recsys-{n}" for n in ("code", "daemon", "mlflow", "serve", "webserver")]
    for path in UNITS:
        service = unit(path)
        assert service["Restart"] == ["on-failure"] and int(service["TimeoutStopSec"][0]) >= 15
        assert service["EnvironmentFile"] == ["/etc/recsys/recsys.env"]
        assert service["ProtectSystem"] == ["strict"] and service["NoNewPrivileges"] == ["yes"]
        assert service["ReadWritePaths"] == [environment_file()["DAGSTER_HOME"]]
        assert environment_file()["RECSYS_DATA"].startswith(service["ReadWritePaths"][0])
    assert unit(DEPLOY / "systemd" / "recsys-daemon.service")["RuntimeMaxSec"] == ["1d"]
    assert "RuntimeMaxSec" not in unit(DEPLOY / "systemd" / "recsys-code.service")  # it would end the runs


def test_a_shell_reads_the_environment_file_as_systemd_does() -> None:
    printed = subprocess.check_output(["sh", "-c", 'set -a; . "$0"; env -0', DEPLOY / "recsys.env"], text=True, env={})
    own = ("PWD=", "_=", "SHLVL=")
    told = dict(line.split("=", 1) for line in printed.split("\0") if line and not line.startswith(own))
    assert told == {name: value for name, value in environment_file().items() if name in told}
    assert len(told) == 11


def test_the_settings_know_every_variable() -> None:
    containers = {name for each in OURS for name in COMPOSE["services"][each]["environment"]}
    (pods,) = VALUES["dagster-user-deployments"]["deployments"]
    assert {*environment_file(), *containers, *(each["name"] for each in pods["env"])} <= KNOWN
    assert set(re.findall(VARIABLE, PAGE)) <= KNOWN
    assert "RECSYS_LISTTEN" not in KNOWN


def test_the_socket_the_location_and_the_databases_are_the_same_everywhere() -> None:
    (location,) = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())["load_from"]
    (own,) = yaml.safe_load((PROJECT / "workspace.yaml").read_text())["load_from"]
    place, module = location["grpc_server"], own["python_module"]
    assert place["location_name"] == module["location_name"]
    servers = [words for words in commands() if words[:3] == ["dagster", "api", "grpc"]]
    assert len(servers) == 2
    for words in servers:
        told = dict(zip(words[3::2], words[4::2], strict=True))
        assert (told["--socket"], told["--location-name"]) == (place["socket"], place["location_name"])
        assert told["--module-name"] == module["module_name"]
    for variables in (environment_file(), COMPOSE["services"]["code"]["environment"]):
        assert variables["DAGSTER_PG_URL"].startswith("postgresql+psycopg2://recsys:")
        assert variables["MLFLOW_TRACKING_URI"] == variables["MLFLOW_BACKEND_STORE_URI"]
    assert VALUES["postgresql"]["postgresqlScheme"] == "postgresql+psycopg2"


def test_containers_are_watched_restarted_and_reached_from_this_machine_alone() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", ())]
    assert sorted(ports) == [f"127.0.0.1:{port}:{port}" for port in sorted(PORTS.values())]
    for name, service in COMPOSE["services"].items():
        assert service["restart"] == "unless-stopped" and service["healthcheck"]["test"][0] == "CMD", name
        assert set(service.get("depends_on", ())) <= set(COMPOSE["services"])
        assert {each.split(":")[0] for each in service["volumes"]} <= set(COMPOSE["volumes"])
    image = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    for words in re.findall(r"^COPY (.+)$", image, re.MULTILINE):
        assert all((PROJECT / word).exists() for word in words.split()[:-1])
    homes = set(re.findall(r"install --directory .* --mode 0700 (.+)$", image, re.MULTILINE)[0].split())
    assert homes == {each.split(":")[1] for each in COMPOSE["services"]["code"]["volumes"]}


def test_a_server_in_a_container_listens_on_the_address_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert listening_address() == "127.0.0.1"
    monkeypatch.setenv("RECSYS_LISTEN", COMPOSE["services"]["serve"]["environment"]["RECSYS_LISTEN"])
    with listen(free_port()) as listener:
        assert listener.getsockname()[0] == "0.0.0.0"  # noqa: S104
    assert "127.0.0.1:8000" in hosts_of(8000)  # what a browser on the machine asks for


class Tokened(BaseHTTPRequestHandler):
    """A server that wants a token."""

    def do_GET(self) -> None:
        known = self.headers["Authorization"] == "Bearer s3same"
        self.send_response(200 if known and self.path == "/server_info" else 401 if not known else 404)
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


def test_a_health_check_fails_unless_the_page_answers_the_token() -> None:
    server = HTTPServer(("127.0.0.1", 0), Tokened)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def checked(page: str, token: str) -> bool:
        words = [
            sys.executable,
            str(DEPLOY / "healthy.py"),
            f"http://127.0.0.1:{server.server_port}/{page}",
            "THE_TOKEN",
        ]
        return subprocess.run(words, env={"THE_TOKEN": token}, capture_output=True, check=False).returncode == 0

    assert checked("server_info", "s3same")
    assert not checked("server_info", "")
    assert not checked("other", "s3same")
    server.shutdown()
    server.server_close()
    assert not checked("server_info", "s3same")


def test_the_health_of_the_code_server_is_asked_by_its_own_name(tmp_path: Path) -> None:
    assert '"DagsterApi"' in Path(code_server.__file__).read_text(encoding="utf-8")
    import grpc
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc

    server, servicer = grpc.server(ThreadPoolExecutor(1)), health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_insecure_port(f"unix:{tmp_path}/code.sock")
    server.start()
    words = [sys.executable, str(DEPLOY / "healthy.py"), f"unix:{tmp_path}/code.sock"]
    statuses = health_pb2.HealthCheckResponse
    for status, well in ((statuses.NOT_SERVING, False), (statuses.SERVING, True)):
        servicer.set("DagsterApi", status)
        assert (subprocess.run(words, capture_output=True, check=False).returncode == 0) is well
    server.stop(None)


def test_the_chart_s_dagster_yaml_has_the_same_limits_and_is_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chart writes `run_coordinator` and its `additionalInstanceConfig` into one dagster.yaml."""
    own = yaml.safe_load((PROJECT / "dagster.yaml").read_text())
    further, daemon = VALUES["additionalInstanceConfig"], VALUES["dagsterDaemon"]
    assert {name: further[name] for name in ("instance_class", "concurrency")} == {
        name: own[name] for name in ("instance_class", "concurrency")
    }
    assert daemon["runCoordinator"]["config"] == {"queuedRunCoordinator": {}}
    queued = {"module": "dagster.core.run_coordinator", "class": "QueuedRunCoordinator"}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump({**further, "run_coordinator": queued}))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    config, _ = dagster_instance_config(str(tmp_path))
    assert config["concurrency"]["runs"]["max_concurrent_runs"] == 3
    retries, monitoring = daemon["runRetries"], daemon["runMonitoring"]
    assert own["run_retries"] == {
        "enabled": True,
        "max_retries": retries["maxRetries"],
        "retry_on_asset_or_op_failure": retries["retryOnAssetOrOpFailure"],
    }
    assert own["run_monitoring"]["poll_interval_seconds"] == monitoring["pollIntervalSeconds"]
    for kind, kept in own["retention"].items():
        assert VALUES["retention"][kind] == {"purgeAfterDays": kept["purge_after_days"]}


def test_the_page_s_function_runs_commands_with_the_settings_of_the_file(tmp_path: Path) -> None:
    """Here `sudo -u recsys` stays the same user."""
    function, doctor, land, _ = commands_of(only_block("deploy.md", "recsys_as()"))
    _, backup = commands_of(only_block("deploy.md", "recsys_as backup"))
    (tmp_path / "recsys.env").write_text(f"RECSYS_DATA='{tmp_path}/its data'\nDAGSTER_HOME={tmp_path}\n")
    shutil.copy(PROJECT / "dagster.yaml", tmp_path)
    typed = "\n".join(['sudo() { shift 2; "$@"; }', function, doctor, land, backup])
    for there, here in (("/etc/recsys", tmp_path), ("/opt/recsys", PROJECT), ("/backups/", f"{tmp_path}/")):
        typed = typed.replace(there, str(here))
    kept = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(["bash", "-euc", typed], env=kept, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"in {tmp_path}/its data/landing/sample" in done.stdout
    assert (tmp_path / "monday").is_dir()


def test_the_page_names_only_files_and_commands_that_there_are() -> None:
    for name in set(re.findall(r"deploy/[\w./-]*\w", PAGE)):
        assert (PROJECT / name).exists(), name
    for name in set(re.findall(r"\brecsys-[a-z]+\b", PAGE)) - {
        "recsys-postgresql",
        "recsys-secrets",
        "recsys-data",
        "recsys-assets",
    }:
        assert (DEPLOY / "systemd" / f"{name}.service").exists(), name
    for command in set(re.findall(r"(?:`|^|bin/|code |recsys_as )recsys ([a-z]+)", PAGE, re.MULTILINE)):
        assert command in main.commands, command
    accept(["dagster", "instance", "migrate"])
