"""`recsys feast serve`: Feast's feature server on the features that `feast_online` published."""

import click

PORT = 6566  # Feast's own default


@click.group()
def feast() -> None:
    """Serve the features that were published to Feast."""


@feast.command()
@click.option("--port", type=click.IntRange(1, 65535), default=PORT, show_default=True, help="The port on 127.0.0.1.")
def serve(port: int) -> None:
    """Answer POST /get-online-features for the services of the profile, until Ctrl-C.

    RECSYS_FEAST_URI names the folder of the feature repository.
    """
    import uvicorn

    from recsys_assets.datasets.profile import load_profile
    from recsys_assets.guard import LOCAL, is_taken
    from recsys_assets.serving.supervise import PortInUse
    from recsys_assets.stores.feast.place import needed_place
    from recsys_assets.stores.feast.repository import Repository
    from recsys_assets.stores.feast.server import feature_server
    from recsys_assets.stores.feast.snapshots import SIDES

    if is_taken(port):
        raise PortInUse(f"port {port} is in use: stop what listens there, or choose another with --port")
    place = needed_place(load_profile())
    app = feature_server(Repository(place), port)
    names = " and ".join(place.service(side) for side in SIDES)
    click.echo(f"http://{LOCAL[0]}:{port}/get-online-features has the services {names}; Ctrl-C stops it")
    uvicorn.run(app, host=LOCAL[0], port=port, log_level="warning", access_log=False)
