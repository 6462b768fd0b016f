"""Command-line options that the commands share."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from recsys_assets.tzrec.shares import ALONE, Share

if TYPE_CHECKING:
    from recsys_assets.retrieval.index import IndexSettings

Command = TypeVar("Command", bound=Callable[..., Any])
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
ODPS = "MaxCompute (ODPS) tables are not read or written here: export the table to Parquet and give its files"


def place(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:  # noqa: ARG001 (click's)
    """The path, or paths joined by commas, unless one names a MaxCompute table, which is refused."""
    if value and any(path.startswith("odps://") for path in value.split(",")):
        raise click.BadParameter(ODPS)
    return value


def file_type(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:  # noqa: ARG001 (click's)
    """The file format of one of TorchEasyRec's readers or writers, such as CsvReader."""
    if value and value.startswith("Odps"):
        raise click.BadParameter(ODPS)
    return value and value.removesuffix("Reader").removesuffix("Writer").lower()


def say_without_effect(ctx: click.Context, param: click.Parameter, value: str | None) -> None:  # noqa: ARG001 (click's)
    """Say that an option has no effect."""
    if value:
        click.echo(f"{param.opts[0]} has no effect: MaxCompute is not read here", err=True)


def table_options(command: Command) -> Command:
    """Add the options that say how tables are read."""
    readers = click.Choice(["OdpsReader", "CsvReader", "ParquetReader"])
    for option in (
        click.option("--odps_data_quota_name", callback=say_without_effect, expose_value=False, help="Without effect."),
        click.option("--reader_type", type=readers, callback=file_type, help="Default: from the file names."),
        click.option(
            "--batch_size", type=click.IntRange(1), default=1024, show_default=True, help="Rows searched at once."
        ),
    ):
        command = option(command)
    return command


def trainable_settings(settings: "IndexSettings", count: int, share: Share = ALONE) -> "IndexSettings":
    """The settings, with fewer clusters if there are fewer vectors than clusters, which no index allows."""
    if not settings.kind.startswith("IVF") or settings.nlist <= count:
        return settings
    fewer = settings.trainable_by(count)
    share.say(f"{count:,} items are too few for {settings.nlist:,} clusters: {fewer.nlist:,} are used")
    return fewer


@contextlib.contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr if that is a terminal; yields a function that advances it by the number done.

    Without a total the bar only shows that work is going on.
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)


def pipeline_options(*, required: bool) -> Callable[[Command], Command]:
    """Add the options that name a pipeline file and edit it."""

    def add(command: Command) -> Command:
        for option in (
            click.option(
                "--edit_config_json", help='Values that replace those of the file: {"train_config.epochs": 3}'
            ),
            click.option("--pipeline_config_path", required=required, type=FILE, help="The pipeline file, in YAML."),
        ):
            command = option(command)
        return command

    return add


def checkpoint(command: Command) -> Command:
    """Add the option that names a trained model."""
    kind = click.Path(exists=True, file_okay=False, path_type=Path)
    return click.option("--checkpoint_path", type=kind, help="Default: `checkpoint` in the file's model_dir.")(command)
