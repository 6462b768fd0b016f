"""The features of users from a Feast feature server, within a time limit; by default a service does not ask for them.

They replace the user's row of the release. They count only if they are of the release's bizdate: otherwise the service,
which also reads other parts of the release, would mix two days. Whatever else is wrong is an error too, and the caller
goes on with the row of the release.
"""

import datetime as dt
import http.client
import json
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from recsys_assets.serving.engine import Engine
from recsys_assets.serving.variables import InvalidVariable, milliseconds
from recsys_assets.stores.feast.place import project_of, service_of
from recsys_assets.stores.feast.server import READ
from recsys_assets.stores.feast.snapshots import USER, from_feast, known_from

SERVER, LIMIT = "RECSYS_SERVE_FEAST", "RECSYS_SERVE_FEAST_MS"
MILLISECONDS = 50.0  # unless the environment says otherwise


class FeaturesUnfit(RuntimeError):
    """The server refuses, does not know the user, or has the features of another bizdate."""


class TooSlow(RuntimeError):
    """The server did not answer within the limit."""


@dataclass(frozen=True)
class FeastServer:
    """A feature server.

    Attributes:
        host: its host and port (`RECSYS_SERVE_FEAST`, as `http://127.0.0.1:6566`).
        seconds: within which it must answer (`RECSYS_SERVE_FEAST_MS`, in milliseconds).
    """

    host: str
    seconds: float = MILLISECONDS / 1000

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "FeastServer | None":
        """The server that the environment names; None if it names none.

        Raises:
            InvalidVariable: a setting is not an address, or not a number.
        """
        if not (address := environment.get(SERVER, "")):
            return None
        if not (host := _host(address)):
            raise InvalidVariable(f"{SERVER} is not the address of a feature server: write http://HOST:PORT")
        return cls(host, (milliseconds(environment, LIMIT) or MILLISECONDS) / 1000)


def _host(address: str) -> str:
    """Host and port of an address; empty if it is not one, or has more parts, which may be secret."""
    with suppress(ValueError):  # a port that is not a number
        parts = urlsplit(address)
        if parts.scheme == "http" and parts.port and address.rstrip("/") == f"http://{parts.hostname}:{parts.port}":
            return f"{parts.hostname}:{parts.port}"
    return ""


class OnlineFeatures:
    """Asks a feature server for users, over one connection that stays open.

    Args:
        server: which.
        service: the name of the feature service of users.
        schema: of `user_features`.
        moment: the event time of the release's snapshot.
    """

    def __init__(self, server: FeastServer, service: str, schema: pa.Schema, moment: dt.datetime) -> None:
        self._server, self._service, self._schema, self._moment = server, service, schema, moment
        self._connection = self._new_connection()
        # The limit of a connection is one of each read; that of a thread's result is one of the whole answer.
        self._thread = ThreadPoolExecutor(1, "feast")

    def __call__(self, user_id: object) -> pa.Table:
        """The row of a user.

        Raises:
            TooSlow: there is no answer within the limit.
            FeaturesUnfit: the server does not know the user, or has another bizdate's features.
            OSError, http.client.HTTPException: it cannot be reached, or breaks off.
        """
        asked = self._thread.submit(self._ask, self._connection, user_id)
        try:
            answer = asked.result(self._server.seconds)
        except TimeoutError:
            self._give_up()
            raise TooSlow(f"no features from {self._server.host} within {1000 * self._server.seconds:g} ms") from None
        return self._row(answer, user_id)

    def _new_connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._server.host, timeout=self._server.seconds)

    def _give_up(self) -> None:
        """Leave the connection to the thread that reads from it, which finds it at its end."""
        given_up, self._connection = self._connection, self._new_connection()
        if given_up.sock is not None:
            with suppress(OSError):
                given_up.sock.shutdown(socket.SHUT_RDWR)

    def _ask(self, connection: http.client.HTTPConnection, user_id: object) -> dict[str, Any]:
        body = json.dumps({"feature_service": self._service, "entities": {USER.join_key: [user_id]}})
        try:
            return self._answer(connection, body)
        except BaseException:
            connection.close()  # an answer that is not read yet would be taken for the next one
            raise

    def _answer(self, connection: http.client.HTTPConnection, body: str) -> dict[str, Any]:
        """The answer; if the server had closed the idle connection, the request is sent once more."""
        was_open = connection.sock is not None
        try:
            connection.request("POST", READ, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionError):
            connection.close()
            if was_open and connection is self._connection:
                return self._answer(connection, body)
            raise
        content = answer.read()
        if answer.status != 200:
            raise FeaturesUnfit(f"the feature server answers with status {answer.status}: {content[:200]!r}")
        found: dict[str, Any] = json.loads(content)
        return found

    def _row(self, answer: Mapping[str, Any], user_id: object) -> pa.Table:
        columns = dict(zip(answer["metadata"]["feature_names"], answer["results"], strict=True))
        times = {time for name, each in columns.items() if name != USER.join_key for time in each["event_timestamps"]}
        if {dt.datetime.fromisoformat(each) for each in times} != {self._moment}:
            wanted, got = self._moment.isoformat(), ", ".join(sorted(times))
            raise FeaturesUnfit(f"Feast has the features of user {user_id} as of {got}, not as of {wanted}")
        values = {name: each["values"] for name, each in columns.items()}
        return from_feast(values, self._schema, USER)


def online_features(engine: Engine, environment: Mapping[str, str]) -> OnlineFeatures | None:
    """The feature server that the environment names, asked for users of a release; None if it names none.

    Raises:
        InvalidVariable: a setting is wrong.
    """
    if (server := FeastServer.read(environment)) is None:
        return None
    service = service_of(project_of(engine.profile), USER)
    return OnlineFeatures(server, service, engine.user_columns, known_from(engine.profile, engine.bizdate))
