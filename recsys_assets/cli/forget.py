"""`recsys forget`: remove one user, rebuild the newest bizdate, and prove that it holds nothing of them."""

from collections import Counter
from typing import TYPE_CHECKING

import click

from recsys_assets.cli.days import newest_built

if TYPE_CHECKING:
    from recsys_assets.datasets.profile import Profile
    from recsys_assets.forget.user import Traces
    from recsys_assets.lake import Lake

SHOWN = 10  # files and bizdates that are listed


@click.command()
@click.argument("user")
@click.option("--yes", is_flag=True, help="Remove it and rebuild; without this, only say what would change.")
def forget(user: str, yes: bool) -> None:
    """Remove all rows of USER, rebuild the newest bizdate without them, and verify it against a rebuild.

    The rows go from the landing files of all days, from told events and fresh rows, and from the request log. Then it
    does what `recsys refresh` and `recsys verify` do, and says what it does not reach, and when that is gone. An id
    that begins with - is written after --, as in: recsys forget --yes -- -7.
    """
    from recsys_assets.datasets.profile import load_profile
    from recsys_assets.forget import user as users
    from recsys_assets.lake import Lake
    from recsys_assets.settings import settings

    profile = load_profile()
    lake, wanted = Lake.of(settings().lake, profile), users.user_id(profile, user)
    found = users.find(profile, lake, wanted)
    for line in _found(profile, found):
        click.echo(line)
    if yes:
        users.remove(profile, wanted, found)
        click.echo("removed from landing files and services")
        found = _rebuild(profile, lake, wanted)
    for line in _not_reached(profile, found, _built(lake)):
        click.echo(line)
    if not yes:
        click.echo("nothing was changed: add --yes to remove the user")


def _rebuild(profile: "Profile", lake: "Lake", user: int | str) -> "Traces":
    """Rebuild the newest bizdate, and check that neither it nor a day of events holds the user; returns what does.

    Raises:
        CannotForget: something still holds the user, as when events of theirs were told meanwhile.
        MaterializeFailed: the rebuild failed.
        VerifyFailed: it is not what the landing files give.
    """
    from recsys_assets.cli.changes import bring_up_to_date
    from recsys_assets.cli.verify import check
    from recsys_assets.forget import lake as in_lake
    from recsys_assets.forget import user as users

    newest, built = max((day for _, day in lake.partitions()), default=""), _built(lake)
    if not newest:
        return users.Traces()
    for day in sorted({built, newest}):  # events may have been ingested for days that were not built yet
        bring_up_to_date(profile, lake, day)
    left = in_lake.find(lake, user)
    names = [f"{asset} {day}" for asset, day in left if asset == "interactions" or day >= built]
    names += [name for name in _extended(lake, built) if tuple(name.split(" ")) in left]
    if names:
        raise users.CannotForget(
            f"removed from landing files and services, but {', '.join(names[:3])} still has rows of the user: "
            f"run `recsys refresh --bizdate {built}`, and this command again"
        )
    check(lake, built)
    return users.Traces(partitions=left)


def _built(lake: "Lake") -> str:
    """The newest bizdate that has more than events, or else the newest one; empty if the lake is."""
    return newest_built(lake) or max((day for _, day in lake.partitions()), default="")


def _extended(lake: "Lake", bizdate: str) -> list[str]:
    """The earlier partitions that those of a bizdate read, as `asset bizdate`."""
    made = lake.manifests(f"{asset}/{bizdate}" for asset in lake.assets()).values()
    return sorted({name.replace("/", " ") for each in made for name in each.extended})


def _found(profile: "Profile", found: "Traces") -> list[str]:
    """Lines that say what holds the user."""
    services, said = found.services, list[str]()
    files = [f"  {path.relative_to(profile.landing)}: {rows:,}" for path, rows in found.landing.rows.items()]
    total = sum(found.landing.rows.values())
    said += [f"landing files in {profile.landing_place}: {total:,} rows in {len(files)} files", *_first(files)]
    if found.landing.lines:
        said.append(f"  {found.landing.lines:,} of these are no rows, but lines that have the id as a word")
    said.append(f"told events: {services.told:,}; fresh rows: {services.fresh:,}")
    said.append(f"request log: {sum(services.answers.values()):,} answers in {len(services.answers)} files")
    days: dict[str, Counter[str]] = {}
    for (asset, day), rows in found.partitions.items():
        days.setdefault(day, Counter())[asset] += rows
    listed = [
        f"  {day}: {', '.join(f'{asset} {rows:,}' for asset, rows in sorted(held.items()))}"
        for day, held in sorted(days.items(), reverse=True)
    ]
    said += [f"bizdates of the lake with rows of the user: {len(days)}", *_first(listed)]
    if found.landing.unread:
        names = ", ".join(str(path.relative_to(profile.landing)) for path in found.landing.unread[:3])
        said.append(f"not searched, as nobody reads them: {len(found.landing.unread)} landing files, such as {names}")
    return said


def _first(lines: list[str]) -> list[str]:
    return lines if len(lines) <= SHOWN else [*lines[:SHOWN], f"  … and {len(lines) - SHOWN} more"]


def _not_reached(profile: "Profile", found: "Traces", newest: str) -> list[str]:
    """Lines that say what the command leaves, and when each is gone."""
    from recsys_assets.stores.registry import stores_in_use

    days = profile.retention.days
    when = f"after {days} days, by the profile's retention" if days else "by `recsys clean --keep-days 1 --yes`"
    older = {day for asset, day in found.partitions if asset != "interactions" and day < newest}
    keep, stores = profile.publishing.keep, ", ".join(stores_in_use()) or "none"
    return [
        "not reached:",
        f"  partitions of earlier bizdates ({len(older)} with rows of the user), and weights and vocabularies that are "
        f"made from them: removed {when}, except the newest of its asset and what kept versions were made from",
        f"  versions in stores ({stores}): gone when {keep} newer releases are live, and until then do not roll back; "
        "the user's row in Feast's online store: remove it there",
        "  trainings that continue from earlier weights (`warm_start`): train once with `warm_start: nothing`",
        "  MLflow's runs, models and files: `mlflow runs delete`, then `mlflow gc`",
        "  previews of tables in Dagster's history: removed with runs as old as `recsys clean` keeps days",
        "  backups, copies of the lake and of landing files, older versions in object stores: remove them yourself",
        "  running services keep what they read, and what other machines were told: restart them, and run this there",
        "  the source of the data: landing it again brings the user back",
    ]
