"""`recsys doctor`: checks that everything the platform needs is in place, and says how to fix what is not.

Here are the command and the checks of the installation and of the data; those of places are in `places.py`.
"""

import os
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recsys_assets.cli import places
from recsys_assets.cli.places import Finding
from recsys_assets.settings import Settings, settings
from recsys_assets.uris import NotAFolder, without_secrets

if TYPE_CHECKING:
    from recsys_assets.datasets.profile import Profile
    from recsys_assets.manifest import Partition

LISTED_NAMES = 3  # at most, in a finding


@click.command()
@click.option("--verify", "thorough", is_flag=True, help="Also read every partition of the lake, 1.5 GB per second.")
def doctor(thorough: bool) -> None:
    """Check Python, packages, places, ports, profile, landing and stores; say how to fix what is wrong."""
    marks = {
        "ok": click.style("ok  ", "green"),
        "note": click.style("note", "yellow"),
        "fix": click.style("FIX ", "red"),
    }
    problems = 0
    for finding in findings(thorough):
        click.echo(f"{marks[finding.state]}  {finding.what:<10} {without_secrets(finding.found)}")
        if finding.fix:
            click.echo(f"{'':16} -> {finding.fix}")
        problems += finding.state == "fix"
    if problems:
        raise click.ClickException("1 problem found" if problems == 1 else f"{problems} problems found")


def findings(thorough: bool) -> Iterator[Finding]:
    """All checks, one after the other."""
    yield check_python()
    try:
        place = settings()
    except NotAFolder as error:
        yield Finding("settings", "fix", str(error), "correct it and run recsys doctor again: the rest depends on it")
        return
    yield check_packages(place)
    yield from _check_places(place)
    if thorough:
        yield from check_partitions(place)


def _check_places(place: Settings) -> Iterator[Finding]:
    yield check_profile(place)
    yield check_landing(place)
    yield places.check_lake(place)
    yield check_freshness(place)
    yield places.check_data(place)
    yield places.check_disk(place)
    yield places.check_history(place)
    yield places.check_mlflow(place)
    yield places.check_dagster_ui(place)
    yield places.check_mlflow_ui(place)
    yield from places.check_stores(place)
    yield from places.check_feast(place)


def check_python() -> Finding:
    """The interpreter has the version that the packages are locked for."""
    version = sys.version.split()[0]
    if sys.version_info[:2] == (3, 11):
        return Finding("python", "ok", f"{version} ({sys.executable})")
    return Finding("python", "fix", version, "Python 3.11 is needed: rm -r .venv, then make setup")


def check_packages(place: Settings) -> Finding:
    """The requirements are met, in the locked versions."""
    unmet = unmet_requirements()
    if unmet:
        return Finding("packages", "fix", "; ".join(unmet), "make setup")
    pinned = place.home / "constraints.txt"
    if not pinned.exists():
        return Finding("packages", "ok", "all requirements are met")
    if other := differing_packages(pinned.read_text(encoding="utf-8")):
        return Finding(
            "packages", "note", f"not as in constraints.txt: {', '.join(other)}", "rm .venv/.installed; make setup"
        )
    return Finding("packages", "ok", "as in constraints.txt")


def unmet_requirements() -> list[str]:
    """The project's own requirements (without extras) that are not met, each with the installed version."""
    from packaging.requirements import Requirement

    wanted = [Requirement(line) for line in metadata.requires("recsys-assets") or [] if "extra ==" not in line]
    there = {need.name: _installed_version(need.name) for need in wanted}
    return [
        f"{need} is needed, {there[need.name] or 'nothing'} is installed"
        for need in wanted
        if not need.specifier.contains(there[need.name] or "0", prereleases=True)
    ]


def differing_packages(constraints: str) -> list[str]:
    """Installed packages whose version differs from the pinned one; suffixes such as `+cpu` do not count."""
    pins = [line.split("==") for line in constraints.splitlines() if "==" in line and not line.startswith("#")]
    found = [(name, version, _installed_version(name)) for name, version in pins]
    return [f"{name} {have} (not {pin})" for name, pin, have in found if have and have.split("+")[0] != pin]


def _installed_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def check_profile(place: Settings) -> Finding:
    """The profile can be read."""
    from recsys_assets.datasets.profile import ProfileError, load_profile

    try:
        found = load_profile(place=place)
    except ProfileError as error:
        return Finding("profile", "fix", str(error), "correct it, or pick another with RECSYS_PROFILE")
    until = f" to {found.last_bizdate}" if found.last_bizdate else ""
    title = f"{found.title}, " if found.title else ""
    return Finding("profile", "ok", f"{found.name}: {title}from {found.first_bizdate}{until}")


def check_landing(place: Settings) -> Finding:
    """The landing folder exists, can be read, and has days that have ended."""
    from recsys_assets.cli.days import complete_bizdates
    from recsys_assets.datasets.feed import LandingError
    from recsys_assets.datasets.profile import ProfileError, load_profile

    try:
        profile = load_profile(place=place)
        if not profile.store and (problem := _landing_problem(profile, place)):
            return problem
        days = complete_bizdates(profile)
    except ProfileError:
        return Finding("landing", "note", "not checked, because the profile cannot be read")
    except LandingError as error:
        return Finding("landing", "fix", str(error))
    if not days:
        how = f"recsys land {profile.name}" if profile.source else f"put landing files under {profile.landing_place}"
        return Finding("landing", "note", f"nothing has landed in {profile.landing_place}", how)
    return Finding("landing", "ok", f"{len(days):,} days, {days[0]} to {days[-1]}, in {profile.landing_place}")


def _landing_problem(profile: "Profile", place: Settings) -> Finding | None:
    """The problem with a landing folder that was named but does not exist, or in which something cannot be read."""
    chosen = place.landing != place.data / "landing" and profile.landing.is_relative_to(place.landing)
    if chosen and not place.landing.is_dir():
        return Finding("landing", "fix", f"{place.landing} is not a folder", "correct RECSYS_LANDING, or create it")
    if not chosen and not profile.source and not profile.landing.is_dir():
        return Finding("landing", "fix", f"{profile.landing} is not a folder", "correct the profile's `landing`")
    if closed := _unreadable_paths(profile.landing):
        more = f" and {len(closed) - 1:,} more" if len(closed) > 1 else ""
        return Finding("landing", "fix", f"{closed[0]}{more} cannot be read", f"chmod -R u+rX '{profile.landing}'")
    return None


def _unreadable_paths(folder: Path) -> list[str]:
    """Folders and files that this user may not read; a search for files skips such folders silently."""
    closed: list[str] = []
    walk = os.walk(folder, onerror=lambda error: closed.append(str(error.filename)))
    files = [os.path.join(top, name) for top, _, names in walk for name in names]  # noqa: PTH118  like those of os.walk
    folders = [path for path in closed if Path(path) != folder or folder.exists()]
    return folders + [path for path in files if not os.access(path, os.R_OK)]


def check_freshness(place: Settings) -> Finding:
    """No partition of the newest bizdate in the lake is older than other partitions or landing files that it needs."""
    from recsys_assets.datasets.feed import LandingError
    from recsys_assets.datasets.identity import OtherDataset
    from recsys_assets.datasets.profile import ProfileError, load_profile
    from recsys_assets.lake import Lake
    from recsys_assets.lake_place import LakeUnavailable
    from recsys_assets.lineage import Lineage

    try:
        profile = load_profile(place=place)
        lake = Lake.of(place.lake, profile)
        newest = max((day for _, day in lake.partitions()), default=None)
        found = Lineage(lake).outdated_assets(newest) if newest else []
    except OtherDataset as error:
        return Finding("freshness", "fix", str(error))
    except (ProfileError, LandingError, LakeUnavailable):
        return Finding("freshness", "note", "not checked, because the profile, landing files or lake cannot be read")
    if not newest:
        return Finding("freshness", "ok", "nothing has been built yet")
    if found:
        more = f" and {len(found) - LISTED_NAMES} more" if len(found) > LISTED_NAMES else ""
        names = ", ".join(found[:LISTED_NAMES]) + more
        what = f"{names} of {newest} are outdated: what they were built from has changed"
        return Finding("freshness", "fix", what, f"recsys refresh --bizdate {newest}")
    return Finding("freshness", "ok", f"all partitions of {newest}, the newest bizdate, are up to date")


def check_partitions(place: Settings) -> Iterator[Finding]:
    """Every partition that is not as it was written, with the command that rebuilds it; then how much was read."""
    from rich.console import Console
    from rich.progress import track

    from recsys_assets.datasets.profile import ProfileError, load_profile
    from recsys_assets.lake import Lake
    from recsys_assets.lake_place import LakeUnavailable
    from recsys_assets.manifest import PartitionDamaged, PartitionMissing

    try:
        lake = Lake(place.lake, load_profile(place=place).name)
        partitions = lake.partitions()
    except (ProfileError, LakeUnavailable):
        return  # already reported
    console, start, size = Console(stderr=True), time.perf_counter(), 0
    damaged: list[Finding] = []
    for asset, day in track(partitions, "reading", console=console, disable=not console.is_terminal):
        try:
            size += _size(lake.read(asset, day))
        except (PartitionDamaged, PartitionMissing, LakeUnavailable, OSError) as error:
            damaged.append(_damage(asset, day, error))
    yield from damaged
    whole = len(partitions) - len(damaged)
    read = f"{size / 1e9:,.2f} GB in {time.perf_counter() - start:,.1f} s"
    yield Finding("partitions", "ok", f"{whole:,} of {len(partitions):,} are as their manifests say; {read}")


def _size(partition: "Partition") -> int:
    return sum((partition.folder / file).stat().st_size for file in partition.manifest.files)


def _damage(asset: str, day: str, error: Exception) -> Finding:
    from recsys_assets.manifest import PartitionMissing

    why = "it has no manifest" if isinstance(error, PartitionMissing) else str(error).partition(": run `")[0]
    return Finding("partition", "fix", f"{asset} {day}: {why}", f"recsys materialize {asset} --bizdate {day}")
