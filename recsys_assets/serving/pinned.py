"""Pinned ranking models: a release of which another model ranks the candidates, as rules of scenes may ask for."""

from pathlib import Path

from recsys_assets.funnel.scoring import NotTheChampion, open_ranker
from recsys_assets.manifest import GateNotPassed, PartitionDamaged, PartitionMissing, PartitionOutdated
from recsys_assets.ranking.champion import PinRefused
from recsys_assets.serving.engine import Engine

NOT_THERE = (PartitionMissing, PartitionDamaged, PartitionOutdated, GateNotPassed, NotTheChampion, PinRefused)


def ranked_by(engine: Engine, name: str) -> Engine:
    """The same release with another ranking model, which has answered once.

    Args:
        engine: of the release.
        name: `<model>`, of the bizdate of the release, or `<model>/<bizdate>`.

    Raises:
        PinRefused: it knows more than the release may, or was declined; or the release has no ranking model itself.
        PartitionMissing, PartitionDamaged, PartitionOutdated, GateNotPassed: it is not there, or may not be used.
        NotTheChampion: its files do not fit each other.
    """
    champion, (model, _, day) = engine.champion, name.partition("/")
    if champion is None:
        raise PinRefused("the release has no ranking model in whose place it could be")
    if day > engine.bizdate:
        raise PinRefused(f"it is of a later day than the release, which is of {engine.bizdate}")
    found = [engine.pins.read_sound(asset, day or engine.bizdate) for asset in (f"onnx_{model}", f"rank_{model}")]
    if reason := next((each.manifest.why_not for each in found if each.manifest.why_not), ""):
        raise PinRefused(reason)
    twin = engine.with_ranker(open_ranker(*found, Path(champion.path).name), found)
    twin.warm_up()
    return twin
