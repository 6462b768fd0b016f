"""Ranking through a Triton server: the champion's rows are scored there, and by the release's own file if that fails.

`RECSYS_SERVE_TRITON_MS` switches it on, and is the longest that a ranking waits for the server. The service asks for
the version that was published from the file of its release, so that both give the same. If the server is away, slow,
or does not have that version, the file ranks, and the server is tried again after a second, then two, up to a minute.
"""

import os
from typing import TYPE_CHECKING

from recsys_assets.arrays import Scores
from recsys_assets.features.feed import Inputs, encoded
from recsys_assets.features.raw import Decoder
from recsys_assets.features.schema import FeatureSchema
from recsys_assets.serving.variables import milliseconds
from recsys_assets.settings import settings
from recsys_assets.stores.registry import STORES, StoreNotConfigured
from recsys_assets.stores.triton.client import TritonClient
from recsys_assets.stores.triton.store import CHAMPION, version_number, version_of

if TYPE_CHECKING:  # the supervisor of the service asks for the limit, and opens nothing
    from recsys_assets.serving.budget import Usual
    from recsys_assets.serving.engine import Engine

LIMIT = "RECSYS_SERVE_TRITON_MS"
STEP = "ranking by Triton"
OUTPUT = "score"


def triton_limit() -> float | None:
    """The seconds that a ranking waits for Triton, from the environment; None: the service does not ask it.

    Raises:
        InvalidVariable: the variable does not hold a positive number.
        StoreNotConfigured: no server is named.
    """
    if (found := milliseconds(os.environ, LIMIT)) is None:
        return None
    if STORES["triton"].variable not in settings().stores:
        raise StoreNotConfigured(f"{LIMIT} is set, but {STORES['triton'].variable} is not: give the server's address")
    return found / 1000


def rank_by_triton(engine: "Engine") -> None:
    """Let the engine rank through Triton if the environment says so, and if the release has a champion."""
    seconds, ranker, champion = triton_limit(), engine.funnel.known.ranker, engine.champion
    if seconds is None or ranker is None or champion is None:
        return
    address = settings().stores[STORES["triton"].variable]
    number = version_number(version_of(engine.bizdate, champion.sha256))
    ranker.elsewhere = ByTriton(TritonClient(address, seconds), number, ranker.schema, engine.usual)


class ByTriton:
    """Scores rows of the champion's network by a Triton server.

    Args:
        client: of the server, with the time limit.
        number: of the version.
        schema: of the champion.
        usual: knows for how long the server rests after a failure.
    """

    def __init__(self, client: TritonClient, number: int, schema: FeatureSchema, usual: "Usual") -> None:
        self._client, self._number, self._usual = client, number, usual
        self._decode, self._process = Decoder(schema), os.getpid()

    def __call__(self, inputs: Inputs) -> Scores | None:
        """(N,) probabilities of rows of `indices` and `numeric`; None if the server fails, or rests because it did."""
        if self._usual.rests(STEP):
            return None
        if self._process != os.getpid():  # two processes must not share a connection, and this one was copied
            self._client, self._process = self._client.fresh(), os.getpid()
        began = self._usual.clock()
        try:
            found = self._client.infer(CHAMPION, self._number, self._decode(encoded(inputs)), OUTPUT).reshape(-1)
        except Exception as error:  # whatever is wrong with the server, the file can rank; the log says what it was
            self._client.close()
            self._usual.failed(STEP, error)
            return None
        self._usual.took(STEP, self._usual.clock() - began)
        return found
