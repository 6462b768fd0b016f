"""`recsys triton`: a Triton server for the models that the assets `triton_<model>` publish."""

import os

import click


@click.group()
def triton() -> None:
    """Install and start Triton Inference Server, which has an environment of its own."""


@triton.command()
def install() -> None:
    """Make the environment of the server, `.triton` in the project's folder: 0.4 GB."""
    from recsys_assets.settings import settings
    from recsys_assets.stores.triton import server

    server.install(server.environment(settings().home), click.echo)


@triton.command()
def serve() -> None:
    """Serve the profile's models until Ctrl-C, at RECSYS_TRITON_URI (default: http://127.0.0.1:8500).

    HTTP has that port, gRPC and the metrics the two after it. The environment is made first if it is not there.
    """
    from recsys_assets.datasets.disk import private_folder
    from recsys_assets.datasets.profile import load_profile
    from recsys_assets.guard import is_taken
    from recsys_assets.serving.supervise import PortInUse
    from recsys_assets.settings import settings
    from recsys_assets.stores.triton import server
    from recsys_assets.stores.triton.store import TritonStore, repository

    place, profile = settings(), load_profile()
    address = place.stores.get("RECSYS_TRITON_URI") or server.ADDRESS
    port = server.port_of(address)
    for each in range(port, port + 3):
        if is_taken(each):
            raise PortInUse(f"port {each} is in use: stop what listens there, or choose another with RECSYS_TRITON_URI")
    installed, models = server.environment(place.home), repository(profile.name)
    server.install(installed, click.echo)
    private_folder(models)
    with TritonStore(address, profile.name) as store:
        names = store.models()
    click.echo(f"Triton serves {len(names)} models at http://127.0.0.1:{port}; Ctrl-C stops it")
    command = server.command(installed, models, names, port)
    # Triton takes the place of this process: Ctrl-C is for it, and its status is that of the command.
    os.execve(command[0], command, server.variables(installed, dict(os.environ)))  # noqa: S606 (our own list)
