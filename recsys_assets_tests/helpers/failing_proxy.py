"""A proxy before an object store: it counts requests, and lets a share of them fail as networks and stores do."""

import contextlib
import http.client
import random
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

# Each fault is drawn equally often. The last three end the connection with a reset: before the store has the request,
# after it has done what was asked, and in the middle of its answer.
FAULTS = ("500", "503", "unsent", "unanswered", "cut")
_CODES = {"500": "InternalError", "503": "SlowDown"}
_OF_CONNECTION = {"connection", "expect", "keep-alive", "transfer-encoding", "content-length"}  # headers not passed on


class FailingProxy(ThreadingHTTPServer):
    """The server; its counters may be read and cleared at any time.

    Args:
        store: address of the store.
        share: of requests that fail, from 0 to 1.
        seed: of the choice of them.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, store: str, share: float, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.store, self.share = urlsplit(store).netloc, share
        self.requests, self.faults, self.again = Counter[str](), Counter[str](), 0
        self._chance, self._lock = random.Random(seed), threading.Lock()

    @property
    def address(self) -> str:
        """Its address for AWS_ENDPOINT_URL."""
        return f"http://127.0.0.1:{self.server_port}"

    def clear(self) -> None:
        """Set all counters to zero."""
        self.requests.clear()
        self.faults.clear()
        self.again = 0

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report an error, unless a client has left: s3fs drops an answer that it goes on to read in parts."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def fault_of(self, kind: str, again: bool) -> str:
        """Count a request, and draw what happens to it: a fault, or nothing."""
        with self._lock:
            self.requests[kind] += 1
            self.again += again
            fault = self._chance.choice(FAULTS) if self._chance.random() < self.share else ""
            if fault:
                self.faults[fault] += 1
            return fault


class _Handler(BaseHTTPRequestHandler):
    """The requests of one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FailingProxy

    def setup(self) -> None:
        super().setup()
        self.store = http.client.HTTPConnection(self.server.store, timeout=60)

    def finish(self) -> None:
        self.store.close()
        super().finish()

    def answer(self) -> None:
        """Pass a request on, unless it is to fail."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kind = "LIST" if "list-type=" in self.path else self.command
        again = not f"{self.headers.get('amz-sdk-request', '')};".startswith(("attempt=1;", ";"))
        fault = self.server.fault_of(kind, again)
        if fault in _CODES:
            self.refuse(int(fault), _CODES[fault])
        elif fault == "unsent":
            self.reset()
        else:
            self.pass_on(body, fault)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer

    def refuse(self, status: int, code: str) -> None:
        """Answer as S3 does when it cannot."""
        self.reply(status, {}, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def pass_on(self, body: bytes, fault: str) -> None:
        """Pass the request to the store, and its answer back."""
        self.store.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in _OF_CONNECTION:
                self.store.putheader(name, value)
        self.store.putheader("Content-Length", str(len(body)))
        self.store.endheaders(body)
        found = self.store.getresponse()
        content = found.read()
        if fault == "unanswered" or (fault == "cut" and not content):
            self.reset()
            return
        headers = {name: value for name, value in found.getheaders() if name.lower() not in _OF_CONNECTION}
        length = found.getheader("Content-Length") if self.command == "HEAD" else None
        self.reply(found.status, headers, content, length, cut=fault == "cut")

    def reply(
        self, status: int, headers: dict[str, str], content: bytes, length: str | None = None, cut: bool = False
    ) -> None:
        """Send an answer, or half of it."""
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.reset()

    def reset(self) -> None:
        """End the connection with a reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()  # at once when its files are closed, after this request
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are counted, not logged."""


@contextlib.contextmanager
def failing_proxy(store: str, share: float = 0.0, seed: int = 1) -> Iterator[FailingProxy]:
    """A proxy before the store at an address, which ends with the block."""
    with FailingProxy(store, share, seed) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
