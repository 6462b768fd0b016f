"""Trains a model on tables and evaluates it, with the flags of TorchEasyRec's `tzrec.train_eval`.

The trainers are those of the assets `recall_<model>` and `rank_<model>`: they choose the best epoch on validation rows,
train it on these rows once, and evaluate the result on rows that they have not seen.
"""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recsys_assets.tzrec import options

if TYPE_CHECKING:
    from recsys_assets.tzrec.pipeline import Pipeline
    from recsys_assets.tzrec.shares import Share


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@options.pipeline_options(required=True)
@click.option("--train_input_path", callback=options.place, help="Replaces that of the file.")
@click.option("--eval_input_path", callback=options.place, help="Replaces that of the file.")
@click.option("--model_dir", help="Replaces that of the file.")
def train_eval(
    pipeline_config_path: Path,
    edit_config_json: str | None,
    train_input_path: str | None,
    eval_input_path: str | None,
    model_dir: str | None,
) -> None:
    """Train a model into the model_dir; the last line of output is JSON with the metrics of the eval rows."""
    from recsys_assets.cli.errors import plain_errors
    from recsys_assets.tzrec.pipeline import read_pipeline
    from recsys_assets.tzrec.shares import ALONE, is_first, sharing

    with plain_errors(lambda: "train_eval"):
        pipeline = read_pipeline(
            pipeline_config_path,
            edit_config_json,
            train_input_path=train_input_path,
            eval_input_path=eval_input_path,
            model_dir=model_dir,
        )
        if pipeline.is_shared:
            with sharing() as share:
                run(pipeline, share)
        elif is_first():
            run(pipeline, ALONE)


def run(pipeline: "Pipeline", share: "Share") -> None:
    """Train, evaluate, and write the folder of the model."""
    from recsys_assets.datasets.duck import connect_without_lake
    from recsys_assets.tzrec.model_folder import CHECKPOINT, RESULT
    from recsys_assets.tzrec.outputs import refuse_existing, write_text
    from recsys_assets.tzrec.training_runs import train_ranker, train_towers

    refuse_existing(pipeline.form.model_dir / CHECKPOINT)
    train = train_towers if pipeline.is_tower else train_ranker
    with (
        tempfile.TemporaryDirectory(prefix="recsys_assets-tables-") as place,
        connect_without_lake(Path(place)) as connection,
    ):
        found = json.dumps(train(connection, pipeline, Path(place), share))
    if share.is_first:
        write_text(pipeline.form.model_dir / RESULT, f"{found}\n")
        click.echo(found)


if __name__ == "__main__":
    train_eval(prog_name="train_eval")
