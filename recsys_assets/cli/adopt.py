"""`recsys adopt`: record in lake, stores and tracking that a changed profile still describes their data set."""

import click


@click.command()
def adopt() -> None:
    """Accept the profile as a new description of the data set that is already there.

    Use it for a profile that gained a column or whose landing folder moved. For a different data set, give the profile
    a different name instead.
    """
    from recsys_assets.datasets.profile import load_profile
    from recsys_assets.lake import Lake
    from recsys_assets.settings import settings
    from recsys_assets.stores.registry import configured, opened
    from recsys_assets.tracking import Tracking
    from recsys_assets.uris import shown

    profile = load_profile()
    lake = Lake(settings().lake, profile.name)
    lake.adopt(profile)
    for name in configured():
        with opened(name, profile.name) as store:
            if store.collections():
                store.claim(lake.owner)
    Tracking(profile=settings().profile).adopt(lake.owner)
    click.echo(
        f"{shown(lake.folder)}, stores and tracking hold the data set that the profile '{profile.name}' describes"
    )
