"""The result of one check of `recsys doctor`."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "fix"]


@dataclass(frozen=True)
class Finding:
    """The subject of one check, its state, and how to fix it."""

    what: str
    state: State
    found: str
    fix: str = ""
