"""The command line `recsys`: a thin door to the same functions and to Dagster's own API.

One file a command or two. Modules here import only click at the top: `recsys --help` answers at once, and
Dagster is loaded by the commands that run something.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import click

from recsys_assets.cli.adopt import adopt
from recsys_assets.cli.data import bizdate, land, show
from recsys_assets.cli.doctor import doctor
from recsys_assets.cli.materialize import materialize
from recsys_assets.cli.published import published, rollback
from recsys_assets.cli.recommend import recommend
from recsys_assets.cli.refresh import refresh
from recsys_assets.datasets.disk import history, keep_private, written_to


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Say an error that the package itself names in its own words, without a traceback.

    What no part of it has named is mostly Dagster's, whose history is read and written by almost every command.
    """
    try:
        with written_to(history()):
            yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "recsys_assets":
            raise
        raise click.ClickException(str(error)) from error


class Commands(click.Group):
    """A group whose commands fail in plain words."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with plain_errors():
            return super().invoke(ctx)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--profile", metavar="NAME_OR_PATH", help="Dataset profile (else RECSYS_PROFILE, else sample).")
@click.version_option(package_name="recsys-assets")
def main(profile: str | None) -> None:
    """Recommender data platform: land data, build assets by business date, look at what was built."""
    keep_private()
    if profile:
        os.environ["RECSYS_PROFILE"] = profile  # the definitions read it too, in this and in every step's process


for command in (land, bizdate, materialize, show, doctor, published, rollback, recommend, refresh, adopt):
    main.add_command(command)
