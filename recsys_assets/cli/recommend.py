"""`recsys recommend`: a user's newest interactions, and the items that the funnel or a service recommends to them."""

import datetime as dt
import os
import re
import time
from typing import TYPE_CHECKING, Any

import click

from recsys_assets.cli.data import latest_partition
from recsys_assets.cli.days import Day

if TYPE_CHECKING:
    from recsys_assets.datasets.profile import Profile
    from recsys_assets.funnel.inputs import Inputs
    from recsys_assets.manifest import Partition
    from recsys_assets.retrieval.interactions import Interactions

NEWEST_ROWS = 10
Rows = list[dict[str, Any]]


class UnknownUser(LookupError):
    """There is no such user; the message says which table was searched."""


@click.command()
@click.argument("user")
@click.option("--bizdate", "day", type=Day(), help="Which day (default: the latest with a `funnel_model`).")
@click.option("--url", help="Ask the service there, such as http://127.0.0.1:8000, which answers from its release.")
def recommend(user: str, day: dt.date | None, url: str | None) -> None:
    """Print the history of USER and their list: titles, scores, and the channels that proposed each item.

    The list is computed now, from the day's partitions, as `funnel_model` of that day says. With --url it is that of a
    service, whose RECSYS_SERVE_TOKEN is taken from the environment.
    """
    if day and url:
        raise click.UsageError("a service answers from its own release: leave out --bizdate or --url")
    if url:
        print_answer(user, url)
    else:
        _print_computed(user, day)


def print_answer(user: str, url: str, size: int | None = None) -> float:
    """Print the history of a user and their list, as a service answers; returns the seconds that the list took.

    `size` is the most items; None: as many as the service gives.

    Raises:
        UnknownUser: the service's release does not know the user.
        ServiceError: the service refuses the request, or does not answer.
    """
    from recsys_assets.client import Client

    with Client(url, os.environ.get("RECSYS_SERVE_TOKEN")) as service:
        kinds = service.release()["fields"]
        shown = [name for name, kind in kinds.items() if name == "title" or ("list" in kind and "string" in kind)]
        known = service.user(user, size=NEWEST_ROWS, columns=shown)
        if not known["known"]:
            raise UnknownUser(f"no user '{user}' in release {known['release']} of {known['bizdate']} of {url}")
        began = time.perf_counter()
        answer = service.recommend(user, size=size, fields=shown)
        seconds = time.perf_counter() - began
    listed = [
        {"item_id": each.item_id, **each.more}
        | {"score": each.score, "probability": each.probability, "channels": list(each.channels)}
        for each in answer.items
    ]
    print_rows(f"{user}: newest rows", known["history"])
    print_rows(f"recommended to {user}, {answer.bizdate}, release {answer.release}: {answer.served_by}", listed)
    return seconds


def _print_computed(user: str, day: dt.date | None) -> None:
    """Print the history of a user and their list, computed from the lake."""
    from recsys_assets.datasets.profile import load_profile
    from recsys_assets.funnel.funnel import NEEDED, events_of
    from recsys_assets.funnel.inputs import read_inputs
    from recsys_assets.resources import LakeStore
    from recsys_assets.settings import settings

    profile = load_profile()
    lake = LakeStore(profile=settings().profile)
    when = day.isoformat() if day else latest_partition(lake.lake, "funnel_model")
    inputs = read_inputs(profile, lake.lake, when, {asset: lake.read(asset, when) for asset in NEEDED})
    events = events_of(inputs["splits"], inputs["users"])
    number = _user_number(events, user, when)
    history = _newest_rows(profile, inputs["splits"], events, number)
    listed = _recommended_items(profile, inputs, events, number)
    lake.check_unchanged(inputs.partitions.values())
    print_rows(f"{user}: newest rows", _described(profile, inputs["items"], history))
    print_rows(f"recommended to {user}, {when}", _described(profile, inputs["items"], listed))


def _user_number(events: "Interactions", user: str, day: str) -> int:
    """The number of the user with an id.

    Raises:
        UnknownUser: there is no such user.
    """
    import numpy as np

    found = np.flatnonzero(events.user_ids.astype(str) == user)
    if not len(found):
        some = ", ".join(events.user_ids[:3].astype(str))
        raise UnknownUser(f"no user '{user}' among the {len(events.user_ids):,} users of {day}, such as {some}")
    return int(found[0])


def _newest_rows(profile: "Profile", splits: "Partition", events: "Interactions", number: int) -> Rows:
    """The user's newest rows that the funnel reads (not the online part), newest first."""
    import pyarrow.parquet as pq

    from recsys_assets.datasets.ingest import ROWS

    theirs = [("user_id", "=", events.user_ids[[number]].tolist()[0]), ("part", "!=", "online")]
    columns = ["item_id", "timestamp", *([profile.rating] if profile.rating else []), "label"]
    table = pq.read_table(splits.path(ROWS), filters=theirs, columns=[*columns, "position"])
    rows: Rows = table.sort_by([("position", "descending")]).select(columns).slice(0, NEWEST_ROWS).to_pylist()
    return rows


def _recommended_items(profile: "Profile", inputs: "Inputs", events: "Interactions", number: int) -> Rows:
    """The items of the user's final list, best first."""
    import numpy as np

    from recsys_assets.funnel import recommendations
    from recsys_assets.funnel.funnel import Funnel
    from recsys_assets.funnel.stopwatch import Stopwatch

    asked, found = Funnel(profile, inputs, events, Stopwatch()).lists_of(np.array([number]))
    (row,) = recommendations.table(events, asked, found.served, found.final).to_pylist()
    items: Rows = row["items"]
    return items


def _described(profile: "Profile", items: "Partition", rows: Rows) -> Rows:
    """Rows of items with the titles and terms that the profile has."""
    import pyarrow.parquet as pq

    from recsys_assets.datasets.ingest import ROWS

    term = profile.features.terms
    shown = [name for name in ("title", term.column if term else "") if name in profile.columns_of("items")]
    of_items = pq.read_table(items.path(ROWS), columns=["item_id", *shown]).to_pylist()
    known = {of_item["item_id"]: of_item for of_item in of_items}
    return [{**known[row["item_id"]], **row} for row in rows]


def print_rows(title: str, rows: Rows) -> None:
    """Print rows as a table; what comes from the log is text, whatever it looks like."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text  # a plain string would be read as markup: `[i]` and `:heart:` have a meaning there

    named = Text(_plain(title), style="bold")
    table = Table(title=named, title_style="", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("", *(rows[0] if rows else ())):
        table.add_column(Text(_plain(name)), overflow="fold")
    for place, row in enumerate(rows, start=1):
        table.add_row(str(place), *(Text(_plain(_cell_text(value))) for value in row.values()))
    Console().print(table)


def _cell_text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _plain(text: str) -> str:
    """The text without signs that would move the cursor of a terminal, or give it a command."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "\N{REPLACEMENT CHARACTER}", text)
