"""The job over fresh rows on Spark Structured Streaming: files of JSON lines are its source, the taker is its sink.

Spark finds new files, reads them in parallel, and remembers in its checkpoint which ones are done. Joins, rules and
vectors are those of the step, which runs in the driver, because one SQLite file has the state that services read.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout

from recsys_assets.datasets.disk import private_folder
from recsys_assets.datasets.profile import Profile
from recsys_assets.engines.spark import refuse_missing
from recsys_assets.fresh.database import fresh_folder
from recsys_assets.fresh.files import FilesTaken, FreshFile, Unread
from recsys_assets.streams.taker import FOLDER, Taker

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming import StreamingQuery

CHECKPOINT, LOCK = "spark_checkpoint", "spark.lock"
EVERY = "500 milliseconds"  # Spark looks for new files, as the service does
BYTES_AT_ONCE = 1 << 25  # of files in a micro-batch, whose rows are in the driver's memory; one larger file is a batch
LAND_EVERY = 5.0  # seconds
_NOT_TEXT = Unread("the row is not UTF-8 text")
_SETTINGS = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.streaming.stopTimeout": "30s",  # for the micro-batch that runs when the job is stopped
}


class StreamRuns(RuntimeError):
    """Another job over the stream of this data set runs already."""


class Batches:
    """The sink: takes one micro-batch after another.

    Attributes:
        done: what was taken so far.
        error: why a micro-batch could not be taken; Spark's own error has only its text.
    """

    def __init__(self, profile: Profile, taker: Taker) -> None:
        self._landing, self._taker = profile.landing.absolute(), taker
        self.done, self.error = FilesTaken(), list[Exception]()

    def __call__(self, batch: "DataFrame", _: int) -> None:
        """Take a micro-batch."""
        try:
            self.done += self._taker.take(list(files_of(batch.toArrow(), self._landing)))
        except Exception as error:
            self.error.append(error)
            raise


def files_of(rows: pa.Table, landing: Path) -> Iterator[tuple[FreshFile, Sequence[str | Unread]]]:
    """The files of a micro-batch with their rows, in the order of their paths.

    Args:
        rows: `value`, `is_text`, and what Spark knows of the file of each row: `file_path`, `file_block_start`,
            `file_modification_time`, `file_size`. Rows of one block are in their order.
        landing: the landing folder.
    """
    rows = rows.sort_by([("file_path", "ascending"), ("file_block_start", "ascending")])  # equal ones stay in order
    _, starts = np.unique(rows["file_path"].to_numpy(), return_index=True)
    for start, end in zip(starts.tolist(), [*starts.tolist()[1:], len(rows)], strict=True):
        part = rows.slice(start, end - start)
        values = zip(part["value"].to_pylist(), part["is_text"].to_pylist(), strict=True)
        lines = [text if is_text else _NOT_TEXT for text, is_text in values if text.strip()]
        yield _file(part.slice(0, 1).to_pylist()[0], landing), lines


def _file(row: dict[str, Any], landing: Path) -> FreshFile:
    """The file of a row."""
    path = Path(unquote(urlsplit(row["file_path"]).path)).relative_to(landing)
    written = row["file_modification_time"]
    return FreshFile(path.parts[1], path.as_posix(), f"{written.timestamp()}:{row['file_size']}", written)


def run(profile: Profile, taker: Taker, *, once: bool) -> FilesTaken:
    """Take the files in `<landing>/stream/<table>/` as they come, until Ctrl-C.

    Args:
        profile: of the data set.
        taker: takes them.
        once: take those that are there now, and end.

    Raises:
        SparkMissing: Spark or Java is not installed.
        StreamRuns: another job takes them.
        Exception: whatever kept `Taker.take` from taking them.
    """
    from pyspark.errors import StreamingQueryException

    home, batches = fresh_folder(profile.name), Batches(profile, taker)
    with _alone(home / LOCK), _session() as spark:
        query = _start(spark, profile.landing / FOLDER, home / CHECKPOINT, batches, once)
        try:
            with contextlib.suppress(KeyboardInterrupt):  # it is how the job is ended
                while not query.awaitTermination(LAND_EVERY):
                    taker.land()
        except StreamingQueryException:
            if batches.error:
                raise batches.error[0] from None
            raise
        finally:
            query.stop()
            taker.land(everything=True)
    return batches.done


def _start(spark: "SparkSession", folder: Path, checkpoint: Path, batches: Batches, once: bool) -> "StreamingQuery":
    """Start to read the files, and to take them."""
    from pyspark.sql import functions as sql

    folder.mkdir(parents=True, exist_ok=True)
    private_folder(checkpoint)
    files = (
        spark.readStream.format("text")
        .option("lineSep", "\n")
        .option("recursiveFileLookup", True)
        .option("pathGlobFilter", "*.{jsonl,ndjson}")
        .option("maxBytesPerTrigger", BYTES_AT_ONCE)
        .option("maxFileAge", "36500d")  # by default, a file that is 7 days older than the newest one is left out
        .option("ignoreMissingFiles", True)  # one that was removed before it was read would fail every restart
        .load(str(folder))
    )
    about = [f"_metadata.{each}" for each in ("file_path", "file_block_start", "file_modification_time", "file_size")]
    value, is_text = sql.make_valid_utf8("value").alias("value"), sql.is_valid_utf8("value").alias("is_text")
    writer = files.select(value, is_text, *about).writeStream.foreachBatch(batches)
    writer = writer.option("checkpointLocation", str(checkpoint))
    return (writer.trigger(availableNow=True) if once else writer.trigger(processingTime=EVERY)).start()


@contextlib.contextmanager
def _session() -> Iterator["SparkSession"]:
    """Spark with the user's own settings (`PYSPARK_SUBMIT_ARGS`, `SPARK_CONF_DIR`), by default in this process."""
    refuse_missing()
    from pyspark.sql import SparkSession

    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # otherwise workers run the python3 of the PATH
    builder = SparkSession.builder.appName("recsys fresh items")
    for name, value in _SETTINGS.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    try:
        spark.sparkContext.setLogLevel("ERROR")
        yield spark
    finally:
        spark.stop()


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """A block that one process runs at a time: two jobs would break each other's checkpoint.

    Raises:
        StreamRuns: another one runs it.
    """
    private_folder(lock.parent)
    try:
        with FileLock(lock, timeout=0):
            yield
    except Timeout:
        raise StreamRuns("a job over the stream of this data set runs already: stop it first") from None
