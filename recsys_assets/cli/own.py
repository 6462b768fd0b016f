"""`recsys demo` and `recsys ui`: what `make demo` and `make ui` run, for an installation without a checkout."""

import click

from recsys_assets.home import prepare_home


@click.command()
def demo() -> None:
    """Generate data, build every asset of the latest bizdate, and show what came out; about four minutes."""
    from recsys_assets.demo import main

    prepare_home()
    main.main(args=[], standalone_mode=False)


@click.command()
def ui() -> None:
    """Serve lists, Dagster and MLflow on this machine, until Ctrl-C."""
    from recsys_assets.ui.__main__ import main

    prepare_home()
    main()
