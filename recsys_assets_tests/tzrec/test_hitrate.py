"""The hit rate tool compared with a plain loop over requests, also on input that TorchEasyRec's tool gets wrong."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from pyarrow import csv

from recsys_assets.arrays import Array
from recsys_assets.tzrec.hitrate import hitrate

RNG = np.random.default_rng(1)
ITEMS = RNG.standard_normal((600, 8)).astype(np.float32)
ITEM_IDS = np.arange(600) * 3 + 5
USERS = RNG.standard_normal((40, 8)).astype(np.float32)
TRUTH = [[int(each) for each in RNG.choice(ITEM_IDS, size)] for size in RNG.integers(1, 9, 40)]
K = 50


class Tables:
    """Tables for the tool in a folder, and runs of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.items("items.parquet")

    def items(self, file: str, ids: Any = ITEM_IDS, vectors: Any = None) -> None:
        self.write(file, {"item_id": ids, "item_tower_emb": list(ITEMS) if vectors is None else vectors})

    def users(self, truth: Any, vectors: Any = None, file: str = "users.parquet", **more: Any) -> None:
        ids = more.pop("request_id", [f"request {row}" for row in range(len(truth))])
        given = list(USERS[: len(truth)]) if vectors is None else vectors
        self.write(file, {"request_id": ids, "gt_items": truth, "user_tower_emb": given, **more})

    def write(self, file: str, columns: dict[str, Any]) -> None:
        path = self.folder / file
        path.parent.mkdir(exist_ok=True)
        (pq.write_table if path.suffix == ".parquet" else csv.write_csv)(pa.table(columns), path)

    def run(self, *flags: str, users: str = "users.parquet", items: str = "items.parquet", k: int = K) -> Result:
        given = ["--user_gt_input", str(self.folder / users), "--item_embedding_input", str(self.folder / items)]
        return CliRunner().invoke(hitrate, [*given, "--top_k", str(k), *flags])

    def rate(self, *flags: str, **more: Any) -> float:
        result = self.run(*flags, "--total_hitrate_output", str(self.folder / "total.parquet"), **more)
        assert result.exit_code == 0, result.output
        ((rate,),) = (row.values() for row in pq.read_table(self.folder / "total.parquet").to_pylist())
        assert f"Total hitrate: {rate:.8f}" in result.stdout
        return float(rate)

    def details(self, *flags: str, **more: Any) -> list[dict[str, Any]]:
        self.rate(*flags, "--hitrate_details_output", str(self.folder / "details.parquet"), **more)
        rows: list[dict[str, Any]] = pq.read_table(self.folder / "details.parquet").to_pylist()
        return rows

    def error(self, *flags: str, **more: Any) -> str:
        result = self.run(*flags, **more)
        assert result.exit_code != 0
        assert isinstance(result.exception, SystemExit)  # reported in plain words
        return result.output


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return Tables(tmp_path)


def nearest(vector: Array, metric: str = "IP", items: Array = ITEMS, k: int = K) -> list[tuple[int, float]]:
    """The (place, distance) pairs of the nearest items, best first."""
    x, q = items.astype(float), np.asarray(vector, float)
    distances = x @ q if metric == "IP" else ((x - q) ** 2).sum(1)
    order = np.argsort(-distances if metric == "IP" else distances, kind="stable")[:k]
    return [(int(place), float(distances[place])) for place in order]


def right_rate(truth: list[list[int]], vectors: Array = USERS, metric: str = "IP") -> float:
    """The sum of hits divided by the number of distinct right items; vectors (N, D) or (N, M, D)."""
    hits = total = 0
    for wanted, asked in zip(truth, vectors, strict=False):
        found = {int(ITEM_IDS[place]) for each in np.atleast_2d(asked) for place, _ in nearest(each, metric)}
        hits += len(found & set(wanted))
        total += len(set(wanted))
    return hits / total


@pytest.mark.parametrize("metric", ["IP", "L2"])
def test_the_rate_is_hits_over_right_items_of_all_requests(tables: Tables, metric: str) -> None:
    tables.users(TRUTH)
    assert tables.rate("--index_type", f"Flat{metric}") == pytest.approx(right_rate(TRUTH, metric=metric))


@pytest.mark.parametrize("metric", ["IP", "L2"])
@pytest.mark.parametrize("nprobe", [1, 5, 20])
def test_an_ivf_index_gives_the_numbers_of_faiss(tables: Tables, metric: str, nprobe: int) -> None:
    tables.users(TRUTH)
    inner = metric == "IP"
    quantiser = (faiss.IndexFlatIP if inner else faiss.IndexFlatL2)(8)
    index: Any = faiss.IndexIVFFlat(quantiser, 8, 20, faiss.METRIC_INNER_PRODUCT if inner else faiss.METRIC_L2)
    index.train(ITEMS)
    index.add(ITEMS)
    index.nprobe = nprobe
    found = index.search(USERS, K)[1]
    hits = sum(len(set(ITEM_IDS[row[row >= 0]]) & set(wanted)) for row, wanted in zip(found, TRUTH, strict=True))
    flags = ("--index_type", f"IVFFlat{metric}", "--ivf_nlist", "20", "--ivf_nprobe", str(nprobe))
    assert tables.rate(*flags) == pytest.approx(hits / sum(len(set(wanted)) for wanted in TRUTH))


def test_an_approximate_index_names_the_exact_one(tables: Tables) -> None:
    tables.users(TRUTH)
    assert "--index_type FlatIP is exact" in tables.run("--ivf_nlist", "10").stderr
    assert "exact" not in tables.run("--index_type", "FlatIP").stderr


@pytest.mark.parametrize("kind", ["int64", "string", "text", "large"])
def test_right_items_may_be_lists_or_text_of_numbers_or_names(tables: Tables, kind: str) -> None:
    """For a list of int64, TorchEasyRec silently gives 0.0."""
    truth: Any = {
        "int64": pa.array(TRUTH, pa.list_(pa.int64())),
        "string": pa.array([[str(each) for each in wanted] for wanted in TRUTH]),
        "text": [",".join(map(str, wanted)) for wanted in TRUTH],
        "large": pa.array([[str(each) for each in wanted] for wanted in TRUTH], pa.large_list(pa.large_string())),
    }[kind]
    tables.users(truth)
    assert tables.rate("--index_type", "FlatIP") == pytest.approx(right_rate(TRUTH))
    assert right_rate(TRUTH) > 0


def test_a_single_right_item_needs_no_list(tables: Tables) -> None:
    tables.users([wanted[0] for wanted in TRUTH])
    assert tables.rate("--index_type", "FlatIP") == pytest.approx(right_rate([wanted[:1] for wanted in TRUTH]))


@pytest.mark.parametrize("form", ["text", "double", "fixed size", "nested"])
def test_vectors_may_be_text_or_lists_of_any_kind(tables: Tables, form: str) -> None:
    def column(vectors: Array) -> Any:
        match form:
            case "text":
                return [",".join(map(repr, map(float, vector))) for vector in vectors]
            case "double":
                return pa.array(vectors.tolist(), pa.large_list(pa.float64()))
            case "fixed size":
                return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 8)
            case _:
                return pa.array(vectors.tolist(), pa.list_(pa.float32()))

    tables.items("items.parquet", vectors=column(ITEMS))
    tables.users(TRUTH, pa.array([[each] for each in USERS.tolist()]) if form == "nested" else column(USERS))
    assert tables.rate("--index_type", "FlatIP") == pytest.approx(right_rate(TRUTH))


def test_csv_gives_the_same(tables: Tables) -> None:
    tables.items("items.csv", vectors=[",".join(map(repr, map(float, vector))) for vector in ITEMS])
    vectors = [",".join(map(repr, map(float, vector))) for vector in USERS]
    tables.users([",".join(map(str, wanted)) for wanted in TRUTH], vectors, "users.csv")
    given: dict[str, Any] = {"users": "users.csv", "items": "items.csv"}
    assert tables.rate("--index_type", "FlatIP", "--writer_type", "ParquetWriter", **given) == right_rate(TRUTH)
    details, total = tables.folder / "details", tables.folder / "total.csv"
    outputs = ("--hitrate_details_output", str(details), "--total_hitrate_output", str(total))
    assert tables.run("--index_type", "FlatIP", *outputs, **given).exit_code == 0
    assert float(total.read_text().splitlines()[1]) == pytest.approx(right_rate(TRUTH))
    row = csv.read_csv(details / "part-0.csv").slice(0, 1).to_pylist()[0]
    best = nearest(USERS[0])
    assert row["topk_ids"] == ",".join(str(ITEM_IDS[place]) for place, _ in best)
    assert [float(each) for each in row["topk_dists"].split(",")] == pytest.approx([d for _, d in best], rel=1e-5)


def test_files_of_a_folder_or_a_pattern_are_one_table(tables: Tables) -> None:
    for part in range(3):
        rows = slice(part * 200, part * 200 + 200)
        tables.items(f"items/part-{part}.parquet", ITEM_IDS[rows], list(ITEMS[rows]))
    tables.users(TRUTH[:25], file="users/a.parquet")
    tables.users(TRUTH[25:], list(USERS[25:]), file="users/b.parquet", request_id=list(range(15)))
    assert tables.rate("--index_type", "FlatIP", users="users", items="items/part-*") == right_rate(TRUTH)


@pytest.mark.parametrize("metric", ["IP", "L2"])
def test_details_have_a_row_a_request(tables: Tables, metric: str) -> None:
    tables.users(TRUTH, request_id=list(range(40)))
    rows = tables.details("--index_type", f"Flat{metric}")
    schema = pq.read_schema(tables.folder / "details.parquet")
    assert [str(kind).replace("element", "item") for kind in schema.types] == [
        "int64", "list<item: list<item: string>>", "list<item: list<item: float>>", "double", "list<item: string>",
    ]  # fmt: skip
    assert schema.names == ["id", "topk_ids", "topk_dists", "hitrate", "hit_ids"]
    for number, (row, wanted) in enumerate(zip(rows, TRUTH, strict=True)):
        best = nearest(USERS[number], metric)
        hits = {int(ITEM_IDS[place]) for place, _ in best} & set(wanted)
        assert row["id"] == number
        assert row["topk_ids"] == [[str(ITEM_IDS[place]) for place, _ in best]]
        assert row["topk_dists"][0] == pytest.approx([distance for _, distance in best], rel=1e-5)
        assert row["hitrate"] == pytest.approx(len(hits) / len(set(wanted)))
        assert sorted(map(int, row["hit_ids"])) == sorted(hits)


def test_an_item_counts_once_however_often_it_is_there(tables: Tables) -> None:
    best = [int(ITEM_IDS[place]) for place, _ in nearest(USERS[0])]
    tables.users([[best[0], best[0], 0]])
    assert tables.rate("--index_type", "FlatIP") == 0.5
    twice = np.append(ITEM_IDS, ITEM_IDS[:10])
    tables.items("items.parquet", twice, [*ITEMS, *ITEMS[:10]])
    assert tables.rate("--index_type", "FlatIP") == 0.5


@pytest.mark.parametrize("empty", ["", None, "list"])
def test_requests_without_right_items_do_not_count_and_have_details(tables: Tables, empty: str | None) -> None:
    """TorchEasyRec counts an empty string as a miss, and fails on an empty list when details are requested."""
    if empty == "list":
        truth: Any = [[], *TRUTH[1:3], [], *TRUTH[4:6]]
    else:
        truth = [empty, *(",".join(map(str, each)) for each in TRUTH[1:3]), empty, *(str(e[0]) for e in TRUTH[4:6])]
    tables.users(truth)
    rows = tables.details("--index_type", "FlatIP")
    counted = [[], *TRUTH[1:3], [], *(TRUTH[4:6] if empty == "list" else [each[:1] for each in TRUTH[4:6]])]
    assert tables.rate("--index_type", "FlatIP") == pytest.approx(right_rate(counted))
    assert [row["hitrate"] is None for row in rows] == [True, False, False, True, False, False]
    assert rows[0]["hit_ids"] == []
    assert len(rows[0]["topk_ids"][0]) == K
    assert "2 of 6 requests have no right item" in tables.run().stderr


def test_no_right_item_at_all_is_an_error(tables: Tables) -> None:
    tables.users(["", ""])
    assert "no request has a right item" in tables.error("--index_type", "FlatIP")


@pytest.mark.parametrize("kind", ["FlatIP", "FlatL2", "IVFFlatIP", "IVFFlatL2"])
def test_with_fewer_items_than_top_k_the_lists_are_shorter(tables: Tables, kind: str) -> None:
    """TorchEasyRec pads the lists with the last item and can count it as a hit."""
    tables.items("items.parquet", ITEM_IDS[:20], list(ITEMS[:20]))
    tables.users([[int(ITEM_IDS[19])], [999]], [USERS[0], -ITEMS[19] * 9])
    rows = tables.details("--index_type", kind, "--ivf_nlist", "4", "--ivf_nprobe", "1" if "IVF" in kind else "4")
    for row in rows:
        assert len(row["topk_ids"][0]) == len(set(row["topk_ids"][0])) == len(row["topk_dists"][0]) <= 20
    assert rows[1]["hit_ids"] == []
    if kind.startswith("Flat"):
        assert [len(row["topk_ids"][0]) for row in rows] == [20, 20]
        assert "only 20 items" in tables.run().stderr


@pytest.mark.parametrize("kind", ["IVFFlatIP", "IVFFlatL2"])
def test_with_fewer_items_than_clusters_there_are_fewer_clusters(tables: Tables, kind: str) -> None:
    """TorchEasyRec's default of 1000 clusters cannot be trained with 600 items."""
    tables.users(TRUTH)
    result = tables.run("--index_type", kind)
    assert "600 items are too few for 1,000 clusters: 15 are used" in result.stderr
    assert tables.rate("--index_type", kind) == pytest.approx(right_rate(TRUTH, metric=kind[-2:]))


def test_right_items_that_are_not_there_are_told(tables: Tables) -> None:
    tables.users([[1, int(ITEM_IDS[0])], [2]])
    assert "2 of 3 right items are not among the items" in tables.run("--index_type", "FlatIP").stderr


THREE = RNG.standard_normal((40, 3, 8)).astype(np.float32)


def nested(vectors: Array) -> pa.Array:
    return pa.array(vectors.tolist(), pa.list_(pa.list_(pa.float32())))


@pytest.mark.parametrize("form", ["lists", "text"])
def test_what_any_interest_finds_is_a_hit_once(tables: Tables, form: str) -> None:
    text = [";".join(",".join(map(repr, map(float, vector))) for vector in row) for row in THREE]
    tables.users(TRUTH, nested(THREE) if form == "lists" else text)
    rows = tables.details("--index_type", "FlatIP", "--num_interests", "3")
    assert tables.rate("--index_type", "FlatIP", "--num_interests", "3") == pytest.approx(right_rate(TRUTH, THREE))
    assert [len(interest) for interest in rows[0]["topk_ids"]] == [K] * 3


def test_only_the_valid_interests_are_searched(tables: Tables) -> None:
    valid = [row % 4 for row in range(40)]
    tables.users(TRUTH, nested(THREE), valid=valid)
    rows = tables.details("--index_type", "FlatIP", "--num_interests", "3", "--num_interests_field", "valid")
    assert [[len(each) for each in row["topk_ids"]] for row in rows[:4]] == [[0] * 3, [K, 0, 0], [K, K, 0], [K] * 3]
    hits = sum(len(row["hit_ids"]) for row in rows)
    expected = [THREE[row, : valid[row]] for row in range(40)]
    found = [{int(ITEM_IDS[p]) for each in vectors for p, _ in nearest(each)} for vectors in expected]
    assert hits == sum(len(a & set(b)) for a, b in zip(found, TRUTH, strict=True))


@pytest.mark.parametrize("kind", ["FlatIP", "FlatL2", "IVFFlatIP", "IVFFlatL2"])
def test_a_vector_of_zeros_finds_nothing(tables: Tables, kind: str) -> None:
    """TorchEasyRec uses whatever faiss returns for it."""
    padded = THREE.copy()
    padded[::2, 1:] = 0
    tables.users(TRUTH, nested(padded))
    rows = tables.details("--index_type", kind, "--ivf_nlist", "10", "--num_interests", "3")
    assert [[len(each) for each in row["topk_ids"]] for row in rows[:2]] == [[K, 0, 0], [K, K, K]]


def test_one_vector_of_zeros_is_a_place_but_no_direction(tables: Tables) -> None:
    tables.users(TRUTH[:1], [np.zeros(8, np.float32)])
    assert tables.details("--index_type", "FlatIP")[0]["topk_ids"] == [[]]
    best = [str(ITEM_IDS[place]) for place, _ in nearest(np.zeros(8), "L2")]
    assert tables.details("--index_type", "FlatL2")[0]["topk_ids"] == [best]


@pytest.mark.parametrize("metric", ["IP", "L2"])
def test_across_interests_the_best_are_taken_together(tables: Tables, metric: str) -> None:
    """An item that two interests find at different distances occupies two places, as in TorchEasyRec."""
    near = THREE.copy()
    near[:, 1] = near[:, 0] + 0.1 * near[:, 1]
    near[:, 2] = near[:, 0]  # finds the same items at the same distances, which count once
    tables.users(TRUTH, nested(near))
    rows = tables.details("--index_type", f"Flat{metric}", "--num_interests", "3", "--topk_across_interests")
    repeated = 0
    for row, vectors in zip(rows, near, strict=True):
        sign = -1 if metric == "IP" else 1
        pairs = sorted({(sign * distance, place) for each in vectors for place, distance in nearest(each, metric)})[:K]
        assert row["topk_ids"] == [[str(ITEM_IDS[place]) for _, place in pairs]]
        repeated += K - len(set(row["topk_ids"][0]))
    assert repeated


def test_different_items_at_one_distance_all_stay(tables: Tables) -> None:
    """TorchEasyRec treats them as one item."""
    items = np.zeros((6, 2), np.float32)
    items[:, 0] = [3, 3, 3, 2, 2, 1]
    tables.items("items.parquet", list("abcdef"), list(items))
    tables.users([["c", "e"]], nested(np.array([[[1, 0], [1, 0]]], np.float32)))
    (row,) = tables.details("--index_type", "FlatIP", "--num_interests", "2", "--topk_across_interests", k=4)
    assert row["topk_ids"] == [["a", "b", "c", "d"]]
    assert row["hit_ids"] == ["c"]


def test_fields_may_have_other_names(tables: Tables) -> None:
    tables.write("items.parquet", {"i": ITEM_IDS, "v": list(ITEMS)})
    tables.write("users.parquet", {"r": list(range(40)), "g": TRUTH, "u": list(USERS)})
    names = ("--item_id_field", "i", "--item_embedding_field", "v", "--request_id_field", "r", "--gt_items_field", "g")
    assert tables.rate("--index_type", "FlatIP", *names, "--user_embedding_field", "u") == right_rate(TRUTH)


def test_what_cannot_be_read_is_named(tables: Tables) -> None:
    tables.users(TRUTH[:3])
    assert "no column x: it has request_id, gt_items" in tables.error("--gt_items_field", "x")
    assert "there is no file" in tables.error(users="none.parquet")
    tables.users(TRUTH[:3], [[1.0] * 8, [1.0] * 7, [1.0] * 8])
    assert "users.parquet, row 2: user_tower_emb has 7 numbers, not 8" in tables.error()
    tables.users(TRUTH[:3], [[1.0] * 8, [1.0] * 7 + [float("nan")], [1.0] * 8])
    assert "users.parquet, row 2: user_tower_emb holds a value that is not a finite number" in tables.error()
    tables.users(TRUTH[:3], ["1,2,3,4,5,6,7,8", "1,2,3,4,5,6,7,8", "1,2,3,4,x,6,7,8"])
    assert "users.parquet, row 3: user_tower_emb holds 'x', which is not a number" in tables.error()
    tables.users(TRUTH[:3], ["1,2;3,4", "1,2;3,4", "1,2"])
    assert "row 3: user_tower_emb has 1 vectors, not 2" in tables.error("--num_interests", "2")
    assert "row 1: user_tower_emb has 2 vectors, not 1" in tables.error()
    tables.users([[0.5], [1.5], [2.5]])
    assert "gt_items holds double: ids are integers or text" in tables.error()
    tables.users(TRUTH[:2], valid=["2", "many"])
    assert "row 2: valid is 'many', not an integer" in tables.error("--num_interests_field", "valid")
    tables.items("items.parquet", pa.array([1, None]), list(ITEMS[:2]))
    tables.users(TRUTH[:2])
    assert "items.parquet, row 2: item_id is missing" in tables.error()
    (tables.folder / "items.parquet").write_text("no table")
    assert "items.parquet cannot be read as parquet" in tables.error()


@pytest.mark.parametrize("kind", ["FlatIP", "IVFFlatIP"])
def test_vectors_of_another_length_than_the_items_are_refused(tables: Tables, kind: str) -> None:
    tables.users(TRUTH[:3], [[1.0] * 5] * 3)
    assert "vectors of 5 numbers, the items' have 8" in tables.error("--index_type", kind)


def test_maxcompute_is_refused(tables: Tables) -> None:
    tables.users(TRUTH)
    assert "export the table to Parquet" in tables.error("--reader_type", "OdpsReader")
    assert "export the table to Parquet" in tables.error("--writer_type", "OdpsWriter")
    assert "export the table to Parquet" in tables.error("--hitrate_details_output", "odps://project/tables/t")
    ignored = tables.run("--odps_data_quota_name", "mine", "--index_type", "FlatIP")
    no_effect = "--odps_data_quota_name has no effect: MaxCompute is not read here\n"
    assert (ignored.exit_code, ignored.stderr) == (0, no_effect)


def test_an_error_leaves_no_output_and_an_old_one_as_it_was(tables: Tables) -> None:
    tables.items("items.csv", [f"a,{row}" for row in range(600)], [",".join(map(str, vector)) for vector in ITEMS])
    tables.users(TRUTH)
    (tables.folder / "details.csv").write_text("old")
    before = sorted(tables.folder.iterdir())
    said = tables.error(
        "--hitrate_details_output", str(tables.folder / "details.csv"), "--writer_type", "CsvWriter", items="items.csv"
    )
    assert "'a," in said
    assert "use Parquet" in said
    assert sorted(tables.folder.iterdir()) == before
    assert (tables.folder / "details.csv").read_text() == "old"


def test_one_place_for_two_outputs_is_refused(tables: Tables) -> None:
    tables.users(TRUTH)
    assert "same place" in tables.error("--hitrate_details_output", "out", "--total_hitrate_output", "out")


def test_flags_and_defaults_are_torcheasyrecs() -> None:
    expected = {
        "user_gt_input": None, "item_embedding_input": None, "total_hitrate_output": None,
        "hitrate_details_output": None, "batch_size": 1024, "index_type": "IVFFlatIP", "top_k": 200,
        "topk_across_interests": False, "ivf_nlist": 1000, "ivf_nprobe": 800, "request_id_field": "request_id",
        "gt_items_field": "gt_items", "user_embedding_field": "user_tower_emb", "num_interests": 1,
        "num_interests_field": None, "item_id_field": "item_id", "item_embedding_field": "item_tower_emb",
        "reader_type": None, "writer_type": None,
    }  # fmt: skip
    there = {parameter.name: parameter for parameter in hitrate.params}
    assert set(there) == {*expected, "odps_data_quota_name"}
    for name, default in expected.items():
        assert there[name].opts == [f"--{name}"]
        if not there[name].required:
            assert there[name].to_info_dict()["default"] == default, name


def test_the_tool_runs_as_a_module(tables: Tables) -> None:
    tables.users(TRUTH)
    given = ["--user_gt_input", str(tables.folder / "users.parquet"), "--index_type", "FlatIP", "--top_k", str(K)]
    command = [sys.executable, "-m", "recsys_assets.tzrec.hitrate", *given]
    command += ["--item_embedding_input", str(tables.folder / "items.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"Total hitrate: {right_rate(TRUTH):.8f}\n"
