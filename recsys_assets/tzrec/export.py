"""Exports a trained model as ONNX files on raw features, with the flags of TorchEasyRec's `tzrec.export`.

A two-tower model becomes the folders `user` and `item`. Nothing is quantised.
"""

from pathlib import Path

import click

from recsys_assets.tzrec import options


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@options.pipeline_options(required=True)
@options.checkpoint
@click.option("--export_dir", required=True, type=click.Path(file_okay=False, path_type=Path), help="A new folder.")
def export(
    pipeline_config_path: Path, edit_config_json: str | None, checkpoint_path: Path | None, export_dir: Path
) -> None:
    """Write ONNX files that take raw features into --export_dir."""
    from recsys_assets.cli.errors import plain_errors
    from recsys_assets.tzrec import model_folder
    from recsys_assets.tzrec.outputs import new_folder_at
    from recsys_assets.tzrec.pipeline import read_pipeline
    from recsys_assets.tzrec.shares import is_first

    if not is_first():
        return
    with plain_errors(lambda: "export"):
        pipeline = read_pipeline(pipeline_config_path, edit_config_json)
        checkpoint = model_folder.checkpoint_of(pipeline, checkpoint_path)
        with new_folder_at(export_dir) as folder:
            model_folder.export(pipeline, checkpoint, folder)
        click.echo(f"{pipeline.model} in {export_dir}")


if __name__ == "__main__":
    export(prog_name="export")
