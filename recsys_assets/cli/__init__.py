"""The command line `recsys`: a thin layer over the project's functions and Dagster's own API.

Each file holds one or two commands. Modules here import only click at the top, so that `recsys --help` answers at once;
Dagster is loaded by the commands that run something.
"""

import os
from typing import Any

import click

from recsys_assets.cli.backfill import backfill
from recsys_assets.cli.backup import backup, restore
from recsys_assets.cli.changes import adopt, refresh
from recsys_assets.cli.clean import clean
from recsys_assets.cli.data import bizdate, land, show
from recsys_assets.cli.deploy import deploy
from recsys_assets.cli.doctor import doctor
from recsys_assets.cli.draft import check, init
from recsys_assets.cli.errors import plain_errors
from recsys_assets.cli.feast import feast
from recsys_assets.cli.forget import forget
from recsys_assets.cli.materialize import materialize
from recsys_assets.cli.names import NameOrPath
from recsys_assets.cli.own import demo, ui
from recsys_assets.cli.published import list_published, rollback
from recsys_assets.cli.recommend import recommend
from recsys_assets.cli.replay import replay
from recsys_assets.cli.report import report
from recsys_assets.cli.serve import serve
from recsys_assets.cli.stream import stream
from recsys_assets.cli.triton import triton
from recsys_assets.cli.verify import verify
from recsys_assets.datasets.disk import keep_private
from recsys_assets.uris import guard_logs


class Commands(click.Group):
    """A group whose commands fail in plain words."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with plain_errors(lambda: f"recsys {ctx.invoked_subcommand}"):
            return super().invoke(ctx)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--profile",
    type=NameOrPath(),
    metavar="NAME_OR_PATH",
    help="Dataset profile (default: RECSYS_PROFILE, or else sample).",
)
@click.version_option(package_name="recsys-assets")
def main(profile: str | None) -> None:
    """Recommender data platform: land data, build assets by business date, inspect the results."""
    keep_private()
    guard_logs()
    if profile:
        os.environ["RECSYS_PROFILE"] = profile  # the definitions read it too, in this process and in every step's


for command in (
    init,
    check,
    land,
    bizdate,
    materialize,
    backfill,
    clean,
    show,
    doctor,
    list_published,
    rollback,
    report,
    recommend,
    serve,
    triton,
    deploy,
    stream,
    replay,
    feast,
    refresh,
    verify,
    forget,
    adopt,
    demo,
    ui,
    backup,
    restore,
):
    main.add_command(command)
