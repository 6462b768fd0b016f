"""`recsys doctor`: checks that everything the platform needs is in place, and says how to fix what is not."""

from collections.abc import Iterator

import click

from recsys_assets.cli import dataset, installation, outdated, places, stores, tracking, verify
from recsys_assets.cli.finding import Finding
from recsys_assets.settings import Settings, settings
from recsys_assets.uris import NotAFolder, without_secrets


@click.command()
@click.option("--verify", "thorough", is_flag=True, help="Also read every partition of the lake, 1.5 GB per second.")
def doctor(thorough: bool) -> None:
    """Check Python, packages, places, ports, profile, landing and stores; say how to fix what is wrong."""
    marks = {
        "ok": click.style("ok  ", "green"),
        "note": click.style("note", "yellow"),
        "fix": click.style("FIX ", "red"),
    }
    problems = 0
    for finding in findings(thorough):
        click.echo(f"{marks[finding.state]}  {finding.what:<10} {without_secrets(finding.found)}")
        if finding.fix:
            click.echo(f"{'':16} -> {finding.fix}")
        problems += finding.state == "fix"
    if problems:
        raise click.ClickException("1 problem found" if problems == 1 else f"{problems} problems found")


def findings(thorough: bool) -> Iterator[Finding]:
    """All checks, one after the other."""
    yield installation.python()
    try:
        place = settings()
    except NotAFolder as error:
        yield Finding("settings", "fix", str(error), "correct it and run recsys doctor again: the rest depends on it")
        return
    yield installation.packages(place)
    yield from _of_places(place)
    if thorough:
        yield from verify.findings(place)


def _of_places(place: Settings) -> Iterator[Finding]:
    yield dataset.profile(place)
    yield dataset.landing(place)
    yield places.lake(place)
    yield outdated.outdated(place)
    yield places.data(place)
    yield places.disk(place)
    yield places.history(place)
    yield tracking.tracking(place)
    yield places.dagster_ui(place)
    yield places.mlflow_ui(place)
    yield from stores.findings(place)
