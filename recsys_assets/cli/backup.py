"""`recsys backup` and `recsys restore`: the histories and the state of services, apart from the lake."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from recsys_assets.lake import Lake

SHOWN = 5  # partitions that a message names


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
def backup(folder: Path) -> None:
    """Write Dagster's and MLflow's history, the state of services and the manifests of the lake into a new FOLDER.

    Programs may go on running. A history in PostgreSQL is dumped by pg_dump. Copy the lake and the landing files on
    their own, before the backup.
    """
    from recsys_assets.backup import back_up

    click.echo(f"{folder}: {back_up(_lake(), folder)} files; the lake and the landing files are not among them")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def restore(folder: Path) -> None:
    """Put a backup back to the places of the settings, which must be empty; name the partitions that the lake lacks."""
    from recsys_assets.backup import restore as put_back

    done = put_back(_lake(), folder)
    click.echo(f"{done.files} files are back")
    if done.missing:
        more = f" and {len(done.missing) - SHOWN} more" if len(done.missing) > SHOWN else ""
        click.echo(f"the lake lacks, or has changed: {', '.join(done.missing[:SHOWN])}{more}: copy the lake back too")


def _lake() -> "Lake":
    from recsys_assets.datasets.profile import load_profile
    from recsys_assets.lake import Lake
    from recsys_assets.settings import settings

    return Lake.of(settings().lake, load_profile())
