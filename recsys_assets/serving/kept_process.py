"""The process that answers from a release that is not served now, but whose files are kept.

`python -m recsys_assets.serving.kept_process COPIES NUMBER` opens the release of this number from the folder of copies.
Each line of its input is the body of a `POST /recommend`, and it writes a line for each: `[status, content]`, where
content is the answer, or the sentence of a refusal. It ends with its input, or a while after the last question.
"""

import os
import select
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from recsys_assets.datasets.profile import load_profile
from recsys_assets.lake import Lake
from recsys_assets.processes import end_with
from recsys_assets.serving.engine import Engine
from recsys_assets.serving.log import say
from recsys_assets.serving.order import Release, served_last
from recsys_assets.serving.requests import Problem, RecommendBody
from recsys_assets.serving.scenes.book import Book
from recsys_assets.serving.scenes.file import scenes_path
from recsys_assets.serving.service import Opened, Service
from recsys_assets.serving.snapshot import Snapshots
from recsys_assets.serving.told import Told
from recsys_assets.serving.told_database import Database, told_folder
from recsys_assets.settings import settings

IDLE = 60.0  # seconds without a question after which the process ends
LOW = 10  # niceness: the release that is served goes first


def open_kept(copies: Path, release: Release) -> Service:
    """A service over the copy of a release, which knows what was told since and takes nothing.

    Raises:
        ReleaseRefused: its files are not whole, and the lake has others.
    """
    profile = load_profile()
    lake, kept = Lake.of(settings().lake, profile), Snapshots(copies, profile.name)
    engine = Engine(profile, kept.open(release, lake), release.bizdate, kept.pins(release, lake))
    book = Book(scenes_path(settings()), profile, say)
    book.prepare(engine)
    return Service(Opened(release.number, engine, book), Told(Database(told_folder(profile.name)), None))


def answers(open_release: Callable[[], Service], questions: Iterator[bytes]) -> Iterator[tuple[int, Any]]:
    """Status and content of the answer to each question; whatever fails is said, and the next one is answered."""
    service: Service | None = None
    for line in questions:
        try:
            service = service or open_release()
            yield 200, service.answer(RecommendBody.model_validate_json(line)).content
        except Problem as refusal:
            yield refusal.status, refusal.detail
        except Exception as error:  # such as a copy that is damaged: who asked must be told
            yield 503, f"the release cannot be opened: {error}"


def lines(source: BinaryIO) -> Iterator[bytes]:
    """The lines of a pipe until it ends, or says nothing for a while."""
    while select.select([source], [], [], IDLE)[0] and (line := source.readline()):
        yield line


def main() -> None:
    """Answer as the module says."""
    end_with(os.getppid())
    os.nice(LOW)
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what is said goes to the log of the service
    copies, number = Path(sys.argv[1]), int(sys.argv[2])
    (release,) = [each for each in served_last(copies) if each.number == number]
    for answer in answers(lambda: open_kept(copies, release), lines(sys.stdin.buffer)):
        output.write(orjson.dumps(answer) + b"\n")
        output.flush()


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # without Python's clean-up, in which DuckDB prints a list of what it did not free
