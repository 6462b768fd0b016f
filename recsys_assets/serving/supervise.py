"""A service from its start to its end: the port, the folder that its processes share, and the supervisor's loop."""

import contextlib
import signal
import time
from collections.abc import Callable
from pathlib import Path

from recsys_assets.guard import is_taken
from recsys_assets.serving.order import LOOK, RECOMMENDER
from recsys_assets.serving.supervisor import Newest, Supervisor, listen, shared_folder


class PortInUse(RuntimeError):
    """Something else listens on the port; the message says what to do."""


def refuse_taken(port: int) -> None:
    """Refuse a port on which something listens.

    Raises:
        PortInUse: something does.
    """
    if is_taken(port):
        raise PortInUse(f"port {port} is in use: stop what listens there, or choose another port")


def supervise(
    lookout: Newest,
    port: int,
    copies: Path,
    processes: int = 1,
    kind: str = RECOMMENDER,
    listens: Callable[[], None] = lambda: None,
    before_look: Callable[[Supervisor], None] = lambda _: None,
) -> None:
    """Answer on a port of this machine until Ctrl-C or SIGTERM.

    Args:
        lookout: knows the newest release.
        port: of 127.0.0.1.
        copies: folder of the copies of releases.
        processes: how many answer.
        kind: of the service.
        listens: is called once the port is open.
        before_look: is called ten times a second with the supervisor, whose settings it may change.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C
    with (
        contextlib.suppress(KeyboardInterrupt),
        listen(port) as listener,
        shared_folder(copies) as folder,
        Supervisor(lookout, listener, processes, copies, folder, kind) as supervisor,
    ):
        listens()
        while True:
            before_look(supervisor)
            supervisor.look()
            time.sleep(LOOK)
