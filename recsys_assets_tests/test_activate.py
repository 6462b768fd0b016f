"""`. ./activate` gives all Dagster commands the same code location, so that they address the UI's sensors and runs."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from dagster._cli import create_dagster_cli
from dagster_dg_cli.cli import create_dg_cli

from recsys_assets_tests.conftest import PROJECT

SERVERS = ("dagster api grpc", "dagster code-server start")  # Dagster itself starts these with all they need


@pytest.fixture(scope="module")
def activated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RECSYS_", "DAGSTER_"))}
    clean |= {"RECSYS_DATA": str(tmp_path_factory.mktemp("data")), "DAGSTER_MODULE_NAME": "another.project"}
    typed = ["bash", "-c", '. "$0/activate" 2>/dev/null; env -0', str(PROJECT)]
    printed = subprocess.run(typed, env=clean, cwd="/", check=True, capture_output=True, text=True).stdout
    return dict(line.split("=", 1) for line in printed.split("\0") if "=" in line)


def leaves(command: click.Command, context: click.Context) -> Iterator[click.Context]:
    """The commands below a group, with the context in which they run."""
    if not isinstance(command, click.Group):
        yield context
        return
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from leaves(found, click.Context(found, parent=context, info_name=name))


def of_dagster() -> list[click.Context]:
    group = create_dagster_cli()  # type: ignore[no-untyped-call]
    context = click.Context(group, info_name="dagster", auto_envvar_prefix="DAGSTER_CLI")
    return [leaf for leaf in leaves(group, context) if leaf.command_path not in SERVERS]


def of_dg() -> list[click.Context]:
    group = create_dg_cli()  # type: ignore[no-untyped-call]
    context = click.Context(group, info_name="dg", auto_envvar_prefix="DAGSTER_DG")
    commands = {name: group.get_command(context, name) for name in ("dev", "launch")}
    return [click.Context(found, parent=context, info_name=name) for name, found in commands.items() if found]


def test_every_command_that_takes_a_code_location_is_told_the_project_s(activated: dict[str, str]) -> None:
    expected = {}
    for context in [*of_dagster(), *of_dg()]:
        taken = {parameter.name for parameter in context.command.params}
        if "workspace" in taken:
            expected[f"{context.auto_envvar_prefix}_WORKSPACE"] = str(PROJECT / "workspace.yaml")
        elif "module_name" in taken:
            expected[f"{context.auto_envvar_prefix}_MODULE_NAME"] = "recsys_assets.definitions"
    assert len(expected) > 20
    assert {name: activated.get(name) for name in expected} == expected
    assert "DAGSTER_MODULE_NAME" not in activated


def test_commands_and_the_ui_read_one_history_wherever_they_are_typed(activated: dict[str, str]) -> None:
    assert Path(activated["DAGSTER_HOME"]) == PROJECT
    assert activated["DAGSTER_WEBSERVER_WORKSPACE"] == activated["DAGSTER_CLI_DEV_WORKSPACE"]
