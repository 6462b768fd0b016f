"""Small generated worlds for tests of assets: landed, ingested and materialized in the test's own process."""

import datetime as dt
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from filelock import FileLock

from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.landing import land, landed_bizdates
from recsys_assets.datasets.profile import Profile, bundled_profiles, load_profile
from recsys_assets.datasets.row_files import column_names, read_columns
from recsys_assets.funnel.by_vector import AFTER_ALL, BEFORE_TEST
from recsys_assets.lake import Lake
from recsys_assets.manifest import Partition
from recsys_assets.models.catalogue import TOWERS
from recsys_assets.ranking.sample_parts import part_files
from recsys_assets.retrieval import embeddings
from recsys_assets.retrieval.interactions import read
from recsys_assets_tests.helpers.environment import forget_tracking_uri
from recsys_assets_tests.helpers.in_process import failures, materialize

YESTERDAY, DAY = "2026-03-30", "2026-03-31"
ALL = slice(None)
OWN_PROFILE = "own.yaml"


@dataclass
class World:
    """A lake that assets are materialized in; `result` is the run that a test file is about."""

    home: Path
    profile: Profile
    result: dg.ExecuteInProcessResult = field(init=False)

    @property
    def lake(self) -> Lake:
        return Lake(str(self.home / "lake"), self.profile.name)

    def run(
        self,
        assets: Sequence[str],
        day: str = DAY,
        last: str | None = None,
        config: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Materialize assets, which must succeed, for a day or up to `last`; `config` has settings by asset."""
        result = materialize(assets, day, last, config=config)
        assert (found := failures(result)) == {}, found
        return result

    def read(self, asset: str, day: str = DAY) -> Partition:
        return self.lake.read(asset, day)

    def table(self, asset: str, file: str = ROWS) -> pa.Table:
        return pq.read_table(self.read(asset).path(file))

    def part(self, asset: str, part: str) -> pa.Table:
        """The rows of a part of samples."""
        files = part_files(self.read(asset), part)
        return read_columns(files, column_names(files))

    def metadata(self, asset: str) -> dict[str, dg.MetadataValue[Any]]:
        """Metadata of the asset in `result`."""
        (event,) = self.result.asset_materializations_for_node(asset)
        return dict(event.metadata)

    def write_vectors(self, day: str = DAY, users: slice = ALL, items: slice = ALL) -> None:
        """Write random vectors of every two-tower model for some users and items; each file has its own."""
        events = read(self.read("recall_samples", day).path(ROWS))
        sides = {"user": events.user_ids[users], "item": events.item_ids[items]}
        for seed, model in enumerate(TOWERS):
            rng = np.random.default_rng(seed)
            for side, ids in sides.items():
                with self.lake.draft(f"emb_{model}_{side}", day) as draft:
                    for file in (BEFORE_TEST, ROWS):
                        vectors = rng.normal(size=(len(ids), 8)).astype(np.float32)
                        embeddings.write(draft.path(file), f"{side}_id", ids, vectors)
                    if side == "user":
                        np.save(draft.path(AFTER_ALL), rng.normal(size=(len(ids), 8)).astype(np.float32))

    def copy(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> "World":
        """A copy that a test may change; the environment names it until the test ends."""
        for folder in ("lake", "landing"):
            shutil.copytree(self.home / folder, home / folder)
        monkeypatch.setenv("RECSYS_DATA", str(home))
        forget_tracking_uri(monkeypatch)
        return World(home, self.profile)


@contextmanager
def open_world(
    home: Path, changes: Mapping[str, Any] | None = None, *, users: int, items: int, events: int, days: int
) -> Iterator[World]:
    """A world whose events up to `DAY` are ingested; the environment names its folders until the block ends.

    `home` is an empty folder; `changes` are settings of the profile that differ from those of `sample`, its name among
    them; the other arguments say how much is generated.
    """
    if changes:
        write_profile(home / OWN_PROFILE, changes)
    with world_in(home) as world:
        land(world.profile, last=dt.date.fromisoformat(DAY), users=users, items=items, events=events, days=days)
        world.run(["interactions"], landed_bizdates(world.profile)[0], DAY)
        yield world


@contextmanager
def world_in(home: Path) -> Iterator[World]:
    """The world of a folder, of the profile `sample` or its own; the environment names both until the block ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECSYS_DATA", str(home))
        patch.setenv("RECSYS_PROFILE", str(own) if (own := home / OWN_PROFILE).exists() else "sample")
        forget_tracking_uri(patch)
        yield World(home, load_profile())


def copy_of(name: str, build: Callable[[Path], None], folders: pytest.TempPathFactory) -> Path:
    """A copy of the folder that `build` fills; the first worker of a run that asks for the name builds it for all."""
    # The workers' folders lie next to each other in that of the run.
    run = folders.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else folders.getbasetemp()
    with FileLock(run / f"{name}.lock"):
        if not (built := run / name).exists():
            # Under a name of its own: MLflow keeps connections by path, and SQLite refuses to write to a moved file.
            build(unfinished := folders.mktemp(f"unfinished-{name}"))
            unfinished.rename(built)
    return Path(shutil.copytree(built, folders.mktemp(name), dirs_exist_ok=True))


@contextmanager
def own_environment(home: Path) -> Iterator[None]:
    """The environment names the folders in `home`, and its `profile.yaml`, until the block ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECSYS_DATA", str(home))
        patch.setenv("RECSYS_LANDING", str(home / "landing"))
        patch.setenv("RECSYS_PROFILE", str(home / "profile.yaml"))
        forget_tracking_uri(patch)
        yield


def write_profile(path: Path, changes: Mapping[str, Any]) -> str:
    """Write the profile `sample` with changed settings, those of a section merged; returns its path."""
    content = yaml.safe_load(bundled_profiles()["sample"].read_text(encoding="utf-8"))
    for name, value in changes.items():
        content[name] = {**content[name], **value} if name in ("features", "bounds") else value
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return str(path)
