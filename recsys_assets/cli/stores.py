"""`recsys doctor` on the stores that services read."""

from collections.abc import Iterator

from recsys_assets.cli.finding import Finding
from recsys_assets.settings import Settings


def findings(place: Settings) -> Iterator[Finding]:
    """Every configured store answers; if no MongoDB is named, the project's own server does."""
    from recsys_assets.datasets.profile import ProfileError, load_profile
    from recsys_assets.stores.registry import configured

    try:
        profile = load_profile(place=place).name
    except ProfileError:
        return  # already reported
    for name in configured(place):
        yield _answers(name, profile, place)


def _answers(name: str, profile: str, place: Settings) -> Finding:
    from recsys_assets.stores.registry import STORES, opened
    from recsys_assets.stores.store import StoreError

    variable = STORES[name].variable
    whose = f"the one of {variable}" if variable in place.stores else "the project's own"
    try:
        with opened(name, profile, place) as store:
            live = sum(store.live(collection) is not None for collection in store.collections())
    except StoreError as error:
        return Finding(name, "fix", str(error), f"start the server, or set {variable}")
    return Finding(name, "ok", f"{whose} answers, with {live} live collections of {profile}")
