"""`recsys serve`: the online service, which answers from the current release."""

import contextlib
import datetime as dt
import os
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from recsys_assets.datasets.profile import Profile

PORT = 8000
MOST_PROCESSES = 4  # unless more are asked for
FIRST_LOOK = 3.0  # seconds that the store has at the start, before the release is served that was served last


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=PORT, show_default=True, help="The port on 127.0.0.1.")
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=min(len(os.sched_getaffinity(0)), MOST_PROCESSES),
    show_default="the cores, at most 4",
    help="How many processes answer requests.",
)
def serve(port: int, processes: int) -> None:
    """Answer requests for recommendations from the current release, and follow newer ones, until Ctrl-C.

    `http://127.0.0.1:8000/docs` describes the interface. RECSYS_SERVE_TOKEN is a token that every request must carry;
    RECSYS_SERVE_HOSTS names further hosts, for a proxy in front of the service.
    """
    from recsys_assets.datasets.profile import load_profile
    from recsys_assets.lake import Lake
    from recsys_assets.serving.budget import DEADLINE
    from recsys_assets.serving.by_triton import triton_limit
    from recsys_assets.serving.fresh.sql import sql_recall
    from recsys_assets.serving.limits import Limits
    from recsys_assets.serving.log import say
    from recsys_assets.serving.online_features import FeastServer
    from recsys_assets.serving.order import served_last
    from recsys_assets.serving.releases import Lookout, release_store
    from recsys_assets.serving.scenes.file import read_scenes, scenes_path
    from recsys_assets.serving.stored_users import users_limit
    from recsys_assets.serving.supervise import refuse_taken, supervise
    from recsys_assets.serving.variables import milliseconds
    from recsys_assets.settings import settings

    refuse_taken(port)
    Limits.read(os.environ)  # a wrong one is reported here
    milliseconds(os.environ, DEADLINE)
    triton_limit()
    FeastServer.read(os.environ)
    users_limit(os.environ)
    profile, place = load_profile(), settings()
    sql_recall(profile)
    if (scenes := scenes_path(place)).exists():
        read_scenes(scenes, profile)  # faults stop it now, and not only when a release is opened
    lake, copies = Lake.of(place.lake, profile), place.data / "serving" / profile.name / "releases"
    lookout = Lookout(lambda: release_store(profile, lake), say)
    lookout.newest = next(iter(served_last(copies)), None)

    def listens() -> None:
        lookout.start(FIRST_LOOK)
        click.echo(f"http://127.0.0.1:{port} is the service's page, and /docs its interface; Ctrl-C stops it")
        if remark := too_late(profile, profile.files.now().date()):
            click.echo(remark)

    with contextlib.closing(lookout):
        supervise(lookout, port, copies, processes, listens=listens)


def too_late(profile: "Profile", today: dt.date) -> str:
    """A sentence if events that are told today are after the profile's last day; otherwise an empty one."""
    if profile.last_bizdate is None or today <= profile.last_bizdate:
        return ""
    return (
        f"events that are told now are after {profile.last_bizdate}, the profile's last_bizdate: lists follow them, "
        "but they get into no partition; remove last_bizdate from the profile if the log still grows"
    )
