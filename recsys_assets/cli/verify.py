"""`recsys doctor --verify`: read every partition of the lake and compare it with its manifest."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from recsys_assets.cli.finding import Finding
from recsys_assets.settings import Settings

if TYPE_CHECKING:
    from recsys_assets.manifest import Partition


def findings(place: Settings) -> Iterator[Finding]:
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
            size += _bytes(lake.read(asset, day))
        except (PartitionDamaged, PartitionMissing, LakeUnavailable, OSError) as error:
            damaged.append(_damaged(asset, day, error))
    yield from damaged
    whole = len(partitions) - len(damaged)
    read = f"{size / 1e9:,.2f} GB in {time.perf_counter() - start:,.1f} s"
    yield Finding("partitions", "ok", f"{whole:,} of {len(partitions):,} are as their manifests say; {read}")


def _bytes(partition: "Partition") -> int:
    return sum((partition.folder / file).stat().st_size for file in partition.manifest.files)


def _damaged(asset: str, day: str, error: Exception) -> Finding:
    from recsys_assets.manifest import PartitionMissing

    why = "it has no manifest" if isinstance(error, PartitionMissing) else str(error).partition(": run `")[0]
    return Finding("partition", "fix", f"{asset} {day}: {why}", f"recsys materialize {asset} --bizdate {day}")
