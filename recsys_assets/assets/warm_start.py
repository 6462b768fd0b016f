"""Warm start: the checkpoint that a training continues from, and a comparison with a training from nothing.

The run's configuration chooses it, or the profile's section `warm_start`. An asset of a model of that section depends
on its own earlier days, so that a backfill runs the days in order; the dependency costs a backfill about half a minute
a day, which other models need not pay.
"""

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import fsspec

from recsys_assets.assets.lake_asset import Check, LakeAsset
from recsys_assets.assets.model_asset import ModelConfig
from recsys_assets.assets.reports import show
from recsys_assets.datasets.folders import file_hash
from recsys_assets.datasets.profile import Profile, ProfileError
from recsys_assets.io_managers import Output
from recsys_assets.lake import Lake
from recsys_assets.manifest import MANIFEST, Manifest, PartitionDamaged
from recsys_assets.models.catalogue import DESCRIPTION, RANKERS, TRAINED_TOWERS
from recsys_assets.models.config import ConfigError
from recsys_assets.partitions import own_earlier_days
from recsys_assets.uris import name_errors, safe_uri

if TYPE_CHECKING:
    from recsys_assets.training.loop import Fitted
    from recsys_assets.training.warm_start import Start

NEWEST, NOTHING = "newest", "nothing"
HOLDS = Check(
    "warm_start_holds",
    "the validation metric is at most warm_start.margin below that of a training from nothing, when one is due",
    blocking=False,
)
# The asset of each model that can continue: not those of other libraries, and not those in closed form.
ASSETS = {name: f"rank_{name}" for name, each in RANKERS.items() if each.library == "pytorch"}
ASSETS |= {"touch": "touch_model", **{name: f"recall_{name}" for name in TRAINED_TOWERS}}


class CheckpointUnavailable(RuntimeError):
    """The checkpoint that a training is to continue from cannot be used; the message names it without credentials."""


def refuse_unknown(profile: Profile) -> None:
    """Refuse a profile that lists a model in `warm_start` that cannot continue.

    Raises:
        ProfileError: it names these.
    """
    if unknown := sorted(set(profile.warm_start.models) - ASSETS.keys()):
        raise ProfileError(f"profile {profile.name}: warm_start.models: {unknown} cannot continue, only {list(ASSETS)}")


def add_own_days(asset: LakeAsset, profile: Profile) -> LakeAsset:
    """The asset; one of a model that the profile lists depends on its earlier days and has the check `HOLDS`."""
    if asset.key not in {ASSETS[model] for model in profile.warm_start.models}:
        return asset
    deps = [*asset.settings.get("deps", ()), own_earlier_days(asset.key, profile.warm_start.days)]
    return replace(asset, checks=[*asset.checks, HOLDS], settings={**asset.settings, "deps": deps})


def find_start(
    output: Output, lake: Lake, profile: Profile, model: str, config: ModelConfig
) -> tuple[ModelConfig, "Start | None"]:
    """The checkpoint to continue from, if any, and the configuration with its name; it becomes an input.

    Raises:
        CheckpointMismatch: it is not a checkpoint that a training can continue from.
        CheckpointUnavailable, PartitionDamaged: it cannot be read, or knows later days than the output's.
        ConfigError: the model is not trained in steps by torch.
    """
    wanted = config.warm_start or (NEWEST if model in profile.warm_start.models else NOTHING)
    if wanted == NOTHING:
        return config.model_copy(update={"warm_start": NOTHING}), None
    if model not in ASSETS:
        raise ConfigError(f"{model}: warm_start = {wanted!r}: only a training in steps continues from a checkpoint")
    if wanted == NEWEST:
        start = _newest(output, lake, profile.warm_start.days, config.warm_names)
        told = start.name if start else f"{NOTHING}: no usable checkpoint in the {profile.warm_start.days} days before"
    else:
        start = _named(wanted, output.manifest.bizdate, config.warm_names)
        told = start.name
    output.metadata["warm start"] = told
    return config.model_copy(update={"warm_start": told}), start


def _newest(output: Output, lake: Lake, days: int, names: Mapping[str, str]) -> "Start | None":
    """The newest checkpoint of the same asset, of one of the `days` before the bizdate, that others may build on."""
    from recsys_assets.training.checkpoint import CHOSEN
    from recsys_assets.training.warm_start import Start

    asset, day = output.manifest.asset, output.manifest.bizdate
    first = (dt.date.fromisoformat(day) - dt.timedelta(days=days)).isoformat()
    found = lake.manifests(f"{asset}/{each}" for each in lake.bizdates(asset) if first <= each < day)
    usable = [each.bizdate for each in found.values() if each.is_usable and CHOSEN in each.files]
    if not usable:
        return None
    partition = lake.read(asset, max(usable))
    output.add_inputs([partition])
    return Start.read(partition.folder, partition.manifest.name, names)


def _named(place: str, bizdate: str, names: Mapping[str, str]) -> "Start":
    """The checkpoint in a folder or at a URL; a partition of a lake must be whole, and not of a later day."""
    from recsys_assets.training.checkpoint import CHOSEN
    from recsys_assets.training.warm_start import Start

    shown = safe_uri(place)
    unreadable = name_errors(CheckpointUnavailable, f"the checkpoint {shown} cannot be read (warm_start)", place)
    with TemporaryDirectory() as temporary, unreadable:
        folder = Path(temporary)
        fs, path = fsspec.core.url_to_fs(place)
        for file in (MANIFEST, DESCRIPTION, CHOSEN):
            if fs.exists(f"{path.rstrip('/')}/{file}"):
                fs.get_file(f"{path.rstrip('/')}/{file}", str(folder / file))
        start = Start.read(folder, shown, names)
        if (folder / MANIFEST).exists():
            _check_partition(folder, Manifest.from_json((folder / MANIFEST).read_bytes()), shown, bizdate)
        return replace(start, name=f"{shown} ({CHOSEN} {file_hash(folder / CHOSEN)})")


def _check_partition(folder: Path, manifest: Manifest, shown: str, bizdate: str) -> None:
    if manifest.bizdate > bizdate:
        raise CheckpointUnavailable(
            f"the checkpoint {shown} is of {manifest.bizdate}, and a model of {bizdate} must not know later days: "
            "name one of an earlier day"
        )
    changed = [file.name for file in folder.iterdir() if manifest.files.get(file.name, "") != file_hash(file)]
    if others := sorted(set(changed) - {MANIFEST}):
        raise PartitionDamaged(f"{shown}: {', '.join(others)} is not as {MANIFEST} says: copy the partition again")


def compare(output: Output, profile: Profile, model: str, warm: "Fitted", fit_cold: Callable[[], "Fitted"]) -> None:
    """Result of `warm_start_holds`; on the days that are due, a model is trained from nothing too, and then dropped."""
    if not warm.started_from or not _is_due(profile, output.manifest.bizdate):
        note_no_comparison(output, profile, model)
        return
    if model not in profile.warm_start.models:
        return
    cold, metric = fit_cold(), warm.metric
    value, floor = warm.best[metric], cold.best[metric] * (1 - profile.warm_start.margin)
    output.manifest.metrics |= {f"cold_{metric}": cold.best[metric]}
    rows = [
        ("from nothing", cold.best[metric], cold.best_epoch + 1, cold.trained_epochs),
        (warm.started_from, value, warm.best_epoch, warm.trained_epochs),
    ]
    columns = ["training", metric, "epochs to the best", "epochs"]
    output.metadata["warm start compared"] = show.table(columns, rows)
    output.check(HOLDS.name, value >= floor, warm=value, cold=cold.best[metric], floor=floor)


def note_no_comparison(output: Output, profile: Profile, model: str) -> None:
    """Result of `warm_start_holds` where nothing is compared, for a model that has the check."""
    if model in profile.warm_start.models:
        said = "no comparison is due, or the day's training did not continue from a checkpoint"
        output.check(HOLDS.name, True, note=said)


def _is_due(profile: Profile, bizdate: str) -> bool:
    """Whether a comparison is due: every `warm_start.compare` days, counted from the profile's first one."""
    days = (dt.date.fromisoformat(bizdate) - profile.first_bizdate).days
    return profile.warm_start.compare > 0 and days % profile.warm_start.compare == 0
