"""The rehearsal of `recsys check`: what would stop the graph, found within seconds."""

import re
from pathlib import Path

import pytest

from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.datasets.rehearsal import rehearse
from recsys_assets_tests.helpers.shop import CSV, DAY, OWN, csv, put


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    monkeypatch.setenv("RECSYS_LANDING", str(tmp_path))
    (tmp_path / "own.yaml").write_text(OWN.replace("by_day", "per_user_tail, test_ratio: 0.4, validation_ratio: 0.4"))
    profile = load_profile(str(tmp_path / "own.yaml"))
    put(profile, "users/users.csv", "user_id,gender,age\n1,F,30\n2,M,30\n3,F,30\n")
    put(profile, "items/items.csv", "item_id,title,genres\n10,A,x|y\n11,B,y\n12,C,x\n13,D,x\n")
    return profile


def said(profile: Profile) -> tuple[str, list[str]]:
    """Everything that is said, and the faults among it."""
    found = list(rehearse(profile))
    return "\n".join(each.text for each in found), [each.text for each in found if each.is_fault]


def rows(rating: int = 0) -> list[str]:
    start = 1767571200
    return [f"{1 + n % 3},{10 + n % 4},{rating or 1 + n % 5},{start + 60 * n}" for n in range(60)]


def test_nothing_has_landed(own: Profile) -> None:
    _, faults = said(own)
    assert len(faults) == 1
    assert "nothing has landed" in faults[0]


def test_a_sound_log_has_no_fault_and_dull_features_are_named(own: Profile) -> None:
    put(own, CSV, csv(*rows()))
    moment = own.features.model_copy(update={"moment": ["hour", "weekday"]})
    text, faults = said(own.model_copy(update={"features": moment}))
    assert not faults
    assert "features.moment: hour has no two values" in text
    assert "60 events of the newest 1 of 1 days were read" in text
    assert "features: age has one value only" in text
    assert "features: gender" not in text


def test_rows_that_ingest_would_reject_are_counted_and_too_many_are_a_fault(own: Profile) -> None:
    put(own, CSV, csv(*rows(), *(f"99,10,5,{1767571200 + n}" for n in range(60))))
    text, faults = said(own)
    assert "60 rows would be rejected: user_id is unknown" in text
    assert len(faults) == 1
    assert f"1 days, such as {DAY}, have more rejected rows than bounds.max_rejected_rate 0.2 allows" in faults[0]


def test_labels_of_one_class_are_named(own: Profile) -> None:
    put(own, CSV, csv(*rows(rating=5)))
    text, faults = said(own)
    assert not faults
    assert "labels are all the same in" in text


def test_a_jump_of_the_label_rate_is_a_fault(own: Profile) -> None:
    put(own, CSV, csv(*rows()))
    later = [f"{1 + n % 3},{10 + n % 4},5,{1767571200 + 86400 + 60 * n}" for n in range(60)]
    put(own, CSV.replace(DAY, "2026-01-06"), csv(*later))
    _, faults = said(own)
    assert len(faults) == 1
    assert re.match(r"100% of the newest day's events are positives, and \d\d% of those of the day before", faults[0])


def test_a_file_that_cannot_be_read_is_a_fault(own: Profile) -> None:
    put(own, CSV, "user,item\n1,2\n")
    _, faults = said(own)
    assert len(faults) == 1
    assert "events.csv" in faults[0]
