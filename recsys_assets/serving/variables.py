"""Numbers that the service reads from the environment."""

import math
from collections.abc import Mapping
from contextlib import suppress


class InvalidVariable(ValueError):
    """A variable holds something other than what it may; the message names it."""


def number(environment: Mapping[str, str], name: str, default: float, most: float, least: float = 0.0) -> float:
    """The number that a variable holds; `default` if it is unset or empty.

    Raises:
        InvalidVariable: it is not a number in these bounds.
    """
    given = environment.get(name) or str(default)
    with suppress(ValueError):
        if least <= (found := float(given)) <= most:
            return found
    raise InvalidVariable(f"{name}={given} is not a number from {least:g} to {most:,.0f}")


def milliseconds(environment: Mapping[str, str], name: str) -> float | None:
    """The number of milliseconds that a variable holds; None if it is unset or empty.

    Raises:
        InvalidVariable: it is not a number above 0.
    """
    if not (given := environment.get(name)):
        return None
    with suppress(ValueError):
        if 0 < (found := float(given)) < math.inf:
            return found
    raise InvalidVariable(f"{name}={given}: write a number of milliseconds above 0, or leave it out")
