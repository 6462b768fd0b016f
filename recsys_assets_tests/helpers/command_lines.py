"""Command lines of documents and deployments, read by the parsers of the programs that they start."""

import importlib.util
from functools import cache

import click
from dagster._cli import create_dagster_cli
from dagster._daemon.cli import create_dagster_daemon_cli

from recsys_assets.cli import main
from recsys_assets_tests.conftest import PROJECT


@cache
def programs() -> dict[str, click.Command]:
    """The programs whose parsers are at hand."""
    from dagster_dg_cli.cli import cli as dg

    dagster, daemon = create_dagster_cli(), create_dagster_daemon_cli()  # type: ignore[no-untyped-call]
    return {"dagster": dagster, "dagster-daemon": daemon, "dg": dg, "recsys": main}


def parse(words: list[str]) -> None:
    """Let a program's parser read the words of a command, as far as before it would start.

    Raises:
        click.UsageError: the program refuses them.
    """
    program, *arguments = words
    if program == "python":
        if arguments[0] == "-m":
            assert importlib.util.find_spec(arguments[1]) is not None, f"there is no module {arguments[1]}"
        else:
            assert (PROJECT / arguments[0]).is_file(), f"there is no file {arguments[0]}"
        return
    command = programs()[program]
    context = command.make_context(program, arguments)
    while isinstance(command, click.Group) and (rest := [*context._protected_args, *context.args]):
        _, found, arguments = command.resolve_command(context, rest)
        assert found  # otherwise an error was raised
        command, context = found, found.make_context(rest[0], arguments, parent=context)
