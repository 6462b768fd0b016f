"""The engine that `RECSYS_ENGINE` chooses."""

import contextlib
import re
from collections.abc import Iterator

from recsys_assets.datasets.duck import connect
from recsys_assets.engines.engine import Engine
from recsys_assets.settings import DUCKDB, settings
from recsys_assets.uris import safe_uri

_SPARK = re.compile(r"(spark|sc)://[^/\s]+.*|local(\[.+\])?|local-cluster\[\d+,\d+,\d+\]")


class EngineInvalid(ValueError):
    """`RECSYS_ENGINE` names no engine."""


@contextlib.contextmanager
def open_engine() -> Iterator[Engine]:
    """The chosen engine, which can read and write the lake.

    Raises:
        EngineInvalid: the setting names none.
        SparkMissing: Spark is chosen, and it or Java is not installed.
        EngineUnreachable: nothing listens at the address of Spark.
    """
    chosen = settings().engine
    if chosen == DUCKDB:
        with connect() as connection:
            yield connection
        return
    if not _SPARK.fullmatch(chosen):
        raise EngineInvalid(
            f"RECSYS_ENGINE={safe_uri(chosen)} is no engine: give {DUCKDB}, sc://HOST:PORT (Spark Connect), "
            "spark://HOST:PORT, local-cluster[EXECUTORS,CORES,MEGABYTES] or local[THREADS]"
        )
    from recsys_assets.engines.spark import open_spark

    with open_spark(chosen) as engine:
        yield engine
