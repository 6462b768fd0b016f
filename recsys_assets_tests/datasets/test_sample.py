"""The generated data set: the same for every range of days, consistent, learnable, bounded."""

import datetime as dt
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys_assets.datasets import sample as sample_module
from recsys_assets.datasets.feed import LandingError
from recsys_assets.datasets.landing import land, landed_bizdates, landing_files
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.datasets.profile_parts import TableName
from recsys_assets.datasets.sample import day_of
from recsys_assets.datasets.world import USERS, VERSION, World
from recsys_assets.metrics import auc

SINCE = dt.date(2026, 1, 1)
TODAY = dt.date(2026, 3, 2)


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    return load_profile("sample").model_copy(update={"landing": tmp_path / "landing"})


def read(profile: Profile, table: TableName) -> pd.DataFrame:
    """All rows of a dated table, in the order of the files."""
    files = [(day, file) for day in landed_bizdates(profile, table) for file in landing_files(profile, table, day)]
    return pd.concat([pd.read_parquet(file).assign(bizdate=day) for day, file in files], ignore_index=True)


def whole(world: World, day: dt.date) -> dict[TableName, pd.DataFrame]:
    parts: dict[TableName, list[pd.DataFrame]] = {}
    for table, content in day_of(world, SINCE, day):
        parts.setdefault(table, []).append(content.to_pandas())
    return {table: pd.concat(frames, ignore_index=True) for table, frames in parts.items()}


def test_a_day_is_the_same_whatever_range_is_made(profile: Profile, tmp_path: Path) -> None:
    other = profile.model_copy(update={"landing": tmp_path / "other"})
    land(profile, today=TODAY, days=5, events=5000)
    one_day = dt.date(2026, 2, 28)
    land(other, first=one_day, last=one_day, today=TODAY, days=5, events=5000)
    tables: tuple[TableName, ...] = ("interactions", "users", "items")
    for table in tables:
        ours, theirs = (landing_files(one, table, "2026-02-28") for one in (profile, other))
        assert [file.read_bytes() for file in ours] == [file.read_bytes() for file in theirs] != []


def test_another_seed_is_another_world() -> None:
    one, two = (whole(World(seed=seed), SINCE)["interactions"] for seed in (1, 2))
    assert not one.equals(two)


def test_the_range_follows_the_clock_and_the_worlds_days(profile: Profile) -> None:
    assert land(profile, today=TODAY, days=2).bizdates == ["2026-02-28", "2026-03-01"]
    assert land(profile, today=TODAY + dt.timedelta(days=1)).bizdates == ["2026-03-01", "2026-03-02"]
    assert land(profile, last=dt.date(2026, 1, 1), today=TODAY).bizdates == ["2026-01-01"]


def test_after_a_pause_the_days_in_between_land_too(profile: Profile) -> None:
    land(profile, today=TODAY, days=2)
    later = land(profile, today=TODAY + dt.timedelta(days=9)).bizdates
    assert (later[0], later[-1], len(later)) == ("2026-03-02", "2026-03-10", 9)


def test_a_day_that_is_not_over_is_refused(profile: Profile) -> None:
    with pytest.raises(LandingError, match="--to 2026-03-02 is not over yet"):
        land(profile, last=TODAY, today=TODAY)
    with pytest.raises(LandingError, match="nothing to land"):
        land(profile, today=SINCE)


def test_the_worlds_settings_are_kept_and_not_changed_afterwards(profile: Profile) -> None:
    land(profile, today=TODAY, days=2, events=3000, seed=5)
    saved = json.loads((profile.landing / "world.json").read_text())
    settings = {"users": 360, "items": 690, "events": 3000, "days": 2, "seed": 5}
    assert saved == {"version": VERSION, **settings, "since": "2026-01-01"}
    assert land(profile, today=TODAY, seed=5).changed == []
    with pytest.raises(LandingError, match="holds a world with events 3000, not 4000: use another landing folder"):
        land(profile, today=TODAY, events=4000)
    with pytest.raises(LandingError, match="with since 2026-01-01, not 2026-01-02"):
        land(profile.model_copy(update={"first_bizdate": dt.date(2026, 1, 2)}), today=TODAY)


def test_a_world_of_an_older_version_is_told_apart(profile: Profile) -> None:
    land(profile, today=TODAY, days=2, events=3000)
    path = profile.landing / "world.json"
    saved = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in saved.items() if name != "version"}))  # as version 1
    with pytest.raises(LandingError, match=r"world.json is of version 1 of the generator.*remove .* and land again"):
        land(profile, today=TODAY + dt.timedelta(days=1))
    assert landed_bizdates(profile) == ["2026-02-28", "2026-03-01"]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"since": "2026-01-01", "planets": 9}'])
def test_a_damaged_world_file_is_named(profile: Profile, text: str) -> None:
    profile.landing.mkdir()
    (profile.landing / "world.json").write_text(text)
    with pytest.raises(LandingError, match=r"world.json is damaged"):
        land(profile, today=TODAY)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"users": 0}, "--users 0: must be at least 10"),
        ({"days": 0}, "--days 0"),
        ({"planets": 9}, "no setting planets"),
        ({"events": 10**7, "users": 300}, "give more --items or --users"),
        ({"items": 50, "days": 3000}, "only 2 items a day"),
    ],
)
def test_worlds_that_cannot_be_are_refused(profile: Profile, options: dict[str, int], message: str) -> None:
    with pytest.raises(LandingError, match=message):
        land(profile, today=TODAY, **options)  # type: ignore[arg-type]
    assert not (profile.landing / "world.json").exists()


def test_what_is_not_given_follows_from_the_days_and_the_events() -> None:
    assert World.of({}) == World()
    assert World.of({"days": 60}) == World(users=900, items=960, events=80_000, days=60)
    assert World.of({"events": 4_000_000}) == World(users=60_000, items=8000, events=4_000_000)
    assert World.of({"events": 4_000_000, "items": 900}) == World(users=60_000, items=900, events=4_000_000)
    assert World.of({"events": 100}) == World(users=10, items=100, events=100)


@pytest.mark.parametrize(
    "options", [{"events": 100}, {"days": 1}, {"events": 100, "days": 365}, {"events": 300_000, "users": 600}]
)
def test_worlds_of_any_shape_can_be_made(options: dict[str, int]) -> None:
    world = World.of(options)
    days = min(world.days, 20)
    made = sum(len(whole(world, SINCE + dt.timedelta(days=n))["interactions"]) for n in range(days))
    # The standard deviation of one day of the default world is 9 %.
    assert made == pytest.approx(world.events * days / world.days, rel=0.2, abs=100)


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> dict[TableName, pd.DataFrame]:
    profile = load_profile("sample").model_copy(update={"landing": tmp_path_factory.mktemp("landing")})
    land(profile, today=TODAY)
    tables: tuple[TableName, ...] = ("interactions", "users", "items")
    return {table: read(profile, table) for table in tables}


def test_the_world_has_the_size_that_was_asked_for(month: dict[TableName, pd.DataFrame]) -> None:
    events = month["interactions"]
    assert len(events) == pytest.approx(World.events, rel=0.1)
    assert month["users"].user_id.nunique() == pytest.approx(World.users, rel=0.15)
    assert month["items"].item_id.nunique() == pytest.approx(World.items, rel=0.1)
    assert events.bizdate.nunique() == World.days


def test_events_fit_the_tables_of_their_day(month: dict[TableName, pd.DataFrame]) -> None:
    events = month["interactions"]
    for table, key in (("users", "user_id"), ("items", "item_id")):
        known = month[table]  # type: ignore[index]
        assert not known.duplicated([key, "bizdate"]).any()
        assert len(events.merge(known, on=[key, "bizdate"])) == len(events)
        stays = known.drop(columns="bizdate").astype(str).drop_duplicates()
        assert stays[key].is_unique  # the visible attributes never change
    assert not events.duplicated(["user_id", "item_id", "bizdate"]).any()
    assert (pd.to_datetime(events.timestamp, unit="s").dt.strftime("%Y-%m-%d") == events.bizdate).all()
    assert events.groupby("bizdate").timestamp.apply(lambda time: time.is_monotonic_increasing).all()
    assert events.duplicated(["user_id", "timestamp"]).sum() > 100  # ties, which need a stated order


def test_users_and_items_come_and_go(month: dict[TableName, pd.DataFrame]) -> None:
    days = sorted(month["items"].bizdate.unique())
    first, last = (set(month["items"].query("bizdate == @day").item_id) for day in (days[0], days[-1]))
    assert first - last
    assert last - first
    born = month["users"].groupby("user_id").bizdate.min()
    assert (born == days[-1]).sum() >= 3
    assert (month["users"].user_id.max() - 1) / USERS.rate(600, 30) - 45 < 60  # nobody from the future


def test_labels_follow_the_true_probability(month: dict[TableName, pd.DataFrame]) -> None:
    events = month["interactions"]
    label, truth = events.rating > 3, events.true_probability
    assert set(events.rating) == {1, 2, 3, 4, 5}
    assert 0.5 < label.mean() < 0.6
    assert 0.80 < auc(label.to_numpy(), truth.to_numpy()) < 0.85
    by_tenth = pd.DataFrame({"label": label, "truth": truth}).groupby((truth * 10).astype(int))
    error = by_tenth.label.mean() - by_tenth.truth.mean()
    assert (error.abs() < 4 * np.sqrt(0.25 / by_tenth.size())).all()  # four standard errors


def test_popularity_is_skewed_and_drifts(month: dict[TableName, pd.DataFrame]) -> None:
    events = month["interactions"]
    share = events.item_id.value_counts(normalize=True)
    assert share.head(len(share) // 10).sum() > 0.3
    assert share.iloc[0] < 0.1
    half = events.bizdate < sorted(events.bizdate.unique())[15]
    before, after = (events[part].item_id.value_counts(normalize=True) for part in (half, ~half))
    assert before.sub(after, fill_value=0).abs().sum() / 2 > 0.15  # total variation distance; chance alone gives 0.07


def test_users_see_more_of_what_suits_them(month: dict[TableName, pd.DataFrame]) -> None:
    events = month["interactions"].merge(month["users"].drop_duplicates("user_id"), on="user_id")
    shuffled = events.sample(frac=1, random_state=0)
    genres = month["items"].drop_duplicates("item_id").set_index("item_id").genres.map(lambda names: names[0])
    seen, by_chance = (
        pd.crosstab(rows.gender.to_numpy(), genres[rows.item_id].to_numpy(), normalize="index")
        for rows in (events, events.assign(gender=shuffled.gender.to_numpy()))
    )
    distance, chance = (float(np.abs(table.loc["F"] - table.loc["M"]).sum()) for table in (seen, by_chance))
    assert distance > 3 * chance


def test_a_large_day_comes_in_slices_of_its_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_module, "EVENTS_A_FILE", 500)
    parts = [table.to_pandas() for name, table in day_of(World(), SINCE, SINCE) if name == "interactions"]
    assert len(parts) == 3
    users = [set(part.user_id) for part in parts]
    assert not (users[0] & users[1] or users[1] & users[2] or users[0] & users[2])
    assert sum(map(len, parts)) == pytest.approx(40_000 / 30, rel=0.3)
