"""Cold-start samples of real files, compared with the same rows counted in plain Python."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from recsys_assets.coldstart.boundaries import fit_boundaries, with_boundaries
from recsys_assets.coldstart.samples import sample_query
from recsys_assets.coldstart.template import DEFAULT, Label, Template
from recsys_assets.datasets.duck import connect
from recsys_assets.datasets.profile import load_profile
from recsys_assets.datasets.splits import PARTS
from recsys_assets.features.schema import Feature, FeatureSchema
from recsys_assets.retrieval.interactions import from_table

DAYS, START = 12, pd.Timestamp(2026, 1, 1)


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    """Events of 12 days, of which the newest three pairs of days are validation, test and online; pairs recur."""
    rng = np.random.default_rng(0)
    count = 3000
    seconds = rng.integers(0, DAYS * 86_400, count)
    made = pd.DataFrame({"user_id": rng.integers(1, 9, count), "item_id": rng.integers(1, 20, count)})
    made["rating"] = rng.integers(1, 6, count).astype("float32")
    made["timestamp"] = START + pd.to_timedelta(seconds, unit="s")
    made["seq"] = np.arange(count)
    made["label"] = (made["rating"] > 3).astype("int8")
    made["part"] = np.select([seconds < n * 86_400 for n in (6, 8, 10)], PARTS[:3], PARTS[3])
    return made


def samples(log: pd.DataFrame, folder: Path, template: Template) -> pd.DataFrame:
    log[["user_id", "item_id", "rating", "timestamp", "seq"]].to_parquet(folder / "events.parquet")
    log[["user_id", "item_id", "timestamp", "seq", "label", "part"]].to_parquet(folder / "splits.parquet")
    query = sample_query(load_profile("sample"), template, [folder / "events.parquet"], folder / "splits.parquet")
    with connect(folder) as connection:
        found: pd.DataFrame = connection.sql(query).df()
        return found


def test_rows_are_users_items_and_days_with_the_label_of_the_template(log: pd.DataFrame, tmp_path: Path) -> None:
    label = Label(name="stars", selection="max(if(rating >= 4, rating, 0))", type="double")
    found = samples(log, tmp_path, Template(model_name="m", label=label, train_days=3))
    log = log[(log.part != "online") & (log.timestamp >= START + pd.Timedelta(days=3))]
    days = log.timestamp.dt.floor("D").rename("bizdate")
    stars = log.rating.where(log.rating >= 4, 0).groupby([log.user_id, log.item_id, days]).max()
    read = found.set_index(["user_id", "item_id", "bizdate"])
    pd.testing.assert_series_equal(
        read.stars.sort_index(), stars.sort_index().astype(float), check_names=False, check_index_type=False
    )
    assert (found.label == (found.stars > 0)).all()
    assert sorted(found.bizdate[found.part == "train"].dt.day.unique()) == [4, 5, 6]
    assert set(found.part) == {"train", "validation", "test"}


def test_without_a_template_all_days_train_on_the_label_of_the_profile(log: pd.DataFrame, tmp_path: Path) -> None:
    found = samples(log, tmp_path, DEFAULT)
    assert set(found.bizdate[found.part == "train"].dt.day) == {1, 2, 3, 4, 5, 6}
    liked = log[(log.part == "train") & (log.label > 0)]
    assert found.label[found.part == "train"].sum() == len(
        liked.groupby(["user_id", "item_id", liked.timestamp.dt.day])
    )


def test_rows_are_events_in_order_for_the_trainer(log: pd.DataFrame, tmp_path: Path) -> None:
    events = from_table(pa.Table.from_pandas(samples(log, tmp_path, DEFAULT)))
    assert (np.diff(events.parts.astype(int))[np.diff(events.users) == 0] >= 0).all()


def test_a_group_with_events_of_two_parts_is_in_the_later_one(log: pd.DataFrame, tmp_path: Path) -> None:
    mixed = log.assign(part=np.where(log.index % 2 == 0, "train", "test"))
    found = samples(mixed, tmp_path, DEFAULT)
    groups = mixed.groupby([mixed.user_id, mixed.item_id, mixed.timestamp.dt.floor("D")])
    assert (found.part == "test").sum() == groups["part"].agg(lambda parts: "test" in set(parts)).sum()


def test_a_selection_of_the_newest_day_changes_no_earlier_row(log: pd.DataFrame, tmp_path: Path) -> None:
    later = log.assign(
        rating=np.where(log.part == "test", 1.0, log.rating), label=np.where(log.part == "test", 0, log.label)
    )
    one, two = (samples(each, tmp_path, DEFAULT).query("part != 'test'") for each in (log, later))
    pd.testing.assert_frame_equal(one, two)


def test_bins_hold_about_equally_many_train_rows(tmp_path: Path) -> None:
    values = np.random.default_rng(1).lognormal(size=5000).astype("float32")
    values[::100] = np.nan
    pd.DataFrame({"price": values, "same": np.float32(3), "few": np.arange(5000) % 3}).to_parquet(
        tmp_path / "t.parquet"
    )
    kinds = [Feature(name, "numeric", "item", "float32", mean=[0.0], std=[1.0]) for name in ("price", "same", "few")]
    schema = FeatureSchema([Feature("item_id", "categorical", "item", "int64", "id"), *kinds])
    with connect(tmp_path) as connection:
        edges = fit_boundaries(connection, schema, tmp_path / "t.parquet", 10)
    assert edges["same"] == []
    assert edges["few"] == [1.0, 2.0]
    shares = np.bincount(np.searchsorted(edges["price"], values[~np.isnan(values)], side="right")) / 4950
    np.testing.assert_allclose(shares, 0.1, atol=0.005)
    made = with_boundaries(schema, edges)
    assert FeatureSchema.from_json(made.to_json()) == made
    assert "boundaries" not in schema.to_json(), "a schema without bins is that of older versions"
