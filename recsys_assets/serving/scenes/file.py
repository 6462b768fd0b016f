"""Reading a file of scenes, `<profile>.scenes.yaml` next to the profile or the one that `RECSYS_SCENES` names."""

from pathlib import Path

from pydantic import ValidationError

from recsys_assets.datasets.profile import Profile, profile_path
from recsys_assets.datasets.profile_yaml import Content, Fault, environment, fault_text, form_faults, read
from recsys_assets.serving.scenes.faults import faults
from recsys_assets.serving.scenes.form import Rules
from recsys_assets.settings import Settings

_SHOWN = 5  # one message names at most this many faults


class ScenesError(ValueError):
    """A file of scenes that cannot be used; the message names the file, the key and what to do."""


def scenes_path(place: Settings, profile: str | None = None) -> Path:
    """The file of scenes of a profile, given its name or path (default: `RECSYS_PROFILE`); it need not be there.

    Raises:
        ProfileError: there is no such profile.
    """
    if place.scenes:
        return place.home / Path(place.scenes).expanduser()
    return profile_path(profile or place.profile, place.home).with_suffix(".scenes.yaml")


def read_scenes(path: Path, profile: Profile) -> Rules:
    """The rules of a file.

    Raises:
        ScenesError: it has faults, each named by its line and key.
    """
    try:
        content = read(path, environment(profile.landing))
    except Fault as fault:
        raise ScenesError(f"{path}{fault_text(fault.place, str(fault), fault.line)}") from None
    try:
        rules = Rules.model_validate(content.values)
    except ValidationError as error:
        raise _error(path, content, form_faults(content, error, "files of scenes")) from None
    if found := list(faults(rules, profile)):
        raise _error(path, content, found)
    return rules


def _error(path: Path, content: Content, found: list[Fault]) -> ScenesError:
    """One error for all faults, in one line; if they are many, it names the first ones."""
    texts = [fault_text(each.place, content.mask(str(each)), content.line(each.place)[1]) for each in found[:_SHOWN]]
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ScenesError(f"{path}, {'; '.join(text.removeprefix(', ') for text in texts)}{more}")
