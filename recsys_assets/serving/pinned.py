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
    onnx, ranker = (engine.pins.read_sound(f"{kind}_{model}", day or engine.bizdate) for kind in ("onnx", "rank"))
    if reason := onnx.manifest.why_not or ranker.manifest.why_not:
        raise PinRefused(reason)
    twin = engine.with_ranker(open_ranker(onnx, ranker, Path(champion.path).name), [onnx, ranker])
    twin.warm_up()
    return twin
