# ruff: noqa: E501 (each table has one case per line)
"""Criteo's lines, generated and real: landed by day, bad ones set aside, a vocabulary from train rows, and a ranker."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys_assets.assets import assets_of
from recsys_assets.assets.data.features import SCHEMA
from recsys_assets.assets.publish.onnx import TOLERANCE
from recsys_assets.assets.rank import PREDICTIONS
from recsys_assets.datasets import criteo
from recsys_assets.datasets.duck import connect, write_parquet
from recsys_assets.datasets.feed import LandingError
from recsys_assets.datasets.ingest import REJECTED, ROWS, ingest_events, load_known_ids
from recsys_assets.datasets.landing import land, landed_bizdates, landing_files
from recsys_assets.datasets.profile import Profile, ProfileError, bundled_profiles, load_profile
from recsys_assets.datasets.splits import sample_rows
from recsys_assets.features.fit import fit_schema
from recsys_assets.features.schema import FeatureSchema, SchemaError, encode
from recsys_assets.lake import Lake
from recsys_assets.manifest import Partition
from recsys_assets.models.catalogue import RANKERS
from recsys_assets.models.layers import Normalise
from recsys_assets.ranking.champion import read_champion
from recsys_assets.training import data
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.criteo_sample import write_lines
from recsys_assets_tests.helpers.environment import forget_tracking_uri
from recsys_assets_tests.helpers.in_process import failures, materialize

DAYS = [f"2026-01-0{number}" for number in range(1, 8)]
ROWS_GENERATED = 3500
GOOD = b"1\t" + b"\t".join(b"%d" % n for n in range(13)) + b"\t" + b"\t".join(b"%08x" % n for n in range(26))
DAMAGED = [
    # damage, line, reason
    ("a field too few", GOOD.rpartition(b"\t")[0], "the line has 39 fields, not 40"),
    ("a field too many", GOOD + b"\tx", "the line has 41 fields, not 40"),
    ("no line", b"", "the label rule gives no answer"),
    ("label 2", b"2" + GOOD[1:], "clicked is out of bounds"),
    ("label -1", b"-" + GOOD, "clicked is out of bounds"),
    ("text as label", b"yes" + GOOD[1:], "clicked is not of type int64"),
    ("no label", GOOD[1:], "the label rule gives no answer"),
    ("text as integer", GOOD.replace(b"\t3\t", b"\tthree\t"), "I4 is not of type int64"),
    ("half an integer", GOOD.replace(b"\t3\t", b"\t3.5\t"), "I4 is not of type int64"),
    ("bytes that are not text", GOOD[:-1] + b"\xff", "the line is not UTF-8 text"),
    ("two lines in one", GOOD + b"\t" + GOOD, "the line has 80 fields, not 40"),
    ("3 MB of one letter", b"x" * 3_000_000, "the line has 1 fields, not 40"),
]


@dataclass
class World:
    """A lake of Criteo's profile on days of 2026, which the partitions of the other profiles have too."""

    profile: Profile
    lake: Lake
    lines: list[bytes]

    def read(self, asset: str, day: str = DAYS[-1]) -> Partition:
        return self.lake.read(asset, day)

    @property
    def schema(self) -> FeatureSchema:
        return FeatureSchema.read(self.read("feature_schema").path(SCHEMA))

    def part(self, part: str) -> pa.Table:
        return pq.read_table(self.read("rank_samples").path(f"{part}.parquet"))


def built(home: Path, source: Path, *assets: str, split: str | None = None) -> World:
    """Land the file, materialize every day's rows and, for the last day, `assets`; `split` replaces the profile's."""
    text = bundled_profiles()["criteo"].read_text()
    if split:
        text = re.sub(r"^split: .*", f"split: {split}", text, flags=re.MULTILINE)
    (home / "criteo.yaml").write_text(text.replace("2014-05-0", "2026-01-0").replace("rate: 0.01", "rate: 0.05"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECSYS_DATA", str(home))
        patch.setenv("RECSYS_PROFILE", str(home / "criteo.yaml"))
        forget_tracking_uri(patch)
        profile = load_profile()
        assert land(profile, source).bizdates == landed_bizdates(profile) == DAYS
        for result in (materialize(["interactions"], DAYS[0], DAYS[-1]), materialize(assets, DAYS[-1])):
            assert result.success, failures(result)
    return World(profile, Lake(str(home / "lake"), "criteo"), source.read_bytes().splitlines())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world built from generated lines, with all damaged lines on the first day."""
    home = tmp_path_factory.mktemp("criteo")
    write_lines(home / "train.txt", ROWS_GENERATED)
    lines = (home / "train.txt").read_bytes().splitlines()
    for place, (_, line, _) in enumerate(DAMAGED):
        lines.insert(10 * place + 3, line)
    (home / "train.txt").write_bytes(b"\n".join(lines) + b"\n")
    return built(home, home / "train.txt", "splits", "rank_samples", "feature_schema")


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    return load_profile("criteo").model_copy(update={"landing": tmp_path / "landing"})


def landed(profile: Profile) -> dict[str, bytes]:
    """The rows in the landing folder, by day."""
    return {
        day: b"".join(file.read_bytes() for file in landing_files(profile, "interactions", day))
        for day in landed_bizdates(profile)
    }


@pytest.mark.parametrize("end", [b"\n", b""], ids=["closed", "open"])
@pytest.mark.parametrize("size", [7, 300, 2**20], ids=lambda size: f"parts of {size}")
def test_lines_land_as_they_are_as_many_each_day(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, end: bytes
) -> None:
    monkeypatch.setattr(criteo, "PART", size)
    content = b"\n".join(b"%d" % number * (number % 40) for number in range(1, 40)) + end
    (tmp_path / "train.txt").write_bytes(content)
    assert land(profile, tmp_path).rows == 39
    days = landed(profile)
    assert b"".join(days.values()) == content
    assert {len(lines.splitlines()) for lines in days.values()} == {5, 6}


def test_a_landing_replaces_all_parts_of_the_one_before(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(criteo, "PART", 1000)
    for rows in (100, 40):
        write_lines(tmp_path / "train.txt", rows)
        assert len(land(profile, tmp_path / "train.txt").changed) == 7
        assert b"".join(landed(profile).values()) == (tmp_path / "train.txt").read_bytes()
    assert land(profile, tmp_path).changed == []


def test_a_source_that_cannot_be_landed_is_named(profile: Profile, tmp_path: Path) -> None:
    with pytest.raises(LandingError, match="criteo needs --source: the original train.txt"):
        land(profile)
    with pytest.raises(LandingError, match="train.txt does not exist"):
        land(profile, tmp_path)
    (tmp_path / "train.txt").write_bytes(b"\n" * 6)
    with pytest.raises(LandingError, match="has 6 lines: too few for the 7 days"):
        land(profile, tmp_path)


@pytest.mark.parametrize("place", range(len(DAMAGED)), ids=[what for what, *_ in DAMAGED])
def test_a_damaged_line_is_kept_aside_with_its_place_and_reason(world: World, place: int) -> None:
    rejected = pd.read_parquet(world.read("interactions", DAYS[0]).path(REJECTED))
    found = rejected[rejected.row == 10 * place + 4]
    assert found.reason.tolist() == [DAMAGED[place][2]]
    assert found.file.tolist() == [f"interactions/bizdate={DAYS[0]}/part-0000.tsv"]


def test_no_other_line_is_lost_or_changed(world: World) -> None:
    days = [world.read("interactions", day) for day in DAYS]
    assert sum(int(day.manifest.metrics["rejected_rows"]) for day in days) == len(DAMAGED)
    rows = pd.concat([pq.read_table(day.path(ROWS)).to_pandas(types_mapper=pd.ArrowDtype) for day in days])
    text = rows.drop(columns=["timestamp", "seq"]).astype("string").fillna("")
    damaged = {line for _, line, _ in DAMAGED}
    assert ["\t".join(row) for row in text.to_numpy()] == [line.decode() for line in world.lines if line not in damaged]
    assert rows.timestamp.astype(str).str[:10].drop_duplicates().tolist() == DAYS


def test_whole_days_train_validate_and_test(world: World) -> None:
    days = {part: sorted(set(world.part(part)["timestamp"].to_pylist())) for part in ("train", "validation", "test")}
    found = {part: [f"{day:%Y-%m-%d}" for day in times] for part, times in days.items()}
    assert found == {"train": DAYS[:5], "validation": DAYS[5:6], "test": DAYS[6:]}
    assert sum(world.part(part).num_rows for part in days) == ROWS_GENERATED


def test_rows_that_are_drawn_into_parts_build_a_ranker(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.txt", 2000)
    split = "{strategy: random, shares: [8, 1, 1]}"
    drawn = built(
        tmp_path, tmp_path / "train.txt", "splits", "rank_samples", "feature_schema", "rank_lgbm", split=split
    )
    assert [round(drawn.part(part).num_rows / 2000, 1) for part in ("train", "validation", "test")] == [0.8, 0.1, 0.1]
    assert drawn.read("rank_lgbm").manifest.metrics["test_auc"] > 0.5


def test_the_vocabulary_is_what_train_rows_have_often_enough(world: World) -> None:
    train, schema = world.part("train"), world.schema
    assert [feature.name for feature in schema.features] == world.profile.features.columns
    for feature in schema.of_kind("categorical"):
        counts = Counter(train[feature.name].drop_null().to_pylist())
        assert feature.vocabulary == sorted(value for value, count in counts.items() if count >= 10)
    assert max(len(feature.vocabulary) for feature in schema.of_kind("categorical")) > 5
    seen = Counter(train["C1"].drop_null().to_pylist())
    assert min(seen.values()) < 10  # otherwise no value would have been below the threshold
    new = set(world.part("test")["C3"].drop_null().to_pylist()) - set(train["C3"].to_pylist())
    assert new
    assert not new & set(schema.sparse[2].vocabulary)


def test_a_slot_has_one_row_for_rare_new_and_missing_values(world: World) -> None:
    schema = world.schema
    first = np.array([schema.first_row[feature.name] for feature in schema.sparse])
    for unknown in ("no such value", None):
        row = {f.name: pa.array([unknown if f.kind == "categorical" else 1.0]) for f in schema.features}
        assert (encode(schema, pa.table(row)).indices == first).all()
    known = {f.name: pa.array([f.vocabulary[0] if f.kind == "categorical" else 1.0]) for f in schema.features}
    assert (encode(schema, pa.table(known)).indices == first + 1).all()


def test_integers_reach_the_model_raw_and_it_takes_their_logarithm(world: World) -> None:
    schema, train = world.schema, world.part("train")
    raw = torch.from_numpy(encode(schema, train).numeric)
    assert raw[:, 2].nan_to_num().max() == max(value for value in train["I3"].to_pylist() if value is not None)
    log = torch.sign(raw) * torch.log(1 + raw.abs())
    mean = torch.tensor([feature.mean[0] for feature in schema.of_kind("numeric")])
    std = torch.tensor([feature.std[0] for feature in schema.of_kind("numeric")])
    assert torch.allclose(mean, log.nanmean(0), atol=1e-4)
    expected = ((log - mean) / std).nan_to_num().clamp(-5, 5)
    assert torch.allclose(Normalise(schema)(raw), expected, atol=1e-5)
    signs = Normalise(schema)(torch.tensor([[-3.0] * 13, [3.0] * 13])) * std + mean
    assert torch.allclose(signs[0], -signs[1], atol=1e-5)


def test_rows_encoded_by_batches_are_those_of_the_whole_table(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "BATCH", 97)
    file, table = world.read("rank_samples").path("test.parquet"), world.part("test")
    whole = encode(world.schema, table)
    for source in (file, table):
        found, labels = data.encode_rows(world.schema, source)
        assert (found.indices == whole.indices).all()
        assert np.array_equal(found.numeric, whole.numeric, equal_nan=True)
        assert labels.tolist() == table["label"].to_pylist()
    with pytest.raises(SchemaError, match="'C7'"):
        data.encode_rows(world.schema, table.drop_columns(["C7"]))


def test_the_graph_of_labelled_rows_has_no_user_item_or_recall_asset() -> None:
    assets = {asset.key.to_user_string(): asset for asset in assets_of(load_profile("criteo"))}
    own = {"interactions", "splits", "rank_samples", "feature_schema", "rank_champion", "rank_report"}
    own |= {"feature_boundaries", "daily_report"}
    of_rankers = {f"{stage}_{model}" for model in RANKERS for stage in ("rank", "onnx")}
    assert own | of_rankers <= assets.keys() <= own | of_rankers | {f"tune_{model}" for model in RANKERS}
    for asset in assets.values():
        assert {key.to_user_string() for key in asset.dependency_keys} <= assets.keys()
    everything = {asset.key for asset in assets_of(load_profile("sample"))}
    assert {dg.AssetKey(name) for name in (*assets, "users", "items", "recall_samples")} <= everything


REFUSED = [
    # fault, text, replacement, error message
    ("users without items", "tables:", "tables:\n  users: {user_id: string}", "tables.interactions: lacks user_id, item_id"),
    ("no columns", "  interactions:", "  users: {}\n  gone:", "tables.gone"),
    ("given without a column", "strategy: by_day", "strategy: given", "split.strategy given needs either column, which"),
    ("given by a feature", "strategy: by_day", "strategy: given, column: C1", "'C1' is the split's column, so it cannot be a"),
    ("a value of two parts", "strategy: by_day", "strategy: given, column: clicked, values: {train: [0], validation: [1], test: [1]}", "'1' is listed 2 times"),
    ("no rows to test", "strategy: by_day", "strategy: given, column: clicked, values: {train: [0], validation: [1]}", "lacks values for test"),
    ("split by user", "strategy: by_day", "strategy: per_user_tail", "split.strategy per_user_tail needs user_id, item_id and timestamp"),
    ("rating", "label: clicked", "rating: I1\nlabel: clicked", "rating needs user_id, item_id and timestamp"),
    ("unknown ids", "label: clicked", "unknown_ids: keep\nlabel: clicked", "unknown_ids: unknown_ids needs user_id, item_id"),
    ("a column of items", "I1: int64", "I1: {type: int64, of: item}", "I1.of: 'I1' cannot belong to users or items"),
    ("the label as a feature", "&dense [I1", "&dense [clicked, I1", "'clicked' is part of the label"),
    ("feature that is none", "[C1,", "[C0, C1,", "features.categorical.0: 'C0' is not a column of interactions"),
    ("logarithm of text", "log: *dense", "log: [C1]", "features.log: 'C1' is not among features.numeric"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "becomes", "says"), [pytest.param(*rest, id=what) for what, *rest in REFUSED])
def test_a_profile_of_rows_that_cannot_be_used_says_why(tmp_path: Path, text: str, becomes: str, says: str) -> None:
    own = bundled_profiles()["criteo"].read_text()
    assert text in own
    (tmp_path / "own.yaml").write_text(own.replace(text, becomes, 1))
    with pytest.raises(ProfileError, match=says):
        load_profile(str(tmp_path / "own.yaml"))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    source = PROJECT.parent / "shared" / "data" / "criteo" / "train.txt"
    if not source.is_file():
        pytest.skip(f"needs Criteo's first rows in {source.relative_to(PROJECT.parent)} next to the project")
    assets = ("splits", "rank_samples", "feature_schema", "rank_widedeep", "onnx_widedeep")
    yield built(tmp_path_factory.mktemp("real"), source, *assets)


def test_the_real_rows_train_a_ranker_whose_onnx_file_says_the_same(real: World) -> None:
    assert [real.read("interactions", day).manifest.rows for day in DAYS] == [285, 286, 285, 286, 285, 286, 286]
    ranker, onnx = real.read("rank_widedeep"), real.read("onnx_widedeep")
    assert ranker.manifest.metrics.keys() >= {"test_auc", "test_logloss", "test_calibration_error", "validation_auc"}
    assert "test_gauc" not in ranker.manifest.metrics  # without users there are no groups
    assert ranker.manifest.metrics["test_auc"] > 0.55
    scored = pq.read_table(ranker.path(PREDICTIONS))
    assert scored.column_names == ["timestamp", "seq", "label", "score"]
    assert onnx.manifest.metrics["parity_rows"] == 1999
    assert onnx.manifest.metrics["max_difference"] <= TOLERANCE


def test_rows_without_users_have_a_champion_and_a_report_of_draws_of_rows(
    real: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other models' partitions are copies of Wide & Deep's with shifted scores: training all would take a minute."""
    home = Path(real.lake.location("rank_report", DAYS[-1])).parents[3]
    monkeypatch.setenv("RECSYS_DATA", str(home))
    monkeypatch.setenv("RECSYS_PROFILE", str(home / "criteo.yaml"))
    forget_tracking_uri(monkeypatch)
    trained = real.read("rank_widedeep")
    scored = pq.read_table(trained.path(PREDICTIONS))
    for place, model in enumerate(sorted(RANKERS.keys() - {"widedeep"})):
        with real.lake.draft(f"rank_{model}", DAYS[-1]) as draft:
            scores = scored["score"].to_numpy() ** (2.0 + place)
            pq.write_table(scored.set_column(3, "score", pa.array(scores)), draft.path(PREDICTIONS))
            draft.manifest.metrics, draft.manifest.upstream = trained.manifest.metrics, trained.manifest.upstream
    result = materialize(["rank_champion", "rank_report"], DAYS[-1])
    assert result.success, failures(result)
    champion = read_champion(real.read("rank_champion"))
    assert champion.model == "widedeep"  # the only one with an ONNX file
    assert {each["why_not"] for each in champion.considered} >= {"", f"there is no onnx_lgbm of {DAYS[-1]}"}
    metrics = real.read("rank_report").manifest.metrics
    assert metrics["widedeep.test_auc_low"] < metrics["widedeep.test_auc"] < metrics["widedeep.test_auc_high"]
    assert not [name for name in metrics if "gauc" in name or "popularity" in name]
    (check,) = [each for each in result.get_asset_check_evaluations() if each.check_name == "models_beat_baselines"]
    assert check.passed
    assert check.metadata["base_rate"].value == 0.5
    assert "slices" not in real.read("rank_report").path("report.md").read_text(encoding="utf-8")


def test_rows_of_ones_own_may_have_times_and_ids(tmp_path: Path) -> None:
    day = "2026-01-05"
    own = Profile.model_validate(
        {
            "name": "own",
            "first_bizdate": "2026-01-01",
            "landing": tmp_path,
            "tables": {
                "interactions": {"user_id": "string", "price": "float32", "bought": "int64", "timestamp": "timestamp"}
            },
            "label": "bought > 0",
            "features": {"categorical": ["user_id"], "numeric": ["price"], "min_count": 1},
            "split": {"strategy": "by_day"},
        }
    )
    (tmp_path / "interactions" / f"bizdate={day}").mkdir(parents=True)
    twice = f"ann,2.5,1,{day} 10:00:00\n" * 2
    text = f"user_id,price,bought,timestamp\n{twice}bob,,0,2026-01-04 10:00:00\ncat,1,,{day} 09:00:00\n"
    (tmp_path / "interactions" / f"bizdate={day}" / "rows.csv").write_text(text)
    with connect(tmp_path) as connection:
        load_known_ids(connection, own, day)
        outside, unlabelled = f"timestamp is outside {day} (UTC)", "the label rule gives no answer"
        assert ingest_events(connection, own, day, tmp_path) == {"rows": 2, outside: 1, unlabelled: 1}
        sql = sample_rows(own, [tmp_path / ROWS], day, "test")
        assert connection.execute(f"SELECT seq, label, user_id, price FROM ({sql})").fetchall() == [
            (0, 1, "ann", 2.5),
            (1, 1, "ann", 2.5),
        ]
        write_parquet(connection, sql, tmp_path / "train.parquet")
        schema = fit_schema(connection, own, tmp_path / "train.parquet", [])
    assert [(f.name, f.group, f.vocabulary, f.mean) for f in schema.features] == [
        ("user_id", "id", ["ann"], []),
        ("price", "side", [], [2.5]),
    ]


@pytest.mark.parametrize("magic", [b"\x1f\x8b\x08\0", b"PK\x03\x04", b"BZh9", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"])
def test_a_packed_file_is_named_and_its_bytes_do_not_land(profile: Profile, tmp_path: Path, magic: bytes) -> None:
    (tmp_path / "train.gz").write_bytes(magic + (GOOD + b"\n") * 10)
    with pytest.raises(LandingError, match=r"train.gz is packed: unpack it .* give its train.txt"):
        land(profile, tmp_path / "train.gz")
    assert not landed_bizdates(profile)


def test_a_line_without_end_is_not_read_into_memory(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(criteo, "PART", 2**16)
    (tmp_path / "train.txt").write_bytes((GOOD + b"\n") * 10 + bytes(2**21))
    with pytest.raises(LandingError, match=r"train.txt: a line after byte .* is longer than 1,048,576"):
        land(profile, tmp_path / "train.txt")
