"""Profiles that are nearly right, in a fixed order: each is refused by name and line, or what is made of it works."""

import time

from recsys_assets_tests.profile_fuzz import attempt

BUDGET = 10.0  # seconds of a core
LEAST = 30  # profiles that have to be tried within it


def test_a_profile_is_refused_by_name_or_works() -> None:
    start, seed, ends, wrong = time.process_time(), 0, [], []
    while time.process_time() - start < BUDGET or seed < LEAST:
        ended, said = attempt(seed)
        ends.append(ended)
        wrong += [said] if said else []
        seed += 1
    assert not wrong
    assert {"samples", "ProfileError"} <= set(ends)
