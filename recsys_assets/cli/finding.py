"""What `recsys doctor` reports of one thing."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "fix"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at: how it is, and what to do about it."""

    what: str
    state: State
    found: str
    fix: str = ""
