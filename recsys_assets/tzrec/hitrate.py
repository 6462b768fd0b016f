"""Hit rate of embedding tables, with the flags and defaults of TorchEasyRec's `tzrec.tools.hitrate`.

FlatIP and FlatL2, which TorchEasyRec lacks, are exact; they take at most a tenth of the time of its defaults.
"""

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from recsys_assets.tzrec import options

if TYPE_CHECKING:
    import pyarrow as pa

    from recsys_assets.arrays import Vectors
    from recsys_assets.retrieval.index import Kind
    from recsys_assets.tzrec.evaluation import Evaluation, Searcher
    from recsys_assets.tzrec.exact_search import Metric
    from recsys_assets.tzrec.shares import Share
    from recsys_assets.tzrec.table_files import Format

EXACT_ROWS = 1 << 14  # requests that the exact search takes at once


@dataclass(frozen=True)
class Flags:
    """The command line."""

    user_gt_input: str
    item_embedding_input: str
    total_hitrate_output: str | None
    hitrate_details_output: str | None
    batch_size: int
    index_type: "Kind"
    top_k: int
    topk_across_interests: bool
    ivf_nlist: int
    ivf_nprobe: int
    request_id_field: str
    gt_items_field: str
    user_embedding_field: str
    num_interests: int
    num_interests_field: str | None
    item_id_field: str
    item_embedding_field: str
    reader_type: "Format | None"
    writer_type: "Format | None"

    @property
    def metric(self) -> "Metric":
        """The metric of the index type."""
        return "L2" if self.index_type.endswith("L2") else "IP"

    @property
    def is_exact(self) -> bool:
        """Whether every item is compared."""
        return self.index_type.startswith("Flat")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--user_gt_input", required=True, callback=options.place, help="Requests: a file, a folder or a pattern.")
@click.option("--item_embedding_input", required=True, callback=options.place, help="Items: likewise.")
@click.option("--total_hitrate_output", callback=options.place, help="Table of the hit rate: a file or a folder.")
@click.option("--hitrate_details_output", callback=options.place, help="Table with one row per request: likewise.")
@click.option(
    "--index_type",
    type=click.Choice(["IVFFlatIP", "IVFFlatL2", "FlatIP", "FlatL2"]),
    default="IVFFlatIP",
    show_default=True,
    help="Flat is exact and faster.",
)
@click.option("--top_k", type=click.IntRange(1), default=200, show_default=True, help="Items found per vector.")
@click.option("--topk_across_interests", is_flag=True, help="Take the top k of all interests of a request together.")
@click.option("--ivf_nlist", type=click.IntRange(1), default=1000, show_default=True, help="IVF: clusters.")
@click.option("--ivf_nprobe", type=click.IntRange(1), default=800, show_default=True, help="IVF: clusters searched.")
@click.option("--request_id_field", default="request_id", show_default=True)
@click.option("--gt_items_field", default="gt_items", show_default=True, help="Right items: a list, or text: 7,9.")
@click.option(
    "--user_embedding_field", default="user_tower_emb", show_default=True, help="Lists, or text: 0.1,0.2;0.3,0.4"
)
@click.option("--num_interests", type=click.IntRange(1), default=1, show_default=True, help="Vectors per request.")
@click.option("--num_interests_field", help="Column with the number of a request's vectors that count.")
@click.option("--item_id_field", default="item_id", show_default=True)
@click.option("--item_embedding_field", default="item_tower_emb", show_default=True)
@click.option(
    "--writer_type",
    type=click.Choice(["OdpsWriter", "CsvWriter", "ParquetWriter"]),
    callback=options.file_type,
    help="Default: the format of the requests.",
)
@options.table_options
def hitrate(**given: Any) -> None:
    """Print the share of right items that are among the top k found, over all requests (micro average)."""
    from recsys_assets.cli.errors import plain_errors
    from recsys_assets.tzrec.shares import sharing

    flags = Flags(**given)
    if flags.total_hitrate_output and flags.total_hitrate_output == flags.hitrate_details_output:
        raise click.UsageError("--total_hitrate_output and --hitrate_details_output are the same place")
    with plain_errors(lambda: "hitrate"), sharing() as share:
        rate = run(flags, share)
        if share.is_first:
            click.echo(f"Total hitrate: {rate:.8f}")


def run(flags: Flags, share: "Share") -> float:
    """Compute the hit rate and write the tables that the flags name; remarks on the data go to stderr.

    Each process searches for its share of the requests, in an index of its own.

    Raises:
        NoTruth: no request has a right item, so there is no rate.
    """
    import pyarrow as pa

    from recsys_assets.tzrec import exact_search, table_files
    from recsys_assets.tzrec.outputs import table_writer

    evaluation, vectors, truths = _read(flags, share)
    file_type = flags.writer_type or table_files.files(flags.user_gt_input, flags.reader_type)[1]
    searcher, size, hits = _searcher(flags, share, evaluation.item_ids, vectors), flags.batch_size, 0
    if isinstance(searcher, exact_search.Flat):
        size = EXACT_ROWS
        if not flags.hitrate_details_output:
            evaluation = evaluation.within_reach(searcher, flags.top_k)
    with contextlib.ExitStack() as stack:
        place = flags.hitrate_details_output
        details = stack.enter_context(table_writer(place, file_type, share)) if place else None
        advance = stack.enter_context(options.progress("requests", len(evaluation.sizes)))
        for found in evaluation.search(searcher, flags.top_k, size, flags.topk_across_interests):
            hits += int(found.hits.sum())
            if details:
                details.write(evaluation.details(found, flags.metric))
            advance(len(found.items))
        rate = sum(share.gather(hits)) / truths
        if flags.total_hitrate_output and share.is_first:
            total = stack.enter_context(table_writer(flags.total_hitrate_output, file_type))
            total.write(pa.table({"hitrate": [rate]}))
    return rate


def _read(flags: Flags, share: "Share") -> "tuple[Evaluation, Vectors, int]":
    """Read this process's requests, the items, the items' vectors and the number of right items of all requests.

    The first process prints what is odd about them.
    """
    from recsys_assets.tzrec import input_tables
    from recsys_assets.tzrec.evaluation import UNKNOWN, Evaluation, NoTruth

    columns = flags.request_id_field, flags.gt_items_field, flags.user_embedding_field
    requests = input_tables.requests(
        flags.user_gt_input, flags.reader_type, columns, flags.num_interests, flags.num_interests_field, flags.metric
    )
    item_ids, vectors = input_tables.items(
        flags.item_embedding_input, flags.reader_type, flags.item_id_field, flags.item_embedding_field
    )
    if requests.vectors.shape[2] != vectors.shape[1]:
        sizes = f"vectors of {requests.vectors.shape[2]} numbers, the items' have {vectors.shape[1]}"
        raise click.ClickException(f"{flags.user_gt_input}: {sizes}")
    whole = Evaluation(requests, item_ids)
    truths = len(whole.truth_codes)
    if not truths:
        raise NoTruth("no request has a right item: there is nothing to hit")
    without, absent = int((whole.sizes == 0).sum()), int((whole.truth_codes == UNKNOWN).sum())
    remarks = {
        f"{without:,} of {len(requests.ids):,} requests have no right item: they do not count": without,
        f"{absent:,} of {truths:,} right items are not among the items": absent,
        f"there are only {len(item_ids):,} items: no list has {flags.top_k}": len(item_ids) < flags.top_k,
    }
    for remark in (text for text, applies in remarks.items() if applies):
        share.say(remark)
    return Evaluation(requests.rows(share.of(len(requests.ids))), item_ids), vectors, truths


def _searcher(flags: Flags, share: "Share", item_ids: "pa.Array", vectors: "Vectors") -> "Searcher":
    """Exact search, or the index that was chosen; with too few items for its clusters, it gets fewer clusters."""
    from recsys_assets.retrieval import index
    from recsys_assets.tzrec import exact_search

    if flags.is_exact:
        return exact_search.Flat(vectors, flags.metric)
    share.say(f"{flags.index_type} is approximate: --index_type Flat{flags.metric} is exact and faster")
    settings = index.IndexSettings(flags.index_type, flags.ivf_nlist, flags.ivf_nprobe)
    settings = options.trainable_settings(settings, len(vectors), share)
    with options.progress("building the index"):
        return index.build(vectors, item_ids, settings)


if __name__ == "__main__":
    hitrate(prog_name="hitrate")
