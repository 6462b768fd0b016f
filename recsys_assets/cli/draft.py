"""`recsys init` and `recsys check`: a first profile for a log, and what would fail with it."""

import datetime as dt
import re
import shlex
from pathlib import Path

import click

from recsys_assets.cli.names import NameOrPath

File = click.Path(path_type=Path)


@click.command()
@click.argument("log", type=File)
@click.option("--users-file", "users", type=File, help="A file with a row for each user.")
@click.option("--items-file", "items", type=File, help="A file with a row for each item.")
@click.option("--name", help="Name of the data set (default: from the file's name).")
@click.option("--output", type=File, help="Where to write the profile (default: NAME.yaml).")
def init(log: Path, users: Path | None, items: Path | None, name: str | None, output: Path | None) -> None:
    """Look at LOG (one CSV, TSV, Parquet or JSON-lines file) and write a commented profile for it."""
    from recsys_assets.datasets.drafting.draft import draft_profile
    from recsys_assets.datasets.duck import connect

    name = name or re.sub(r"[^a-z0-9]+", "-", log.name.partition(".")[0].lower()).strip("-")[:48] or "mine"
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,47}", name):  # as profiles require, and part of paths
        raise click.BadParameter("give 1 to 48 lower-case letters, digits, - and _, such as shop", param_hint="--name")
    output = output or Path(f"{name}.yaml")
    if output.exists():
        raise click.ClickException(f"{output} is there already: remove it, or give another --output")
    others = {table: path for table, path in (("users", users), ("items", items)) if path}
    with connect(*{path.absolute().parent for path in (log, *others.values())}) as connection:
        text = draft_profile(connection, name, log.absolute(), others, dt.datetime.now(dt.UTC).date())
    output.write_text(text, encoding="utf-8")
    given = [part for table, path in others.items() for part in (f"--{table}-file", str(path))]
    click.echo(f"{output} is written: read it, and change what is wrong. Then:")
    click.echo(shlex.join(["recsys", "land", str(output), "--source", str(log), *given]))
    click.echo(shlex.join(["recsys", "check", str(output)]))
    click.echo(shlex.join(["recsys", "--profile", str(output), "materialize", "*"]))


@click.command()
@click.argument("profile", type=NameOrPath())
def check(profile: str) -> None:
    """Say within seconds what would fail if the graph were built with PROFILE (a name or a YAML file)."""
    from recsys_assets.datasets.profile import load_profile
    from recsys_assets.datasets.rehearsal import rehearse
    from recsys_assets.serving.scenes.file import read_scenes, scenes_path
    from recsys_assets.settings import settings

    loaded, scenes, faults = load_profile(profile), scenes_path(settings(), profile), 0
    if scenes.exists():
        click.echo(f"· scenes of {scenes}: {', '.join(read_scenes(scenes, loaded).scenes) or 'none'}")
    for finding in rehearse(loaded):
        click.echo(f"{'✗' if finding.is_fault else '·'} {finding.text}")
        faults += finding.is_fault
    if faults:
        raise click.ClickException(
            f"{faults} of these would stop the graph" if faults > 1 else "this would stop the graph"
        )
    click.echo(f"✓ nothing is in the way of: recsys --profile {profile} materialize '*'")
