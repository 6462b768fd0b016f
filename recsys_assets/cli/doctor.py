"""`recsys doctor`: is everything here that the platform needs, and how to mend what is not."""

from collections.abc import Iterator

import click

from recsys_assets.cli import installation, places, stores
from recsys_assets.cli.finding import Finding
from recsys_assets.settings import Settings, settings


@click.command()
def doctor() -> None:
    """Check Python, packages, places, ports, profile, landing and stores; say how to mend what is wrong."""
    marks = {
        "ok": click.style("ok  ", "green"),
        "note": click.style("note", "yellow"),
        "mend": click.style("MEND", "red"),
    }
    wrong = 0
    for finding in findings(settings()):
        click.echo(f"{marks[finding.state]}  {finding.what:<10} {finding.found}")
        if finding.mend:
            click.echo(f"{'':16} -> {finding.mend}")
        wrong += finding.state == "mend"
    if wrong:
        raise click.ClickException(f"{wrong} to be mended")


def findings(place: Settings) -> Iterator[Finding]:
    """All checks, one after the other."""
    yield installation.python(place)
    yield installation.packages(place)
    yield _profile(place)
    yield _landing(place)
    yield places.lake(place)
    yield places.tracking(place)
    yield places.disk(place)
    yield places.dagster_ui(place)
    yield places.mlflow_ui(place)
    yield from stores.findings(place)


def _profile(place: Settings) -> Finding:
    from recsys_assets.datasets.profile import ProfileError, load_profile

    try:
        profile = load_profile(place=place)
    except ProfileError as error:
        return Finding("profile", "mend", str(error), "correct it, or pick another with RECSYS_PROFILE")
    until = f" to {profile.last_bizdate}" if profile.last_bizdate else ""
    return Finding("profile", "ok", f"{profile.name}: {profile.title}, from {profile.first_bizdate}{until}")


def _landing(place: Settings) -> Finding:
    from recsys_assets.cli.days import complete_bizdates
    from recsys_assets.datasets.feed import LandingError
    from recsys_assets.datasets.profile import ProfileError, load_profile

    try:
        profile = load_profile(place=place)
        days = complete_bizdates(profile)
    except ProfileError:
        return Finding("landing", "note", "unknown without a profile")
    except LandingError as error:
        return Finding("landing", "mend", str(error))
    if not days:
        how = f"recsys land {profile.name}" if profile.source else f"put landing files under {profile.landing}"
        return Finding("landing", "note", f"nothing has landed in {profile.landing}", how)
    return Finding("landing", "ok", f"{len(days):,} days, {days[0]} to {days[-1]}, in {profile.landing}")
