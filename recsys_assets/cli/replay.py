"""`recsys replay`: answer the requests of a log again, with the release that answered them or with another one."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from recsys_assets.lake import Lake
    from recsys_assets.serving.replay import Outcome


class AnswersDiffer(RuntimeError):
    """An answer of now is not the one in the log; the message says how many, and where."""


class NoSuchRelease(ValueError):
    """The store has no release of that number."""


@click.command()
@click.argument("log", type=click.Path(exists=True, path_type=Path))
@click.option("--release", type=int, help="Say how the answers of this release differ, instead of the logged one's.")
def replay(log: Path, release: int | None) -> None:
    """Answer the requests of LOG again, and compare with what was answered; the exit status is 1 if any differs.

    LOG is a file or a folder of the request log that `recsys serve` writes.
    """
    from recsys_assets.datasets.profile import load_profile
    from recsys_assets.lake import Lake
    from recsys_assets.serving import replay as replays
    from recsys_assets.serving.engine import Engine
    from recsys_assets.serving.scenes.book import Book
    from recsys_assets.serving.scenes.file import scenes_path
    from recsys_assets.settings import settings

    profile, place = load_profile(), settings()
    book = Book(scenes_path(place), profile, click.echo)
    lake = Lake.of(place.lake, profile)
    open_release = lru_cache(maxsize=1)(lambda bizdate: Engine(profile, lake, bizdate))
    if release is None:
        _report(replays.replay(replays.read_log(log), open_release, book))
        return
    bizdate = _bizdate_of(lake, release)
    changes = replays.compare(replays.read_log(log), open_release(bizdate), release, book)
    for scene, each in changes.items():
        stay = ", ".join(f"{total / each.requests:.1%} of the first {k}" for k, total in each.stay.items())
        what = f"scene {scene}, " if scene else ""
        click.echo(f"{what}{each.requests:,} requests under release {release} of {bizdate}: {stay} items stay")


def _report(outcome: "Outcome") -> None:
    """Print the counts.

    Raises:
        AnswersDiffer: some do.
    """
    for reason, count in outcome.gone.items():
        click.echo(f"{count:,} requests cannot be replayed: {reason}")
    click.echo(f"{outcome.same:,} of {outcome.same + outcome.different:,} answers are the same, byte for byte")
    if outcome.different:
        raise AnswersDiffer("\n".join([f"{outcome.different:,} answers differ:", *outcome.differences]))


def _bizdate_of(lake: "Lake", number: int) -> str:
    """The bizdate of a release.

    Raises:
        NoSuchRelease: there is none of that number.
    """
    from recsys_assets.stores.registry import STORES, open_owned_store, stores_in_use
    from recsys_assets.stores.store import ReleaseStore

    for name in stores_in_use():
        if STORES[name].has_releases:
            with open_owned_store(name, lake.profile, lake.owner) as store:
                found = store.release(number) if isinstance(store, ReleaseStore) else None
                if found:
                    return str(found["bizdate"])
    raise NoSuchRelease(f"there is no release {number}: `recsys published` names the current one")
