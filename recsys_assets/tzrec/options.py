"""What the tools' command lines have in common."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from recsys_assets.retrieval.index import IndexSettings

Command = TypeVar("Command", bound=Callable[..., Any])
ODPS = "MaxCompute (ODPS) tables are not read or written here: export the table to Parquet, and give its files"


def place(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:  # noqa: ARG001 (click's)
    """A path of files; one of MaxCompute is refused."""
    if value and value.startswith("odps://"):
        raise click.BadParameter(ODPS)
    return value


def file_type(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:  # noqa: ARG001 (click's)
    """TorchEasyRec's name of a reader or writer, such as CsvReader, to the format of its files."""
    if value and value.startswith("Odps"):
        raise click.BadParameter(ODPS)
    return value and value.removesuffix("Reader").removesuffix("Writer").lower()


def of_tables(command: Command) -> Command:
    """The options on how tables are read."""
    readers = click.Choice(["OdpsReader", "CsvReader", "ParquetReader"])
    for option in (
        click.option("--odps_data_quota_name", hidden=True, expose_value=False, help="Of no effect: no MaxCompute."),
        click.option("--reader_type", type=readers, callback=file_type, help="By default what the file names say."),
        click.option("--batch_size", default=1024, show_default=True, help="Rows at once."),
    ):
        command = option(command)
    return command


def fitted(settings: "IndexSettings", count: int) -> "IndexSettings":
    """The settings as they are, but for more clusters than there are vectors, which no index can have."""
    if not settings.kind.startswith("IVF") or settings.nlist <= count:
        return settings
    fewer = settings.fitted(count)
    click.echo(f"{count:,} items are too few for {settings.nlist:,} clusters: {fewer.nlist:,} are used", err=True)
    return fewer


@contextlib.contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, where that is a terminal; what it gives is told of each further part that is done."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)
