import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from recsys_assets_tests.conftest import PROJECT

PACKAGE = PROJECT / "recsys_assets"
FLOORS = {
    1: [
        "datasets",
        "engines",
        "metrics",
        "lake",
        "lake_place",
        "lineage",
        "manifest",
        "remote",
        "settings",
        "uris",
        "processes",
        "step_processes",
        "guard",
        "arrays",
        "parallel",
        "bfloat16",
        "declined",
        "client",
        "own_service",
        "home",
    ],
    # In this order: a package of floor 2 imports only those before it.
    2: [
        *("features", "ranking", "retrieval", "i2i", "models", "training"),
        *("coldstart", "funnel", "fresh", "tuning", "reports"),
    ],
    3: ["stores"],
    4: [
        "alerts",
        "assets",
        "backfills",
        "backup",
        "checks",
        "deadline",
        "jobs",
        "schedules",
        "sensors",
        "partitions",
        "resources",
        "retention",
        "retries",
        "run_events",
        "tracking",
        "verify",
        "mlflow_model",
        "io_managers",
        "event_log",
        "history_database",
        "instance",
        "executor",
        "fresh_job",
    ],
    5: ["definitions", "step_imports", "cli", "demo", "forget", "tzrec", "ui", "serving", "streams"],
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
every_module = pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
RUFF = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]
HEAVY = RUFF["lint"]["flake8-tidy-imports"]["banned-module-level-imports"]


def room_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def imported(module: Path) -> tuple[str, ...]:
    return tuple(_imported(module))


def _imported(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def pins() -> dict[str, str]:
    lines = (PROJECT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def rooms_imported(module: Path) -> set[str]:
    ours = (name.split(".")[1] for name in imported(module) if name.startswith("recsys_assets."))
    return {room for room in ours if room in FLOOR_OF}


@every_module
def test_no_module_imports_from_a_floor_above_its_own(module: Path) -> None:
    floor = FLOOR_OF[room_of(module)]  # a new module or folder must be given a floor
    above = sorted(room for room in rooms_imported(module) if FLOOR_OF[room] > floor)
    assert not above, f"{module.name} is on floor {floor} and imports {above}"


@pytest.mark.parametrize(
    "module", [path for path in MODULES if room_of(path) in FLOORS[2]], ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_no_package_of_floor_2_imports_a_later_one(module: Path) -> None:
    if (room := room_of(module)) in FLOORS[2]:
        assert not rooms_imported(module) & set(FLOORS[2][FLOORS[2].index(room) + 1 :])


@every_module
def test_the_three_lower_floors_know_nothing_of_dagster_and_mlflow(module: Path) -> None:
    if FLOOR_OF[room_of(module)] <= 3:
        assert not {name.split(".")[0] for name in imported(module)} & {"dagster", "mlflow"}


def test_the_definitions_load_no_heavy_library_and_take_at_most_twice_the_time_of_dagster() -> None:
    code = (
        "import sys, time; start = time.process_time(); import dagster, duckdb, pyarrow.parquet; "
        "middle = time.process_time(); import recsys_assets.definitions; "
        f"print((time.process_time() - middle) / (middle - start), *[name for name in {HEAVY} if name in sys.modules])"
    )

    def ratio() -> float:
        answer = subprocess.check_output([sys.executable, "-W", "ignore", "-c", code], text=True)
        found, *heavy = answer.split()
        assert not heavy
        return float(found)

    assert any(ratio() < 2 for _ in range(3))  # a busy machine may need another try


def test_constraints_are_exact_versions_from_any_index() -> None:
    lines = (PROJECT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    odd = [line for line in lines if not line.startswith("#") and not re.fullmatch(r"[\w.-]+==[\w.]+", line)]
    assert not odd  # no hashes, no URLs, no local labels such as +cpu


def test_constraints_hold_a_fitting_version_of_everything_that_pyproject_asks_for() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    held = {name.lower().replace("_", "-"): version for name, version in pins().items()}
    wanted = [Requirement(line) for line in [*project["dependencies"], *project["optional-dependencies"]["dev"]]]
    unmet = [str(need) for need in wanted if not need.specifier.contains(held.get(need.name.lower(), "0"))]
    assert not unmet


def test_what_is_installed_here_is_what_constraints_say() -> None:
    installed = {name: metadata.version(name).split("+")[0] for name in ("dagster", "duckdb", "pandas", "torch")}
    assert installed == {name: pins()[name] for name in installed}
