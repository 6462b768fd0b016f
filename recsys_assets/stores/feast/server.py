"""Feast's feature server, restricted to what services need: reading features, on this machine.

Feast's own server also writes rows that anybody sends it, and reads any file whose path it is sent. Rows come from the
graph alone, so everything but reading is left out. Its answers need the header `content-type: application/json`;
recsys_pipeline's probe is a `curl -d` without it, so the header is added here.
"""

from recsys_assets.guard import App, Guard, Receive, Refusal, Scope, Send, hosts_in, hosts_of, refuse
from recsys_assets.stores.feast.definitions import REGISTRY_SECONDS
from recsys_assets.stores.feast.repository import Repository

READ, HEALTH = "/get-online-features", "/health"
_JSON = (b"content-type", b"application/json")


class Reading:
    """Feast's app, of which only reading is let through.

    Args:
        app: Feast's.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http" and scope["path"] in (READ, HEALTH):
            headers = [each for each in scope["headers"] if each[0] != _JSON[0]]
            await self._app({**scope, "headers": [*headers, _JSON]}, receive, send)
        else:
            await refuse(Refusal(404, f"this server has {READ} and {HEALTH} only"), scope, send)


def feature_server(repository: Repository, port: int) -> App:
    """The guarded application on a port of this machine.

    Raises:
        FeastFailed: there is no feature repository yet.
    """
    from feast.feature_server import get_app

    app = get_app(repository.open(), registry_ttl_sec=REGISTRY_SECONDS)
    return Guard(Reading(app), hosts_of(port, hosts_in("RECSYS_SERVE_HOSTS")))
