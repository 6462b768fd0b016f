"""A bizdate built again, from landing files and from the first event on, in a temporary lake with the assets' own code.

A lake without earlier partitions has no state to go on from, so everything is counted again. What is trained, and
whatever else a partition was made from that is not built again, is taken from the lake as it is.
"""

import contextlib
import datetime as dt
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg

from recsys_assets.assets import assets_of
from recsys_assets.datasets.disk import Place, writing_to
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.landing import landed_bizdates
from recsys_assets.datasets.profile import Profile
from recsys_assets.io_managers import LakeIOManager
from recsys_assets.lake import Lake
from recsys_assets.manifest import DAILY, Manifest, Partition, PartitionDamaged
from recsys_assets.partitions import span_tags, stretches
from recsys_assets.resources import resources
from recsys_assets.verify.compare import Difference, differences, sample_differences

# Sums, states, and what follows from them without training, upstream first; `interactions` come before all of these.
COUNTED = (
    *("users", "items", "splits", "event_features", "recall_samples", "cold_start_samples", "rank_samples"),
    *("touch_samples", "feature_schema", "feature_boundaries", "user_features", "item_features", "negative_items"),
    *("recall_term", "i2i_itemcf", "i2i_swing"),
)
SAMPLES, _AFTER_SAMPLES = ("rank_samples", "touch_samples"), "feature_schema"
# These are built with the settings that the partition of the lake says it was built with.
_WITH_SETTINGS = ("feature_boundaries", "negative_items", "recall_term", "i2i_itemcf", "i2i_swing")
_NO_SETTING = {"recall_term": {"column"}}  # entries of a manifest's config that the profile decides
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class RebuildFailed(RuntimeError):
    """A bizdate cannot be built again from its landing files; the message has the errors."""


@dataclass(frozen=True)
class Verified:
    """The result for one asset.

    Attributes:
        asset: its name.
        rows: of its partition, or of all its days.
        differences: the files that differ from a rebuild; none if all are equal.
    """

    asset: str
    rows: int
    differences: list[Difference]


@dataclass(frozen=True)
class Verification:
    """The result for a bizdate.

    Attributes:
        found: what was built again, upstream first.
        taken: the partitions (`asset/bizdate`) that were taken from the lake as they are.
        failed: why others were not compared: what is taken does not fit to rows that differ.
    """

    found: list[Verified]
    taken: list[str]
    failed: str = ""

    @property
    def differences(self) -> list[Difference]:
        """All files that differ."""
        return [difference for each in self.found for difference in each.differences]


def verify(profile: Profile, lake: Lake, bizdate: str) -> Verification:
    """Build a bizdate again in a temporary folder, and compare it with the lake, which is not changed.

    Raises:
        RebuildFailed: a step failed although nothing differs, or there is nothing to build.
        PartitionMissing, PartitionDamaged: a partition that would be taken from the lake as it is.
        PlaceUnwritable: the temporary folder is full.
    """
    there = lake.manifests(f"{asset}/{bizdate}" for asset in COUNTED)
    made = {each.asset: each for each in there.values()}
    days = [day for day in lake.bizdates("interactions") if day <= bizdate]
    if not days:
        raise RebuildFailed(f"{lake.profile} has no events up to {bizdate} in the lake: there is nothing to compare")
    landed = set(landed_bizdates(profile))
    given = [f"interactions/{day}" for day in days if day not in landed] + _given(made)
    with tempfile.TemporaryDirectory(prefix="recsys_assets-verify-") as folder:
        with writing_to(Place("the temporary folder", Path(folder), "TMPDIR")), _lake_in(folder, profile) as temporary:
            for name in given:
                _take(lake, temporary, name)
            samples, failed = _build(profile, lake, temporary, made, [day for day in days if day in landed])
        found = [_verified_days(lake, temporary, landed.intersection(temporary.bizdates("interactions"))), *samples]
        compared = {each.asset for each in found}
        built = [asset for asset in COUNTED if asset in made and bizdate in temporary.bizdates(asset)]
        found += [_verified(lake, temporary, made[asset]) for asset in built if asset not in compared]
    done = Verification(found + _without_manifest(lake, bizdate, made), given, failed)
    if failed and not done.differences:
        raise RebuildFailed(f"{bizdate} cannot be built again: {failed}")
    return done


def _given(made: Mapping[str, Manifest]) -> list[str]:
    """The partitions that some were made from, and that are not built again."""
    names = {name for each in made.values() for name in each.upstream}
    return sorted(name for name in names if name.partition("/")[0] not in {*DAILY, *COUNTED})


@contextlib.contextmanager
def _lake_in(folder: str, profile: Profile) -> Iterator[Lake]:
    """A lake in a folder, which the environment names until the block ends, so that assets write there."""
    before = os.environ.get("RECSYS_LAKE")
    os.environ["RECSYS_LAKE"] = folder
    try:
        yield Lake(folder, profile.name)
    finally:
        del os.environ["RECSYS_LAKE"]
        if before is not None:
            os.environ["RECSYS_LAKE"] = before


def _take(lake: Lake, temporary: Lake, name: str) -> None:
    """Copy a partition; the copy names no inputs, so that it is not outdated by rebuilt ones that differ."""
    asset, _, bizdate = name.partition("/")
    partition = lake.read(asset, bizdate)
    with temporary.draft(asset, bizdate) as draft:
        shutil.copytree(partition.folder, draft.folder, dirs_exist_ok=True)
        draft.path("manifest.json").unlink()
        draft.manifest = replace(partition.manifest, upstream={})


def _build(
    profile: Profile, lake: Lake, temporary: Lake, made: Mapping[str, Manifest], days: Sequence[str]
) -> tuple[list[Verified], str]:
    """Materialize the days of events, and then the partitions of the bizdate, in the temporary lake.

    Samples that took over files of earlier days are compared, and then replaced by those of the lake, from which the
    assets after them were made.

    Returns:
        The results for such samples, and the errors of the steps that failed.
    """
    job = _job(profile)
    spans = stretches([dt.date.fromisoformat(day) for day in days])
    failed = [each for first, last in spans for each in _run(job, ["interactions"], str(first), str(last))]
    failed = failed or _materialize(job, made, COUNTED[: COUNTED.index(_AFTER_SAMPLES)])
    if failed:
        return [], "; ".join(failed)
    kept = [each for each in made.values() if any(name.startswith(f"{each.asset}/") for name in each.upstream)]
    found = [_verified_samples(lake, temporary, each) for each in kept if each.asset in SAMPLES]
    for each in found:
        _take(lake, temporary, made[each.asset].name)
    return found, "; ".join(_materialize(job, made, COUNTED[COUNTED.index(_AFTER_SAMPLES) :]))


def _job(profile: Profile) -> dg.JobDefinition:
    """All assets of a profile, in the lake that the environment names."""
    provided = resources()
    provided["io_manager"] = LakeIOManager(store=provided["lake"])
    return dg.Definitions(assets=assets_of(profile), resources=provided).resolve_implicit_global_asset_job_def()


def _materialize(job: dg.JobDefinition, made: Mapping[str, Manifest], assets: Sequence[str]) -> list[str]:
    """Materialize those of the assets that the lake has, with their settings; returns the errors of failed steps."""
    there = [asset for asset in assets if asset in made]
    if not there:
        return []
    day, settings = (
        made[there[0]].bizdate,
        {asset: _settings(made[asset]) for asset in there if asset in _WITH_SETTINGS},
    )
    return _run(job, there, day, day, settings)


def _settings(manifest: Manifest) -> dict[str, Any]:
    left_out = _NO_SETTING.get(manifest.asset, set())
    return {name: value for name, value in manifest.config.items() if name not in left_out}


def _run(
    job: dg.JobDefinition, assets: Sequence[str], first: str, last: str, settings: Mapping[str, Any] | None = None
) -> list[str]:
    """Materialize assets in this process, without a history; returns the errors of the steps that failed."""
    result = job.execute_in_process(
        asset_selection=[dg.AssetKey(asset) for asset in assets],
        partition_key=first if first == last else None,
        tags=None if first == last else span_tags(first, last),
        run_config={**_QUIET, "ops": {asset: {"config": each} for asset, each in (settings or {}).items()}},
        raise_on_error=False,
    )
    return [_cause(event) for event in result.all_events if event.is_step_failure]


def _cause(event: dg.DagsterEvent) -> str:
    """The step that failed, and the error of its asset, which Dagster wraps in one of its own."""
    error = event.step_failure_data.error
    while error and error.cause and (error.cls_name or "").startswith("Dagster"):
        error = error.cause
    return f"{event.step_key}: {error.message.strip() if error else 'unknown error'}"


def _verified_days(lake: Lake, temporary: Lake, days: Set[str]) -> Verified:
    """The result for days of events."""
    found = [_verified(lake, temporary, lake.manifest("interactions", day)) for day in sorted(days)]
    rows, different = sum(each.rows for each in found), [each for day in found for each in day.differences]
    return Verified("interactions", rows, different)


def _verified(lake: Lake, temporary: Lake, manifest: Manifest) -> Verified:
    """The result for one partition."""
    rebuilt = temporary.read(manifest.asset, manifest.bizdate)
    names = [*sorted(name for name in manifest.extended if name.partition("/")[0] == manifest.asset), manifest.name]
    there = [_open(lake, name) for name in names]
    return Verified(manifest.asset, rebuilt.manifest.rows or 0, differences(there, rebuilt))


def _verified_samples(lake: Lake, temporary: Lake, manifest: Manifest) -> Verified:
    """The result for samples whose rows have features as they were when they were written.

    Columns of event features are compared; the others may be different today.
    """
    features = lake.manifest("event_features", manifest.bizdate).schema[ROWS]
    rebuilt = temporary.read(manifest.asset, manifest.bizdate)
    found = sample_differences(_open(lake, manifest.name), rebuilt, features.keys())
    return Verified(manifest.asset, rebuilt.manifest.rows or 0, found)


def _without_manifest(lake: Lake, bizdate: str, made: Mapping[str, Manifest]) -> list[Verified]:
    """The results for folders of partitions that are none, as their manifests are missing or damaged."""
    assets = [asset for asset, day in lake.partitions() if day == bizdate and asset in COUNTED and asset not in made]
    why = "is missing or cannot be read"
    return [Verified(asset, 0, [Difference(f"{asset}/{bizdate}/manifest.json", why)]) for asset in assets]


def _open(lake: Lake, name: str) -> Partition:
    """A partition of the lake; on this machine also a damaged one, whose files are to be compared."""
    asset, _, bizdate = name.partition("/")
    try:
        return lake.read(asset, bizdate)
    except PartitionDamaged:
        folder = Path(lake.location(asset, bizdate))
        if not folder.is_dir():
            raise
        return Partition(folder, lake.manifest(asset, bizdate))
