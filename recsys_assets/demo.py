"""`python -m recsys_assets.demo` (`make demo`): the whole pipeline on generated data, from landing to reports.

It builds only what is missing: a second run says that everything is there.
"""

import datetime as dt
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from recsys_assets.cli.days import complete_bizdates
from recsys_assets.cli.errors import plain_errors
from recsys_assets.cli.materialize import run as materialize
from recsys_assets.cli.recommend import print_answer
from recsys_assets.client import Client
from recsys_assets.datasets.disk import keep_private
from recsys_assets.datasets.landing import land
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.lake import Lake
from recsys_assets.lineage import Lineage
from recsys_assets.manifest import PartitionDamaged, PartitionMissing
from recsys_assets.own_service import service_running
from recsys_assets.settings import settings
from recsys_assets.stores.mongo.embedded import require_server
from recsys_assets.stores.registry import STORES

# For each report: its subject, the metrics that are shown, and the metric that orders the rows.
REPORTS = {
    "funnel_report": ("final lists, online rows", ("ndcg@10", "ndcg@50", "recall@50"), "ndcg@50"),
    "recall_report": (
        "recall, test rows",
        ("recall@20", "recall@50", "recall@200", "ndcg@20", "coverage@20"),
        "recall@20",
    ),
    "rank_report": ("ranking, test rows", ("test_auc", "test_gauc", "test_logloss"), "test_auc"),
}
# Commands to type next: in a checkout, where only the package is installed, and in both.
GRAPH, AGAIN = "see the graph, rerun any part of it", "train again, on the latest bizdate"
IN_CHECKOUT = {
    "make ui": GRAPH,
    ". ./activate": "then, from any folder:",
    "dagster asset materialize --select rank_widedeep": AGAIN,
}
WITHOUT = {"recsys ui": GRAPH, "recsys materialize rank_widedeep": AGAIN}
NEXT = {
    "recsys show rank_widedeep": "the contents of a partition",
    "recsys published": "what services see",
    "recsys serve": "recommendations over HTTP, and a page, on 127.0.0.1:8000",
    "recsys materialize '+rank_report' --bizdate {before}": "it and all it needs, for another day",
    "recsys land movielens-1m": "real data, then",
    "recsys --profile movielens-1m materialize '*'": "",
}


@click.command()
def main() -> None:
    """Land, materialize, print the results."""
    keep_private()
    os.environ["RECSYS_PROFILE"] = "sample"
    with plain_errors(lambda: "make demo"):
        if STORES["mongo"].variable not in settings().stores:
            require_server()  # now, and not after minutes of work
        _demonstrate(Console())


def _demonstrate(console: Console) -> None:
    from recsys_assets.cli.selection import select  # loads the definitions, which read RECSYS_PROFILE

    profile = load_profile("sample")
    day, lake = _land_days(profile), Lake.of(settings().lake, profile)
    wanted = sorted(key.to_user_string() for key in select("*"))
    outdated = Lineage(lake).outdated_assets(day)
    if missing := [name for name in wanted if name in outdated or not _is_there(lake, name, day)]:
        console.print(f"{len(missing)} assets to build for {day}", highlight=False)
        materialize(",".join(f"{name}+" for name in missing), day)  # `+`: also what was built from an older one
    else:
        console.print(f"Everything for {day} is already there.", highlight=False)
    for report, (title, shown, key) in REPORTS.items():
        console.print(comparison(lake.manifest(report, day).metrics, f"{title} of {day}", shown, key))
    console.print(f"artefacts: {lake.location('<asset>', day)}", highlight=False, markup=False, soft_wrap=True)
    _ask_service(console)
    console.print(next_commands(day, settings().home), highlight=False, markup=False, soft_wrap=True)


def next_commands(day: str, home: Path) -> str:
    """Lines with commands to type after the demonstration of a day, in a home that is a checkout or not."""
    before = (dt.date.fromisoformat(day) - dt.timedelta(days=1)).isoformat()
    first = IN_CHECKOUT if (home / "Makefile").exists() else WITHOUT
    lines = [f"  {command.format(before=before):<55} {why}" for command, why in {**first, **NEXT}.items()]
    return "\n".join(["", "next:", *map(str.rstrip, lines), ""])


def _ask_service(console: Console) -> None:
    """Start the service on the release, print its answer for one user, and stop it."""
    with service_running() as address, Client(address, os.environ.get("RECSYS_SERVE_TOKEN")) as service:
        (user,) = service.users(sample=1)["users"]
        seconds = print_answer(str(user), address, size=10)
    console.print(f"a service answered this in {1000 * seconds:.1f} ms; to start one: recsys serve", highlight=False)


def _land_days(profile: Profile) -> str:
    """Land the generated days up to yesterday, unless they are there; returns the last of them."""
    yesterday = (dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)).isoformat()
    if yesterday not in complete_bizdates(profile):
        land(profile)
    return complete_bizdates(profile)[-1]


def _is_there(lake: Lake, asset: str, bizdate: str) -> bool:
    """Whether the partition was built and passed its blocking checks."""
    try:
        return not lake.manifest(asset, bizdate).failed_checks
    except (PartitionMissing, PartitionDamaged):
        return False


def comparison(metrics: Mapping[str, float], title: str, shown: Sequence[str], key: str) -> Table:
    """A report's `<model>.<metric>` values, one row per model that has the key metric, the best first."""
    models: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        model, _, metric = name.partition(".")
        models.setdefault(model, {})[metric] = value
    table = Table("", *shown, title=title, title_justify="left")
    judged = {model: found for model, found in models.items() if key in found}
    for model, found in sorted(judged.items(), key=lambda entry: -entry[1][key]):
        table.add_row(model, *(f"{found[metric]:.4f}" if metric in found else "" for metric in shown))
    return table


if __name__ == "__main__":
    main()
