"""A user who is to be forgotten: their id in the profile's type, everything that holds it, and its removal."""

import re
from dataclasses import dataclass, field

from recsys_assets.datasets.landed_user import USER
from recsys_assets.datasets.landing import landed_bizdates
from recsys_assets.datasets.profile import Profile
from recsys_assets.forget import lake as in_lake
from recsys_assets.forget import landing, services
from recsys_assets.forget.landing import InLanding
from recsys_assets.forget.services import InServices
from recsys_assets.lake import Lake

_INTEGER = re.compile(r"[+-]?[0-9]+")


class CannotForget(RuntimeError):
    """A user cannot be forgotten, or not wholly; nothing was changed unless the message says so."""


@dataclass(frozen=True)
class Traces:
    """Everything that holds a user.

    Attributes:
        landing: files of the landing folder.
        services: state of services of this machine.
        partitions: rows of each partition of the lake that has some, by asset and bizdate.
    """

    landing: InLanding = field(default_factory=InLanding)
    services: InServices = field(default_factory=InServices)
    partitions: dict[tuple[str, str], int] = field(default_factory=dict)

    @property
    def is_somewhere(self) -> bool:
        """Whether something is the user's; a line that is not a row may only happen to have the id as a word."""
        rows = sum(self.landing.rows.values()) - self.landing.lines
        return bool(rows or self.services != InServices() or self.partitions)


def user_id(profile: Profile, said: str) -> int | str:
    """The id of a user as the profile has it: what looks like a number is a text where ids are texts.

    Raises:
        CannotForget: the data set has no users, or its ids are numbers and this is none.
    """
    columns = profile.tables["interactions"]
    if not profile.has_entities or USER not in columns:
        raise CannotForget(f"the rows of '{profile.name}' are of no user: its profile has no column user_id")
    if not said:
        raise CannotForget("an empty text is not the id of a user: it stands for a missing one")
    if columns[USER].type == "string":
        return said
    if not _INTEGER.fullmatch(said) or not -(2**63) <= int(said) < 2**63:
        raise CannotForget(f"{said!r} is not the id of a user: those of '{profile.name}' are whole numbers")
    return int(said)


def find(profile: Profile, lake: Lake, user: int | str) -> Traces:
    """Find everything that holds a user, and check that it can be removed.

    Raises:
        CannotForget: nothing holds the user, or days of events do whose landing files are gone.
        LandedFileError, CannotRewrite: a landing file cannot be read, or cannot be written without the user.
    """
    found = Traces(landing.find(profile, user), services.find(profile, user), in_lake.find(lake, user))
    if not found.is_somewhere:
        raise CannotForget(
            f"no user {str(user)!r} in landing files, told events, fresh rows, the request log or the lake of "
            f"'{profile.name}'"
        )
    days = {day for asset, day in found.partitions if asset == "interactions"}
    if gone := sorted(days - set(landed_bizdates(profile))):
        more = f" and {len(gone) - 3} more days" if len(gone) > 3 else ""
        raise CannotForget(
            f"the lake has events of user {str(user)!r} on {', '.join(gone[:3])}{more}, whose landing files are gone: "
            "without them these days cannot be ingested again; put the files back, and run the command again"
        )
    return found


def remove(profile: Profile, user: int | str, found: Traces) -> None:
    """Remove a user from services and from landing files, in this order: told events would land again.

    Raises:
        LandingError, PlaceUnwritable, filelock.Timeout: something cannot be written; run the command again then.
    """
    services.remove(profile, user, found.services)
    landing.remove(profile, user, found.landing)
