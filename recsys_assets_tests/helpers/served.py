"""The service on a real port, as `recsys serve` starts it, in a thread of the tests."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from recsys_assets.guard import LOCAL, Guard, hosts_of
from recsys_assets.serving.app import create_app
from recsys_assets.serving.page import PATHS
from recsys_assets.serving.place import ALONE, Place
from recsys_assets.serving.request_log import RequestLog
from recsys_assets.serving.service import Service
from recsys_assets.serving.worker import LOOP
from recsys_assets_tests.helpers.dagster_dev import free_port


@contextmanager
def serving(service: Service, token: str = "", place: Place = ALONE, log: RequestLog | None = None) -> Iterator[str]:
    """The address of a server over a service, as long as the block runs; `log` keeps its answers."""
    port = free_port()
    app = Guard(create_app(service, log, place), hosts_of(port), token, open_paths=PATHS)
    how: dict[str, Any] = {"log_level": "warning", "access_log": False, "loop": LOOP}
    server = uvicorn.Server(uvicorn.Config(app, host=LOCAL[0], port=port, **how))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield f"http://{LOCAL[0]}:{port}"
    finally:
        server.should_exit = True
        thread.join()
