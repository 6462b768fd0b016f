"""`recsys doctor` on the dataset: its profile and its landing files."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_assets.cli.finding import Finding
from recsys_assets.settings import Settings

if TYPE_CHECKING:
    from recsys_assets.datasets.profile import Profile


def profile(place: Settings) -> Finding:
    """The profile can be read."""
    from recsys_assets.datasets.profile import ProfileError, load_profile

    try:
        found = load_profile(place=place)
    except ProfileError as error:
        return Finding("profile", "fix", str(error), "correct it, or pick another with RECSYS_PROFILE")
    until = f" to {found.last_bizdate}" if found.last_bizdate else ""
    return Finding("profile", "ok", f"{found.name}: {found.title}, from {found.first_bizdate}{until}")


def landing(place: Settings) -> Finding:
    """The landing folder exists, can be read, and has days that have ended."""
    from recsys_assets.cli.days import complete_bizdates
    from recsys_assets.datasets.feed import LandingError
    from recsys_assets.datasets.profile import ProfileError, load_profile

    try:
        profile = load_profile(place=place)
        if unusable := _unusable(profile, place):
            return unusable
        days = complete_bizdates(profile)
    except ProfileError:
        return Finding("landing", "note", "not checked, because the profile cannot be read")
    except LandingError as error:
        return Finding("landing", "fix", str(error))
    if not days:
        how = f"recsys land {profile.name}" if profile.source else f"put landing files under {profile.landing}"
        return Finding("landing", "note", f"nothing has landed in {profile.landing}", how)
    return Finding("landing", "ok", f"{len(days):,} days, {days[0]} to {days[-1]}, in {profile.landing}")


def _unusable(profile: "Profile", place: Settings) -> Finding | None:
    """The problem with a landing folder that was named but does not exist, or in which something cannot be read."""
    chosen = place.landing != place.data / "landing" and profile.landing.is_relative_to(place.landing)
    if chosen and not place.landing.is_dir():
        return Finding("landing", "fix", f"{place.landing} is not a folder", "correct RECSYS_LANDING, or create it")
    if not chosen and not profile.source and not profile.landing.is_dir():
        return Finding("landing", "fix", f"{profile.landing} is not a folder", "correct the profile's `landing`")
    if closed := _unreadable(profile.landing):
        more = f" and {len(closed) - 1:,} more" if len(closed) > 1 else ""
        return Finding("landing", "fix", f"{closed[0]}{more} cannot be read", f"chmod -R u+rX '{profile.landing}'")
    return None


def _unreadable(folder: Path) -> list[str]:
    """Folders and files that this user may not read; a search for files skips such folders silently."""
    closed: list[str] = []
    walk = os.walk(folder, onerror=lambda error: closed.append(str(error.filename)))
    files = [os.path.join(top, name) for top, _, names in walk for name in names]  # noqa: PTH118  like those of os.walk
    return [*(path for path in closed if Path(path) != folder or folder.exists()), *_refused(files)]


def _refused(files: list[str]) -> list[str]:
    return [path for path in files if not os.access(path, os.R_OK)]
