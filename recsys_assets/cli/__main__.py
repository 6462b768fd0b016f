"""`python -m recsys_assets.cli`: the same as `recsys`."""

from recsys_assets.cli import main

main(prog_name="recsys")
