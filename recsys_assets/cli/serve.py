"""`recsys serve`: the online service, which answers from the current release."""

import os

import click

PORT = 8000


class PortInUse(RuntimeError):
    """Something else listens on the port; the message says how to choose another."""


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=PORT, show_default=True, help="On 127.0.0.1.")
def serve(port: int) -> None:
    """Answer requests for recommendations from the current release, and follow newer ones, until Ctrl-C.

    `http://127.0.0.1:8000/docs` describes the interface. RECSYS_SERVE_TOKEN is a token that every request must carry;
    RECSYS_SERVE_HOSTS names further hosts, for a proxy in front of the service.
    """
    import uvicorn

    from recsys_assets.datasets.profile import load_profile
    from recsys_assets.guard import Guard, hosts_in, hosts_of, is_taken
    from recsys_assets.lake import Lake
    from recsys_assets.serving.app import create_app
    from recsys_assets.serving.releases import following
    from recsys_assets.settings import settings

    if is_taken(port):
        raise PortInUse(f"port {port} is in use: stop what listens there, or choose another with --port")
    profile = load_profile()
    with following(profile, Lake.of(settings().lake, profile)) as service:
        guarded = Guard(
            create_app(service),
            hosts_of(port, hosts_in("RECSYS_SERVE_HOSTS")),
            os.environ.get("RECSYS_SERVE_TOKEN", ""),
        )
        click.echo(f"http://127.0.0.1:{port}/docs describes the interface; Ctrl-C stops the service")
        uvicorn.run(guarded, host="127.0.0.1", port=port, log_level="warning", access_log=False)
