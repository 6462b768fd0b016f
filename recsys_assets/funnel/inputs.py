"""The partitions that the funnel reads: the tables that it needs, and whatever there is of channels and models.

The assets of channels, of the ranker and of the touch model are no inputs in Dagster's sense, which would stop the
funnel if one of them failed: whatever was not built, or the data do not allow, is left out, with the reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from recsys_assets.datasets.profile import Profile
from recsys_assets.funnel.by_vector import EXACT_ITEMS
from recsys_assets.funnel.methods import CHANNELS, RECALL_METHODS
from recsys_assets.funnel.scoring import NotTheChampion, Scorer, open_champion, open_ranker
from recsys_assets.lake import Lake
from recsys_assets.manifest import GateNotPassed, Partition, PartitionDamaged, PartitionMissing, PartitionOutdated
from recsys_assets.ranking.champion import read_champion

CHAMPION, TABLE = "rank_champion", "items"
TOUCH_ASSETS, TOUCH_FILE = ("onnx_touch", "touch_model"), "model.onnx"
_OF_CHANNELS = dict.fromkeys(asset for channel in CHANNELS for asset in RECALL_METHODS[channel].reads if asset != TABLE)
_INDEXES = {method.index: method.reads[1] for method in RECALL_METHODS.values() if method.index}  # with their items
OPTIONAL = (*_OF_CHANNELS, *_INDEXES, CHAMPION, *TOUCH_ASSETS)


@dataclass(frozen=True)
class Inputs:
    """Partitions of a bizdate by asset, the models if there are any, and why others are left out, by asset."""

    partitions: Mapping[str, Partition]
    ranker: Scorer | None
    touch: Scorer | None
    without: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, asset: str) -> Partition:
        return self.partitions[asset]

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels whose assets are all there."""
        return tuple(name for name in CHANNELS if all(asset in self.partitions for asset in RECALL_METHODS[name].reads))

    def of_channel(self, name: str) -> list[Partition]:
        """The partitions that a channel is opened with: with its index, if the catalogue is large."""
        method = RECALL_METHODS[name]
        return [self.partitions[asset] for asset in (*method.reads, method.index) if asset in self.partitions]


def read_inputs(profile: Profile, lake: Lake, day: str, needed: Mapping[str, Partition]) -> Inputs:
    """Everything that is there of a bizdate, next to the partitions that are needed."""
    found, without = dict(needed), {}
    for asset in OPTIONAL:
        if asset in _INDEXES and not _is_large(found.get(_INDEXES[asset])):
            continue
        if asset in TOUCH_ASSETS and not profile.touch:
            continue
        try:
            partition = lake.read_sound(asset, day)
        except PartitionMissing:
            without[asset] = "it was not built"
            continue
        except (PartitionDamaged, PartitionOutdated, GateNotPassed) as error:
            without[asset] = str(error)
            continue
        if reason := partition.manifest.why_not:
            without[asset] = reason
        else:
            found[asset] = partition
    ranker, of_ranker = _open_ranker(lake, found, without)
    return Inputs({**found, **of_ranker}, ranker, _open_touch(found, without), without)


def _is_large(items: Partition | None) -> bool:
    """Whether the vectors of items are so many that an index is searched."""
    return items is not None and (items.manifest.rows or 0) > EXACT_ITEMS


def _open_touch(found: Mapping[str, Partition], without: dict[str, str]) -> Scorer | None:
    """The touch model; the reason is added to `without` if its files do not fit each other."""
    if not all(asset in found for asset in TOUCH_ASSETS):
        return None
    onnx, model = (found[asset] for asset in TOUCH_ASSETS)
    try:
        return open_ranker(onnx, model, TOUCH_FILE)
    except NotTheChampion as error:
        without[model.manifest.asset] = str(error)
        return None


def _open_ranker(
    lake: Lake, found: Mapping[str, Partition], without: dict[str, str]
) -> tuple[Scorer | None, dict[str, Partition]]:
    """The champion and the partitions of its model; the reason is added to `without` if there is none."""
    if CHAMPION not in found:
        return None, {}
    try:
        scorer, partitions = open_champion(lake, read_champion(found[CHAMPION]))
    except (NotTheChampion, PartitionMissing, PartitionDamaged) as error:
        without[CHAMPION] = str(error)
        return None, {}
    return scorer, {each.manifest.asset: each for each in partitions}
