from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_assets.retrieval import embeddings


@pytest.mark.parametrize("ids", [np.array([30, 10, 20]), np.array(["c", "a", "b"], object)])
def test_vectors_are_read_as_they_were_written_in_the_order_of_the_ids(tmp_path: Path, ids: np.ndarray) -> None:
    vectors = np.array([[3.0, 0.5], [1.0, -2.0], [2.0, np.pi]], np.float32)
    embeddings.write(tmp_path / "vectors.parquet", "item_id", ids, vectors)
    found, read = embeddings.read(tmp_path / "vectors.parquet")
    assert found.to_pylist() == sorted(ids.tolist())
    assert np.array_equal(read, vectors[[1, 2, 0]])
    schema = pq.read_schema(tmp_path / "vectors.parquet")
    assert schema.names == ["item_id", "vector"]
    assert pa.types.is_float32(schema.field("vector").type.value_type)


def test_vectors_of_no_user_are_an_empty_file(tmp_path: Path) -> None:
    embeddings.write(tmp_path / "vectors.parquet", "user_id", np.empty(0, np.int64), np.empty((0, 4), np.float32))
    found, read = embeddings.read(tmp_path / "vectors.parquet")
    assert (len(found), len(read)) == (0, 0)


def test_vectors_of_several_widths_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"item_id": [1, 2], "vector": [[1.0], [1.0, 2.0]]}), tmp_path / "vectors.parquet")
    with pytest.raises(ValueError, match=r"vectors.parquet: vectors of \[1, 2\] floats"):
        embeddings.read(tmp_path / "vectors.parquet")
