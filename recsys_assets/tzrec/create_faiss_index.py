"""Builds a faiss index of an embedding table, like TorchEasyRec's `tzrec.tools.create_faiss_index`.

Flags and defaults are the same; FlatIP and FlatL2 are additions.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recsys_assets.tzrec import options

if TYPE_CHECKING:
    from recsys_assets.retrieval.index import Kind
    from recsys_assets.tzrec.table_files import Format

KINDS = ["IVFFlatIP", "HNSWFlatIP", "IVFFlatL2", "HNSWFlatL2", "FlatIP", "FlatL2"]


@dataclass(frozen=True)
class Flags:
    """The command line."""

    embedding_input_path: str
    index_output_dir: Path
    index_type: "Kind"
    ivf_nlist: int
    hnsw_m: int
    hnsw_efconstruction: int
    id_field: str
    embedding_field: str
    reader_type: "Format | None"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--embedding_input_path", required=True, callback=options.place, help="A file, a folder or a pattern.")
@click.option("--index_output_dir", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--index_type", type=click.Choice(KINDS), default=KINDS[0], show_default=True)
@click.option("--ivf_nlist", type=click.IntRange(1), default=1000, show_default=True, help="IVF: clusters.")
@click.option("--hnsw_M", type=click.IntRange(2), default=32, show_default=True, help="HNSW: neighbours.")
@click.option(
    "--hnsw_efConstruction",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="HNSW: candidates while building.",
)
@click.option("--id_field", required=True)
@click.option("--embedding_field", required=True, help="A list of numbers, or text: 0.1,0.2.")
@options.table_options
def create_faiss_index(**given: Any) -> None:
    """Write `faiss_index` and `id_mapping` into --index_output_dir."""
    from recsys_assets.cli.errors import plain_errors
    from recsys_assets.tzrec.shares import is_first

    given.pop("batch_size")  # files are read whole
    if is_first():
        with plain_errors(lambda: "create_faiss_index"):
            run(Flags(**given))


def run(flags: Flags) -> None:
    """Read the vectors, build the index on all cores, and move its two files into place when both are written."""
    from recsys_assets.retrieval import index
    from recsys_assets.tzrec import input_tables

    ids, vectors = input_tables.items(
        flags.embedding_input_path, flags.reader_type, flags.id_field, flags.embedding_field
    )
    settings = index.IndexSettings(
        flags.index_type, flags.ivf_nlist, m=flags.hnsw_m, ef_construction=flags.hnsw_efconstruction
    )
    settings = options.trainable_settings(settings, len(vectors))
    with options.progress("building the index"):
        built = index.build(vectors, ids, settings, repeatable=False)
    flags.index_output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".faiss.", dir=flags.index_output_dir) as folder:
        built.write(Path(folder))
        for file in (index.INDEX, index.IDS):
            (Path(folder) / file).replace(flags.index_output_dir / file)
    click.echo(f"{len(ids):,} vectors of {vectors.shape[1]} in {flags.index_output_dir}")


if __name__ == "__main__":
    create_faiss_index(prog_name="create_faiss_index")
