"""`recsys doctor` on what is installed: Python and the packages."""

import sys
from importlib import metadata

from recsys_assets.cli.finding import Finding
from recsys_assets.settings import Settings


def python() -> Finding:
    """The interpreter has the version that the packages are locked for."""
    version = sys.version.split()[0]
    if sys.version_info[:2] == (3, 11):
        return Finding("python", "ok", f"{version} ({sys.executable})")
    return Finding("python", "fix", version, "Python 3.11 is needed: rm -r .venv, then make setup")


def packages(place: Settings) -> Finding:
    """The requirements are met, in the locked versions."""
    unmet = unmet_requirements()
    if unmet:
        return Finding("packages", "fix", "; ".join(unmet), "make setup")
    pinned = place.home / "constraints.txt"
    if not pinned.exists():
        return Finding("packages", "ok", "all requirements are met")
    if other := differing(pinned.read_text(encoding="utf-8")):
        return Finding(
            "packages", "note", f"not as in constraints.txt: {', '.join(other)}", "rm .venv/.installed; make setup"
        )
    return Finding("packages", "ok", "as in constraints.txt")


def unmet_requirements() -> list[str]:
    """The project's own requirements (without extras) that are not met, each with the installed version."""
    from packaging.requirements import Requirement

    wanted = [Requirement(line) for line in metadata.requires("recsys-assets") or [] if "extra ==" not in line]
    there = {need.name: _installed(need.name) for need in wanted}
    return [
        f"{need} is needed, {there[need.name] or 'nothing'} is installed"
        for need in wanted
        if not need.specifier.contains(there[need.name] or "0", prereleases=True)
    ]


def differing(constraints: str) -> list[str]:
    """Installed packages whose version differs from the pinned one; suffixes such as `+cpu` do not count."""
    pins = [line.split("==") for line in constraints.splitlines() if "==" in line and not line.startswith("#")]
    found = [(name, version, _installed(name)) for name, version in pins]
    return [f"{name} {have} (not {pin})" for name, pin, have in found if have and have.split("+")[0] != pin]


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
