"""Where Feast keeps what: the folder of a profile's feature repository, its project, and its online store."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from recsys_assets.datasets.profile import Profile
from recsys_assets.settings import Settings, settings
from recsys_assets.stores.feast.snapshots import Side
from recsys_assets.stores.registry import STORES
from recsys_assets.stores.store import StoreError
from recsys_assets.uris import is_folder, safe_uri

VARIABLE = "RECSYS_FEAST_URI"
ONLINE_DATABASE, REGISTRY = "online.db", "registry.db"


class FeastFailed(StoreError):
    """Feast refuses, fails or is not set up; the message says what was done and how to go on."""


@dataclass(frozen=True)
class Place:
    """The feature repository of a profile.

    Attributes:
        folder: of the repository: its settings, definitions, registry and, without Redis, the online store.
        project: the name of the project in Feast, with which the names of its services begin.
        redis: the URI of the online store; empty: it is an SQLite file in the folder.
    """

    folder: Path
    project: str
    redis: str = field(default="", repr=False)

    def service(self, side: Side) -> str:
        """The name of the feature service of a side."""
        return service_of(self.project, side)


def service_of(project: str, side: Side) -> str:
    """The name of the feature service of a side, as recsys_pipeline has it: `ml_user`, `ml_item`."""
    return f"{project}_{side.name}"


def project_of(profile: Profile) -> str:
    """The project in Feast: the one that the profile names, or else the profile's own name."""
    name = re.sub(r"\W", "_", profile.name)
    return profile.publishing.feast or (name if name.isidentifier() else f"p_{name}")


def feast_place(profile: Profile, place: Settings | None = None) -> Place | None:
    """The feature repository of a profile; None if the setting `RECSYS_FEAST_URI` is not given.

    Raises:
        FeastFailed: the setting is not a folder.
    """
    place = place or settings()
    folder = place.stores.get(VARIABLE)
    if not folder:
        return None
    if not is_folder(folder):
        raise FeastFailed(f"{VARIABLE} is {safe_uri(folder)}, an address: give the path of a folder of this machine")
    return Place(Path(folder) / profile.name, project_of(profile), place.stores.get(STORES["redis"].variable, ""))


def needed_place(profile: Profile) -> Place:
    """The same, where nothing can be done without it.

    Raises:
        FeastFailed: the setting is not given, or is not a folder.
    """
    if place := feast_place(profile):
        return place
    raise FeastFailed(f"{VARIABLE} is not set: give the folder of the feature repository, such as data/feast")
