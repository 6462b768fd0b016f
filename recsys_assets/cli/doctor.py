"""`recsys doctor`: is everything here that the platform needs, and how to mend what is not."""

import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import click

from recsys_assets.settings import Settings, settings

State = Literal["ok", "note", "mend"]
LEAST_DISK_GB, GOOD_DISK_GB = 1.0, 5.0  # the generated sample takes well under 1 GB, MovieLens 1M about that


@dataclass(frozen=True)
class Finding:
    """One thing looked at: how it is, and what to do about it."""

    what: str
    state: State
    found: str
    mend: str = ""


@click.command()
def doctor() -> None:
    """Check Python, packages, places, ports, profile and landing; say how to mend what is wrong."""
    marks = {
        "ok": click.style("ok  ", "green"),
        "note": click.style("note", "yellow"),
        "mend": click.style("MEND", "red"),
    }
    wrong = 0
    for finding in findings(settings()):
        click.echo(f"{marks[finding.state]}  {finding.what:<10} {finding.found}")
        if finding.mend:
            click.echo(f"{'':16} -> {finding.mend}")
        wrong += finding.state == "mend"
    if wrong:
        raise click.ClickException(f"{wrong} to be mended")


def findings(place: Settings) -> Iterator[Finding]:
    """All checks, one after the other."""
    checks: list[Callable[[Settings], Finding]] = [
        _python, _packages, _profile, _landing, _lake, _tracking, _disk, _dagster_ui, _mlflow_ui,
    ]  # fmt: skip
    for check in checks:
        yield check(place)


def _python(place: Settings) -> Finding:
    version = sys.version.split()[0]
    if sys.version_info[:2] == (3, 11):
        return Finding("python", "ok", f"{version} ({sys.executable})")
    return Finding("python", "mend", version, f"Python 3.11 is needed: remove {place.home / '.venv'}, then make setup")


def _packages(place: Settings) -> Finding:
    unmet = unmet_requirements()
    if unmet:
        return Finding("packages", "mend", "; ".join(unmet), "make setup")
    pinned = place.home / "constraints.txt"
    if not pinned.exists():
        return Finding("packages", "ok", "all requirements are met")
    if other := differing(pinned.read_text(encoding="utf-8")):
        return Finding(
            "packages", "note", f"not as in constraints.txt: {', '.join(other)}", "rm .venv/.installed; make setup"
        )
    return Finding("packages", "ok", "as in constraints.txt")


def unmet_requirements() -> list[str]:
    """The project's own requirements (extras aside) that are not met, each with what is there."""
    from packaging.requirements import Requirement

    wanted = [Requirement(line) for line in metadata.requires("recsys-assets") or [] if "extra ==" not in line]
    there = {need.name: _installed(need.name) for need in wanted}
    return [
        f"{need} is needed, {there[need.name] or 'nothing'} is installed"
        for need in wanted
        if not need.specifier.contains(there[need.name] or "0", prereleases=True)
    ]


def differing(constraints: str) -> list[str]:
    """Installed packages of another version than the pinned one; `+cpu` and the like do not count."""
    pins = [line.split("==") for line in constraints.splitlines() if "==" in line and not line.startswith("#")]
    found = [(name, version, _installed(name)) for name, version in pins]
    return [f"{name} {have} (not {pin})" for name, pin, have in found if have and have.split("+")[0] != pin]


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _profile(place: Settings) -> Finding:
    from recsys_assets.datasets.profile import ProfileError, load_profile

    try:
        profile = load_profile(place=place)
    except ProfileError as error:
        return Finding("profile", "mend", str(error), "correct it, or pick another with RECSYS_PROFILE")
    until = f" to {profile.last_bizdate}" if profile.last_bizdate else ""
    return Finding("profile", "ok", f"{profile.name}: {profile.title}, from {profile.first_bizdate}{until}")


def _landing(place: Settings) -> Finding:
    from recsys_assets.cli.days import complete_bizdates
    from recsys_assets.datasets.feed import LandingError
    from recsys_assets.datasets.profile import ProfileError, load_profile

    try:
        profile = load_profile(place=place)
        days = complete_bizdates(profile)
    except ProfileError:
        return Finding("landing", "note", "unknown without a profile")
    except LandingError as error:
        return Finding("landing", "mend", str(error))
    if not days:
        how = f"recsys land {profile.name}" if profile.source else f"put landing files under {profile.landing}"
        return Finding("landing", "note", f"nothing has landed in {profile.landing}", how)
    return Finding("landing", "ok", f"{len(days):,} days, {days[0]} to {days[-1]}, in {profile.landing}")


def _lake(place: Settings) -> Finding:
    """Write and exchange two folders where partitions are written."""
    from recsys_assets.lake import exchange

    if "://" in place.lake:
        return _remote_lake(place.lake)
    try:
        Path(place.lake).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".doctor.", dir=place.lake) as folder:
            one, other = Path(folder, "one"), Path(folder, "other")
            one.mkdir()
            other.mkdir()
            atomic = exchange(one, other)
    except OSError as error:
        return Finding(
            "lake", "mend", f"{place.lake} cannot be written: {error}", "give the right to, or set RECSYS_LAKE"
        )
    if not atomic:
        what = f"{place.lake}: its file system cannot exchange folders: a reader may meet a gap for an instant"
        return Finding("lake", "note", what, "a local Linux file system (ext4, xfs, btrfs, tmpfs) can")
    return Finding("lake", "ok", f"{place.lake}, partitions are exchanged in one step")


def _remote_lake(url: str) -> Finding:
    import fsspec

    try:
        fs, path = fsspec.core.url_to_fs(url)
        fs.pipe_file(f"{path}/.doctor", b"")
        fs.rm_file(f"{path}/.doctor")
    except (OSError, ImportError, ValueError) as error:
        return Finding("lake", "mend", f"{url} cannot be written: {error}", "check RECSYS_LAKE and its credentials")
    return Finding("lake", "ok", f"{url}, manifests are written last")


def _tracking(place: Settings) -> Finding:
    uri = place.tracking_uri
    if uri.startswith(("http://", "https://")):
        return _tracking_server(uri)
    if uri.startswith("file:") or "://" not in uri:
        how = f"sqlite:///{place.data / 'mlflow.db'}, or a server's URL"
        return Finding(
            "mlflow", "mend", f"{uri}: MLflow keeps no runs in plain files any more", f"MLFLOW_TRACKING_URI={how}"
        )
    return Finding("mlflow", "ok", uri)


def _tracking_server(uri: str) -> Finding:
    import requests

    try:
        requests.get(f"{uri}/health", timeout=5).raise_for_status()
    except requests.RequestException as error:
        return Finding("mlflow", "mend", f"{uri} does not answer: {error}", "start it, or unset MLFLOW_TRACKING_URI")
    return Finding("mlflow", "ok", f"{uri} answers")


def _disk(place: Settings) -> Finding:
    there = next(folder for folder in (place.data, *place.data.parents) if folder.exists())
    free = shutil.disk_usage(there).free / 1e9
    state: State = "mend" if free < LEAST_DISK_GB else "note" if free < GOOD_DISK_GB else "ok"
    advice = "" if state == "ok" else "free some, or set RECSYS_DATA to a larger disk"
    return Finding("disk", state, f"{free:,.1f} GB free at {place.data}", advice)


def _dagster_ui(place: Settings) -> Finding:
    return _ui("dagster ui", place.dagster_ui, "/server_info", "DAGSTER_PORT")


def _mlflow_ui(place: Settings) -> Finding:
    return _ui("mlflow ui", place.tracking_ui, "/health", "MLFLOW_PORT")


def _ui(what: str, url: str, probe: str, port_variable: str) -> Finding:
    """Whether the UI answers, or else its port is free for it."""
    import requests
    from requests.exceptions import RequestException

    try:
        requests.get(url + probe, timeout=2).raise_for_status()
    except RequestException:
        host, port = url.split("://")[1].rstrip("/").partition(":")[::2]
        with socket.socket() as probe_socket:
            taken = probe_socket.connect_ex((host, int(port or 80))) == 0
        if taken:
            return Finding(
                what, "note", f"another program answers at {url}", f"pick a port: make ui {port_variable}=..."
            )
        return Finding(what, "ok", f"not running ({url} is free): make ui")
    return Finding(what, "ok", f"running at {url}")
