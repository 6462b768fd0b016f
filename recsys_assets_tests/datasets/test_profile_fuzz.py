"""Nearly valid profiles in a fixed order: each is refused with name and line, or everything built from it works."""

import time

from recsys_assets_tests.profile_fuzz import attempt

BUDGET = 10.0  # seconds of one core
LEAST = 30  # profiles that must be tried within the budget


def test_a_profile_is_refused_by_name_or_works() -> None:
    start, seed, ends, wrong = time.process_time(), 0, [], []
    while time.process_time() - start < BUDGET or seed < LEAST:
        ended, said = attempt(seed)
        ends.append(ended)
        wrong += [said] if said else []
        seed += 1
    assert not wrong
    assert {"samples", "ProfileError"} <= set(ends)
