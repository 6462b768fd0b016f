"""`recsys stream`: a job of a stream engine that takes fresh rows, with vectors of a deployed service."""

import click


@click.group()
def stream() -> None:
    """Take fresh rows of items, users and side tables by a job of a stream engine."""


@stream.command()
@click.argument("name")
@click.option("--once", is_flag=True, help="Take the files that are there now, and end.")
def spark(name: str, once: bool) -> None:
    """Take the files in <landing>/stream/<table>/ as they come, on Spark, until Ctrl-C.

    Vectors are those of the deployment NAME (`recsys deploy create`). PYSPARK_SUBMIT_ARGS sets the master and other
    options of Spark; without it, Spark runs in this process.
    """
    from recsys_assets.datasets.profile import load_profile
    from recsys_assets.engines.spark import refuse_missing
    from recsys_assets.lake import Lake
    from recsys_assets.serving.deployed.record import Home
    from recsys_assets.serving.deployed.service import address
    from recsys_assets.settings import settings
    from recsys_assets.streams.spark import run
    from recsys_assets.streams.taker import FOLDER, Taker

    refuse_missing()
    profile = load_profile()
    url = address(Home(profile.name, name).read())
    with Taker(profile, Lake.of(settings().lake, profile), url) as taker:
        click.echo(f"Spark takes the files in {profile.landing / FOLDER}, with vectors of {url}; Ctrl-C stops it")
        done = run(profile, taker, once=once)
    click.echo(f"{done.files:,} files: {done.rows:,} rows, {done.rejected:,} set aside, {done.changed:,} changed")
