"""Every check is shown to fail: here by a fault put into the asset, elsewhere by tests marked `fails_check`.

A fault changes what the asset is given or what it writes; the asset and its checks are the real ones.
"""

import ast
import fnmatch
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from recsys_assets.assets.cold_start import report as cold_report
from recsys_assets.assets.cold_start import samples as cold_samples
from recsys_assets.assets.data import event_features, features, ingest, sample_files, samples
from recsys_assets.assets.recall import term
from recsys_assets.assets.reports import rank_report, recall_report
from recsys_assets.datasets import splits
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.names import AFFINITY
from recsys_assets.definitions import build_defs
from recsys_assets.features.schema import FeatureSchema
from recsys_assets.funnel.by_vector import BEFORE_TEST
from recsys_assets.funnel.methods import RECALL_METHODS
from recsys_assets.i2i import neighbours
from recsys_assets.io_managers import Output
from recsys_assets.models.catalogue import RANKERS, TOWERS, configure
from recsys_assets.ranking.sample_parts import part_files
from recsys_assets.retrieval import embeddings, judging, lists
from recsys_assets.retrieval.interactions import read
from recsys_assets.retrieval.lists import Lists
from recsys_assets.training import checkpoint, onnx_towers, recall
from recsys_assets.training.lgbm import LgbmRanker
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.in_process import failed_checks, failures, materialize
from recsys_assets_tests.helpers.ranking_rows import quick_settings
from recsys_assets_tests.helpers.worlds import DAY, World, open_world

Fault = Callable[[World, pytest.MonkeyPatch], None]
# Assets that one function makes have the same checks: the first of them stands for the others.
SAME = [
    [f"rank_{model}" for model in RANKERS],
    [f"onnx_{model}" for model in sorted(RANKERS, key="lgbm".__ne__)],
    *([f"{stage}_{model}{side}" for model in TOWERS] for stage, side in (("recall", ""), ("onnx", ""), ("index", ""))),
    *([f"emb_{model}_{side}" for model in TOWERS] for side in ("user", "item")),
    ["i2i_itemcf", "i2i_swing"],
    ["rank_samples", "touch_samples"],
    ["hitrate_popularity", *(f"hitrate_{method}" for method in RECALL_METHODS)],
]
STANDS_FOR = {asset: assets[0] for assets in SAME for asset in assets}
CONFIG: dict[str, Any] = {"index_fm": {"nlist": 50, "nprobe": 1}, "negative_items": {"power": 2000}}


def returning(module: ModuleType, name: str, change: Callable[[Any], Any]) -> Fault:
    """The module's function returns something else."""

    def put(_: World, patch: pytest.MonkeyPatch) -> None:
        real = getattr(module, name)
        patch.setattr(module, name, lambda *given, **named: change(real(*given, **named)))

    return put


def rewriting(module: ModuleType, name: str, change: Callable[[pa.Table], pa.Table]) -> Fault:
    """The rows that the module's function writes are changed: in a folder that it is given, or in its last path."""

    def put(_: World, patch: pytest.MonkeyPatch) -> None:
        real = getattr(module, name)

        def write(*given: Any) -> Any:
            found, paths = real(*given), [each for each in given if isinstance(each, Path)]
            path = next((each / ROWS for each in paths if each.is_dir()), paths[-1])
            pq.write_table(change(pq.read_table(path)), path)
            return found

        patch.setattr(module, name, write)

    return put


def splitting(*statements: str) -> Fault:
    """The table `splits` is changed after it was made."""

    def put(_: World, patch: pytest.MonkeyPatch) -> None:
        def split(connection: duckdb.DuckDBPyConnection, *given: Any) -> None:
            splits.split(connection, *given)
            for statement in statements:
                connection.execute(statement)

        patch.setattr(samples, "split", split)

    return put


def both(first: Fault, second: Fault) -> Fault:
    def put(world: World, patch: pytest.MonkeyPatch) -> None:
        first(world, patch)
        second(world, patch)

    return put


def other_lists(_: World, patch: pytest.MonkeyPatch) -> None:
    """Three of four items lose their neighbours; the lists of the others rise from below 0, with the item itself."""
    real = neighbours.write

    def write(path: Path, ids: Any, found: Lists) -> int:
        kept = (np.arange(len(ids))[:, None] % 4 == 0) & (found.items >= 0)
        items = np.column_stack([np.arange(len(ids)), found.items[:, 1:]])
        scores = np.where(kept, -found.scores, -np.inf).astype(np.float32)
        return real(path, ids, Lists(np.where(kept, items, -1), scores))

    patch.setattr(neighbours, "write", write)


def repeated_users(world: World, _: pytest.MonkeyPatch) -> None:
    users = world.table("users")
    with world.lake.draft("users", DAY) as draft:
        pq.write_table(pa.concat_tables([users, users.slice(0, 1)]), draft.path(ROWS))


def broken_weights(world: World, _: pytest.MonkeyPatch) -> None:
    fitted = checkpoint.load(world.read("recall_fm").folder)
    for parameter in fitted.model.parameters():
        parameter.data.fill_(float("nan"))
    with world.lake.draft("recall_fm", DAY) as draft:
        checkpoint.save(draft.folder, fitted)


def many_random_items(world: World, _: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    for side, count in (("user", 50), ("item", 2000)):
        with world.lake.draft(f"emb_fm_{side}", DAY) as draft:
            for file in (ROWS, BEFORE_TEST):
                vectors = rng.normal(size=(count, 16)).astype(np.float32)
                embeddings.write(draft.path(file), f"{side}_id", np.arange(count), vectors)


def another_ranker(world: World, patch: pytest.MonkeyPatch) -> None:
    other, real = fit_ranker(world, seed=2), LgbmRanker.export
    patch.setattr(LgbmRanker, "export", lambda _, path, metadata: real(other, path, metadata))


def another_tower(world: World, patch: pytest.MonkeyPatch) -> None:
    real, folder = onnx_towers.export, world.home / "other"
    folder.mkdir()
    checkpoint.save(folder, fit_tower(world, seed=2))
    patch.setattr(onnx_towers, "export", lambda _, *given: real(folder, *given))


def without_keys(rows: pa.Table) -> pa.Table:
    """All rows twice, and without the first column of their key."""
    key, absent = rows.column_names[0], pa.nulls(len(rows), rows.schema.types[0])
    return pa.concat_tables([rows.set_column(0, key, absent)] * 2)


def of_the_future(rows: pa.Table) -> pa.Table:
    """Only some of the rows, one without its user; their counts include the row itself."""
    rows = rows.slice(0, 100)
    users = pa.array([None, *rows["user_id"].to_pylist()[1:]], rows.schema.field("user_id").type)
    rows = rows.set_column(0, "user_id", users)
    if "user_count" not in rows.column_names:
        return rows
    counts = pc.add(rows["user_count"], 1).cast(rows.schema.field("user_count").type)
    return rows.set_column(rows.column_names.index("user_count"), "user_count", counts)


def infinite(rows: pa.Table) -> pa.Table:
    values = pa.array([[np.inf]] * len(rows), pa.list_(pa.float32()))
    return rows.set_column(rows.column_names.index(AFFINITY), AFFINITY, values)


def changing(change: Callable[[list[Any]], list[Any]]) -> Callable[[pa.Array], pa.Array]:
    """A change of each list of an Arrow array."""
    return lambda found: pa.array([change(each) for each in found.to_pylist()], found.type)


def without_deviations(schema: FeatureSchema) -> FeatureSchema:
    return FeatureSchema([replace(feature, std=[0.0] * len(feature.std)) for feature in schema.features])


def first_item_twice(found: Lists) -> Lists:
    return Lists(np.column_stack([found.items[:, 1], found.items[:, 1:]]), found.scores)


FAULTS: dict[str, Fault] = {  # by the checks that it fails
    "interactions:no_nulls interactions:unique_keys": rewriting(ingest, "ingest_events", without_keys),
    "users:no_nulls users:unique_keys items:no_nulls items:unique_keys": rewriting(
        ingest, "ingest_entities", without_keys
    ),
    "splits:no_nulls splits:unique_keys splits:parts_in_order splits:label_rate_is_steady": splitting(
        "UPDATE splits SET part = 'test' WHERE position = 0",
        f"UPDATE splits SET label = 1 WHERE timestamp >= DATE '{DAY}'",
        "INSERT INTO splits FROM splits LIMIT 1",
        "UPDATE splits SET item_id = NULL WHERE position = 1",
    ),
    "event_features:no_nulls event_features:rows_match_splits event_features:sums_are_of_all_rows": rewriting(
        event_features, "describe_blocks", of_the_future
    ),
    "rank_samples:no_nulls rank_samples:rows_match_splits rank_samples:features_know_only_the_past "
    "recall_samples:no_nulls recall_samples:rows_match_splits": both(
        rewriting(sample_files, "write_parquet", of_the_future), rewriting(samples, "write_parquet", of_the_future)
    ),
    "negative_items:weights_are_positive": lambda *_: None,  # `CONFIG` makes them infinite
    "feature_schema:statistics_are_finite": returning(features, "fit_schema", without_deviations),
    "cold_start_samples:no_nulls cold_start_samples:unique_keys": rewriting(
        cold_samples, "write_parquet", without_keys
    ),
    "feature_boundaries:boundaries_ascend": returning(
        cold_samples, "fit_boundaries", lambda edges: dict.fromkeys(edges, [1.0, 1.0])
    ),
    "factors:numbers_are_finite factors:rows_match_splits": both(
        rewriting(features, "write_pair_features", infinite),
        returning(features, "write_pair_features", lambda rows: {**rows, ROWS: rows[ROWS] - 1}),
    ),
    "user_features:no_nulls user_features:unique_keys item_features:no_nulls item_features:unique_keys": rewriting(
        features, "write_parquet", without_keys
    ),
    "recall_term:unique_keys recall_term:lists_are_sorted": both(
        repeated_users, returning(term, "to_lists", changing(lambda each: each[::-1]))
    ),
    "recall_term:no_user_without_terms": returning(term, "to_lists", changing(lambda _: [])),
    "i2i_itemcf:lists_are_sorted i2i_itemcf:scores_are_positive i2i_itemcf:no_own_neighbour "
    "i2i_itemcf:items_have_neighbours": other_lists,
    "emb_fm_user:vectors_are_finite emb_fm_item:vectors_are_finite": broken_weights,
    "index_fm:near_exact": many_random_items,
    "onnx_lgbm:onnx_matches_model onnx_fm:onnx_matches_model": both(another_ranker, another_tower),
    "hitrate_popularity:lists_are_sound hitrate_popularity:unique_keys": both(
        returning(lists, "recommend", first_item_twice),
        returning(judging, "details", lambda rows: pa.concat_tables([rows, rows])),
    ),
}


def fit_ranker(world: World, seed: int) -> LgbmRanker:
    schema = FeatureSchema.read(world.read("feature_schema").path(features.SCHEMA))
    train, validation = (part_files(world.read("rank_samples"), part) for part in ("train", "validation"))
    return LgbmRanker.fit("lgbm", schema, train, validation, *quick_settings("lgbm", 3 + seed), seed)


def fit_tower(world: World, seed: int) -> Any:
    schema = FeatureSchema.read(world.read("feature_schema").path(features.SCHEMA))
    events = read(world.read("recall_samples").path(ROWS))
    source = recall.Source(events, world.table("users"), world.table("items"))
    return recall.fit("fm", schema, source, *configure("fm", {}, {"epochs": 1, "batch": 512}), seed=seed)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world with the inputs of every asset of `FAULTS`; its models are written by hand."""
    with open_world(tmp_path_factory.mktemp("world"), users=100, items=120, events=4000, days=8) as world:
        world.run(
            [
                "users",
                "items",
                "splits",
                "factors",
                "event_features",
                "rank_samples",
                "recall_samples",
                "feature_schema",
            ]
        )
        with world.lake.draft("rank_lgbm", DAY) as draft:
            fit_ranker(world, seed=1).save(draft.folder)
        with world.lake.draft("recall_fm", DAY) as draft:
            checkpoint.save(draft.folder, fit_tower(world, seed=1))
        yield world


@pytest.mark.parametrize("checks", FAULTS)
def test_a_fault_fails_the_checks(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checks: str) -> None:
    assets = sorted({check.partition(":")[0] for check in checks.split()})
    FAULTS[checks](world.copy(tmp_path, monkeypatch), monkeypatch)
    result = materialize(assets, DAY, config={asset: CONFIG[asset] for asset in assets if asset in CONFIG})
    assert [said for said in failures(result).values() if "blocking asset check" not in said] == []
    assert set(checks.split()) <= failed_checks(result)


@pytest.fixture
def output(world: World) -> Iterator[Output]:
    """A partition to which a report's check can be applied."""
    with world.lake.draft("a_report", DAY) as draft:
        yield Output(draft, "", frozenset(), publish=lambda: None)


@pytest.mark.fails_check("cold_start_report:beats_popularity")
@pytest.mark.fails_check("recall_report:best_beats_popularity", "rank_report:models_beat_baselines")
@pytest.mark.parametrize(("score", "passed"), [(0.5, False), (0.51, True)])
def test_a_model_must_be_better_than_what_needs_none(output: Output, score: float, passed: bool) -> None:
    recalls = {"popularity": 0.5, "term": score, "random": 0.1, "union": 0.9}
    recall_report._check(output, {name: {"recall@20": value} for name, value in recalls.items()})
    models, baselines = {"lgbm": 0.7, "deepfm": score}, {"popularity": 0.5, "best_reachable": 0.9}
    of_models, of_baselines = ({name: {"test_auc": each[name]} for name in each} for each in (models, baselines))
    rank_report._check(output, of_models, of_baselines)
    output.write_json("cold_start.json", {"winner": "ridge"})
    output.manifest.metrics = {"draw.ridge.cold_ndcg@20": score, "draw.popularity.cold_ndcg@20": 0.5}
    cold_report.check_winner(output)
    assert [check.passed for check in output.checks] == [passed, passed, passed]


def test_every_check_is_shown_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new check needs a fault in the table above, or a test that shows it failing, marked `fails_check`."""
    found: set[str] = set()
    for profile in ("sample", "movielens-1m", "criteo"):
        monkeypatch.setenv("RECSYS_PROFILE", profile)
        graph = build_defs().resolve_asset_graph()
        names = [(key.asset_key.to_user_string(), key.name) for key in graph.asset_check_keys]
        found |= {f"{STANDS_FOR.get(asset, asset)}:{check}" for asset, check in names}
    shown = [*" ".join(FAULTS).split(), *marked_checks()]
    assert {check for check in found if not any(fnmatch.fnmatch(check, pattern) for pattern in shown)} == set()
    assert {pattern for pattern in shown if not fnmatch.filter(found, pattern)} == set()


def marked_checks() -> Iterator[str]:
    """The names in the marks `fails_check` of all test files."""
    for path in sorted((PROJECT / "recsys_assets_tests").rglob("test_*.py")):
        for names in re.findall(r"@pytest\.mark\.fails_check\(([^)]+)\)", path.read_text(encoding="utf-8")):
            yield from ast.literal_eval(f"[{names}]")
