"""The index tool: TorchEasyRec's flags and files."""

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

from recsys_assets.retrieval.index import read
from recsys_assets.tzrec.create_faiss_index import KINDS, create_faiss_index

VECTORS = np.random.default_rng(1).standard_normal((500, 8), dtype=np.float32)
NAMES = [f"item {row}" for row in range(500)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    pq.write_table(pa.table({"name": NAMES, "vector": list(VECTORS)}), tmp_path / "items.parquet")
    return tmp_path


def run(place: Path, *flags: str, source: str = "items.parquet") -> Result:
    given = ["--embedding_input_path", str(place / source), "--index_output_dir", str(place / "user")]
    return CliRunner().invoke(create_faiss_index, [*given, "--id_field", "name", "--embedding_field", "vector", *flags])


@pytest.mark.parametrize("kind", KINDS)
def test_the_index_finds_what_was_put_in(kind: str, place: Path) -> None:
    result = run(place, "--index_type", kind, "--ivf_nlist", "10")
    assert result.exit_code == 0, result.output
    assert "500 vectors of 8" in result.stdout
    assert sorted(file.name for file in (place / "user").iterdir()) == ["faiss_index", "id_mapping"]
    assert (place / "user" / "id_mapping").read_text() == "".join(f"{name}\n" for name in NAMES)
    nearest = read(place / "user").search(VECTORS, 5).items[:, 0]
    exact = VECTORS @ VECTORS.T if kind.endswith("IP") else -np.square(VECTORS[:, None] - VECTORS).sum(2)
    assert (nearest == exact.argmax(axis=1)).mean() > (0.5 if kind.startswith("IVF") else 0.99)


def test_its_flags_reach_faiss(place: Path) -> None:
    run(place, "--index_type", "HNSWFlatL2", "--hnsw_M", "7", "--hnsw_efConstruction", "33")
    graph: Any = faiss.read_index(str(place / "user" / "faiss_index"))
    assert (graph.hnsw.nb_neighbors(1), graph.hnsw.efConstruction) == (7, 33)
    assert graph.metric_type == faiss.METRIC_L2
    run(place, "--ivf_nlist", "11")
    clusters: Any = faiss.read_index(str(place / "user" / "faiss_index"))
    assert clusters.nlist == 11
    assert clusters.metric_type == faiss.METRIC_INNER_PRODUCT


def test_with_fewer_items_than_clusters_there_are_fewer_clusters(place: Path) -> None:
    result = run(place)
    assert result.exit_code == 0
    assert "500 items are too few for 1,000 clusters: 12 are used" in result.stderr


def test_it_writes_beside_what_is_there_and_over_an_old_index(place: Path) -> None:
    (place / "user").mkdir()
    (place / "user" / "scripted_model.pt").write_text("model")
    (place / "user" / "id_mapping").write_text("old")
    assert run(place, "--index_type", "FlatIP").exit_code == 0
    assert sorted(file.name for file in (place / "user").iterdir()) == [
        "faiss_index",
        "id_mapping",
        "scripted_model.pt",
    ]
    assert read(place / "user").ids.to_pylist() == NAMES


def test_a_wrong_table_leaves_the_old_index(place: Path) -> None:
    run(place, "--index_type", "FlatIP")
    before = (place / "user" / "faiss_index").read_bytes()
    pq.write_table(pa.table({"name": ["a\nb", "c"], "vector": ["1,2", "3,4"]}), place / "items.parquet")
    failed = run(place, "--index_type", "FlatL2")
    assert failed.exit_code == 1
    assert "line break" in failed.output
    assert (place / "user" / "faiss_index").read_bytes() == before
    assert len(list((place / "user").iterdir())) == 2


def test_flags_and_defaults_are_torcheasyrecs() -> None:
    expected = {
        "embedding_input_path": None, "batch_size": 1024, "index_output_dir": None, "index_type": "IVFFlatIP",
        "ivf_nlist": 1000, "hnsw_M": 32, "hnsw_efConstruction": 200, "id_field": None, "embedding_field": None,
        "reader_type": None, "odps_data_quota_name": None,
    }  # fmt: skip
    there = {parameter.opts[0]: parameter for parameter in create_faiss_index.params}
    assert set(there) == {f"--{name}" for name in expected}
    for name, default in expected.items():
        if not there[f"--{name}"].required:
            assert there[f"--{name}"].to_info_dict()["default"] == default, name


def test_it_runs_as_a_module(place: Path) -> None:
    command = [sys.executable, "-m", "recsys_assets.tzrec.create_faiss_index", "--index_output_dir", str(place / "out")]
    command += ["--embedding_input_path", str(place), "--id_field", "name", "--embedding_field", "vector"]
    done = subprocess.run([*command, "--index_type", "FlatIP"], capture_output=True, text=True, check=True)
    assert done.stdout == f"500 vectors of 8 in {place / 'out'}\n"
