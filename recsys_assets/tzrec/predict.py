"""Scores the rows of tables, with the flags of TorchEasyRec's `tzrec.predict`.

Every row of the input has one row in the output. On rows with labels, the metrics of a ranking model are printed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recsys_assets.tzrec import options

if TYPE_CHECKING:
    from recsys_assets.tzrec.scorers import Scorer
    from recsys_assets.tzrec.shares import Share
    from recsys_assets.tzrec.table_files import Format


@dataclass(frozen=True)
class Flags:
    """The command line."""

    scripted_model_path: Path | None
    pipeline_config_path: Path | None
    edit_config_json: str | None
    checkpoint_path: Path | None
    predict_input_path: str
    predict_output_path: str
    reserved_columns: str | None
    output_columns: str | None
    batch_size: int
    writer_type: "Format | None"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--scripted_model_path", type=click.Path(exists=True, file_okay=False, path_type=Path), help="An exported model."
)
@options.pipeline_options(required=False)
@options.checkpoint
@click.option("--predict_input_path", required=True, callback=options.place, help="A file, a folder or a pattern.")
@click.option("--predict_output_path", required=True, callback=options.place, help="A file, or the folder of part-0.")
@click.option("--reserved_columns", help="Columns of the input that the output keeps: user_id,clk, or ALL_COLUMNS.")
@click.option("--output_columns", help="Outputs of the model; default: all.")
@click.option("--batch_size", type=click.IntRange(1), default=4096, show_default=True, help="Rows scored at once.")
@click.option(
    "--writer_type",
    type=click.Choice(["OdpsWriter", "CsvWriter", "ParquetWriter"]),
    callback=options.file_type,
    help="Default: the format of the input.",
)
def predict(**given: Any) -> None:
    """Score rows by an exported model, or a ranking model's checkpoint."""
    from recsys_assets.cli.errors import plain_errors
    from recsys_assets.tzrec.shares import sharing

    flags = Flags(**given)
    if (flags.scripted_model_path is None) == (flags.pipeline_config_path is None):
        raise click.UsageError("give either --scripted_model_path or --pipeline_config_path")
    with plain_errors(lambda: "predict"), sharing() as share:
        run(flags, share)


def run(flags: Flags, share: "Share") -> None:
    """Score this process's share of the rows; the first process prints the metrics of all.

    Raises:
        UnknownColumn: the model does not give an output that is asked for.
        Unwritable: the output would be among the input.
    """
    from recsys_assets.tzrec.outputs import Unwritable, table_writer
    from recsys_assets.tzrec.predictions import Predictions, UnknownColumn
    from recsys_assets.tzrec.table_files import files

    scorer, (found, kind) = _open(flags), files(flags.predict_input_path)
    if unknown := set(_names(flags.output_columns)) - {scorer.output}:
        raise UnknownColumn(f"the model does not give {min(unknown)}: it gives {scorer.output}")
    place = Path(flags.predict_output_path).resolve()
    if any(place in (file.resolve(), file.resolve().parent) for file in found):
        raise Unwritable(f"{place} holds the rows to be scored: name another place for the output")
    predictions = Predictions(scorer, found, kind, _names(flags.reserved_columns), flags.batch_size, share)
    with table_writer(flags.predict_output_path, flags.writer_type or kind, share) as writer:
        for table in predictions.tables():
            writer.write(table)
    predictions.report()


def _open(flags: Flags) -> "Scorer":
    """The model that the flags name."""
    from recsys_assets.tzrec import scorers
    from recsys_assets.tzrec.pipeline import read_pipeline

    if flags.pipeline_config_path is None:
        return scorers.open_exported(Path(flags.scripted_model_path or ""), flags.edit_config_json)
    pipeline = read_pipeline(flags.pipeline_config_path, flags.edit_config_json)
    return scorers.open_checkpoint(pipeline, flags.checkpoint_path)


def _names(text: str | None) -> list[str]:
    """The names in a text that joins them by commas."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


if __name__ == "__main__":
    predict(prog_name="predict")
