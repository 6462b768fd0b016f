"""Kept fits: a bizdate takes the model, or the choice, of the bizdate before, until it is due to be fitted again.

The profile's section `refit` says when it is due. An asset that keeps a fit depends on its own earlier days, so that a
backfill runs the days in order. A kept partition has the files of the fit, is judged on its own day's rows, and names
the day of the fit in its manifest (`Manifest.fitted`). Put the rule here, and what an asset does with a fit there.
"""

import datetime as dt
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import dagster as dg

from recsys_assets.assets.lake_asset import LakeAsset
from recsys_assets.datasets.profile import Profile
from recsys_assets.io_managers import Output
from recsys_assets.lake import Lake
from recsys_assets.manifest import (
    GateNotPassed,
    Manifest,
    Partition,
    PartitionDamaged,
    PartitionMissing,
    PartitionOutdated,
)
from recsys_assets.models.catalogue import RANKERS, TOWERS
from recsys_assets.partitions import own_earlier_days
from recsys_assets.ranking.sample_parts import FILES

EVENTS = "splits"  # the rows of its partitions are all events up to their bizdate
CHOICES = ("i2i_itemcf", "i2i_swing", "cold_start_report", "funnel_model")
FITTED = ("factors", "touch_model", *(f"rank_{name}" for name in RANKERS), *(f"recall_{name}" for name in TOWERS))
ASSETS = frozenset({*FITTED, *CHOICES})
# Settings in manifests that say what a day had, and so differ between two days that were made in the same way.
OF_A_DAY = ("warm_start", "landed", "known", FILES)
FIT = "fit"  # the metadata that says what was kept, or why not


class NotKept(LookupError):
    """A bizdate needs a fit of its own; the message is the reason, in words without a full stop."""


def add_own_days(asset: LakeAsset, profile: Profile) -> LakeAsset:
    """The asset; one that may keep a fit depends on the earlier days of the longest time that a fit is kept."""
    if asset.key not in ASSETS or profile.refit.days == 1:
        return asset
    days = max(profile.refit.days - 1, profile.warm_start.days if _continues(asset) else 0)
    others = [each for each in asset.settings.get("deps", ()) if not _is_of(each, asset.key)]
    return replace(asset, settings={**asset.settings, "deps": [*others, own_earlier_days(asset.key, days)]})


def _is_of(dependency: Any, key: str) -> bool:
    return isinstance(dependency, dg.AssetDep) and dependency.asset_key == dg.AssetKey(key)


def _continues(asset: LakeAsset) -> bool:
    """Whether the asset depends on its own days already, as a training that continues does."""
    return any(_is_of(each, asset.key) for each in asset.settings.get("deps", ()))


def find_kept(output: Output, lake: Lake, profile: Profile, asked: Mapping[str, Any]) -> Partition | None:
    """The partition of an earlier day whose fit is kept, or None if the day needs a fit of its own.

    The metadata `fit` say which, and why. A kept fit becomes an input, with the settings, the seed and the MLflow run
    that it has.

    Args:
        output: the partition of the day, with all other inputs recorded.
        lake: where the earlier days are.
        profile: of the data set.
        asked: settings of the fit that the day asks for; those of the kept one are the same.
    """
    if profile.refit.days == 1 or asked.get("warm_start"):
        return None
    try:
        found, fitted = _newest_fit(output.manifest, lake, profile, asked)
    except NotKept as reason:
        output.metadata[FIT] = f"of this day: {reason}"
        return None
    first = f"{output.manifest.asset}/{fitted['bizdate']}"
    output.add_inputs([found, *lake.manifests([first]).values()])  # with the first, retention keeps what it is made of
    of, made = output.manifest, found.manifest
    of.fitted, of.config, of.seed, of.mlflow_run_id = fitted, made.config, made.seed, made.mlflow_run_id
    output.metadata[FIT] = f"kept from {fitted['bizdate']}, {of.age_of_fit} days before, by way of {made.name}"
    return found


def take(output: Output, kept: Partition, without: Iterable[str] = ()) -> None:
    """Copy the files of a kept fit, without those that the day makes of its own rows."""
    for file in sorted(kept.manifest.files.keys() - set(without)):
        shutil.copyfile(kept.path(file), output.path(file))


def take_export(output: Output, lake: Lake, model: Partition) -> bool:
    """Copy the files that were exported from a kept model, if the day that it was taken from has sound ones.

    The same code makes the same files of the same model, so that this only saves time.
    """
    if not model.manifest.fitted:
        return False
    days = [name.partition("/")[2] for name in model.manifest.upstream if name.startswith(f"{model.manifest.asset}/")]
    try:
        before = lake.read_sound(output.manifest.asset, max(days))
    except (PartitionMissing, PartitionDamaged, PartitionOutdated, GateNotPassed) as error:
        output.metadata[FIT] = f"exported again: {error}"
        return False
    if before.manifest.why_not or before.manifest.code_version != output.manifest.code_version:
        return False
    output.add_inputs([before])
    output.manifest.fitted = model.manifest.fitted
    take(output, before)
    return True


def _newest_fit(
    made: Manifest, lake: Lake, profile: Profile, asked: Mapping[str, Any]
) -> tuple[Partition, dict[str, Any]]:
    """The newest partition of an earlier day, and the day of its fit with the events that were known then.

    Raises:
        NotKept: there is none, it cannot be built on, it was made in another way, or its fit is due to be made again.
    """
    earlier = [day for day in lake.bizdates(made.asset) if day < made.bizdate]
    if not earlier:
        raise NotKept("there is no earlier day")
    try:
        before = lake.read_sound(made.asset, earlier[-1])
    except (PartitionMissing, PartitionDamaged, PartitionOutdated, GateNotPassed) as error:
        raise NotKept(f"the day before cannot be used: {error}") from error
    if reason := before.manifest.why_not:
        raise NotKept(f"{before.manifest.name} cannot be used: {reason}")
    _refuse_other_ways(made, before.manifest, lake, asked)
    fitted = before.manifest.fitted or {"bizdate": earlier[-1], "events": _events(lake, earlier[-1])}
    _refuse_due(made, fitted, _events(lake, made.bizdate), profile)
    return before, fitted


def _refuse_other_ways(made: Manifest, before: Manifest, lake: Lake, asked: Mapping[str, Any]) -> None:
    """Raise `NotKept` if code, settings or inputs differ from those of the day before."""
    decides = {name: value for name, value in asked.items() if name not in OF_A_DAY}
    if other := [name for name, value in decides.items() if before.config.get(name) != value]:
        raise NotKept(f"{before.name} has other settings: {', '.join(other)}")
    now, then = _recipe(made, lake), _recipe(before, lake)
    if other := sorted(asset for asset in now.keys() | then.keys() if now.get(asset) != then.get(asset)):
        raise NotKept(f"{before.name} was made in another way, with {', '.join(other)} of other code, settings or fit")


def _recipe(made: Manifest, lake: Lake) -> dict[str, Any]:
    """Code version, settings and day of the fit of all partitions of its day that one is made from, near and far.

    Of the partition itself it has the code version alone: its settings are compared with those that are asked for.
    """
    found, due = {made.asset: (made.code_version,)}, {made.name: made}
    while due:
        names = {name for each in due.values() for name in each.upstream if name.endswith(f"/{made.bizdate}")}
        due = lake.manifests(name for name in names if name.partition("/")[0] not in found)
        found |= {each.asset: _way(each) for each in due.values()}
    return found


def _way(made: Manifest) -> tuple[Any, ...]:
    settings = {name: value for name, value in made.config.items() if name not in OF_A_DAY}
    return made.code_version, settings, made.fitted_on if made.asset in ASSETS else ""


def _refuse_due(made: Manifest, fitted: Mapping[str, Any], events: int, profile: Profile) -> None:
    """Raise `NotKept` if the fit is too old, or if too many events have come since."""
    days = (dt.date.fromisoformat(made.bizdate) - dt.date.fromisoformat(fitted["bizdate"])).days
    share = events / max(fitted["events"], 1) - 1
    if days >= profile.refit.days:
        raise NotKept(f"the fit of {fitted['bizdate']} is {days} days old")
    if share > profile.refit.share:
        raise NotKept(f"since the fit of {fitted['bizdate']} {share:.1%} more events have come")


def _events(lake: Lake, bizdate: str) -> int:
    """The number of events up to a bizdate.

    Raises:
        NotKept: it is not known.
    """
    try:
        return lake.manifest(EVENTS, bizdate).rows or 0
    except (PartitionMissing, PartitionDamaged) as error:
        raise NotKept(f"the events of then are not known: {error}") from error
