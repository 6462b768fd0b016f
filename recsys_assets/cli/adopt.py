"""`recsys adopt`: tell lake, stores and tracking that a changed profile still describes their data set."""

import click


@click.command()
def adopt() -> None:
    """Accept the profile as a new description of the data set that is already there.

    For a profile that gained a column or whose landing folder moved. For another data set, give the profile another
    name instead.
    """
    from recsys_assets.datasets.profile import load_profile
    from recsys_assets.lake import Lake
    from recsys_assets.settings import settings

    profile = load_profile()
    lake = Lake(settings().lake, profile.name)
    dataset = lake.adopt(profile)
    click.echo(f"{lake.folder}: the data set '{dataset.name}' is now as the profile describes it")
