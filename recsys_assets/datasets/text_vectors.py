"""Text (a title, a description) as a vector: at ingest, and in any service or stream that gets a new item.

The pieces of a text are its runs of 3 to 5 characters within words, in lower case and with the ends of words marked.
Each piece adds 1 or -1 to one of the places of the vector, both chosen by a hash (Weinberger et al. 2009, "Feature
Hashing for Large Scale Multitask Learning"); the vector then gets the length 1. It is a fixed random projection of the
counts of pieces: nothing is fitted, nothing is downloaded, and the inner product of two vectors estimates how alike the
texts are, with an error of about 1 / sqrt(width).
"""

from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from duckdb.func import ARROW

from recsys_assets.datasets.duck import quote_name
from recsys_assets.datasets.profile_parts import Column

FUNCTION = "text_vector"  # the SQL name of `text_vectors`


def text_vectors(texts: pa.Array, width: int) -> pa.Array:
    """The vectors (N,) of N texts, as lists of `width` float32; null for a null, zeros for a text without pieces."""
    from sklearn.feature_extraction.text import HashingVectorizer

    hashing = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), n_features=width, norm="l2", dtype="float32")
    numbers = hashing.transform(pc.fill_null(texts, "").to_pylist()).toarray()
    lists = pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), width).cast(pa.list_(pa.float32()))
    return pc.if_else(texts.is_valid(), lists, pa.scalar(None, lists.type))


def register_text_vector(connection: duckdb.DuckDBPyConnection) -> None:
    """Make `text_vectors` a function of SQL, of a text and a width, unless the connection has it already."""
    if connection.execute(f"FROM duckdb_functions() WHERE function_name = '{FUNCTION}'").fetchall():
        return

    def vectors(texts: pa.ChunkedArray, widths: pa.ChunkedArray) -> Any:
        return text_vectors(texts.combine_chunks(), widths[0].as_py())

    connection.create_function(FUNCTION, vectors, ["VARCHAR", "INTEGER"], "FLOAT[]", type=ARROW)


def written_columns(columns: dict[str, Column]) -> str:
    """SQL for columns of ingested rows as they are written: a text as its vector, all others as they are."""
    return ", ".join(
        f"{FUNCTION}({quote_name(name)}, {spec.width}) AS {quote_name(name)}"
        if spec.type == "text"
        else quote_name(name)
        for name, spec in columns.items()
    )
