"""The gate: whatever is published must come from partitions that passed their checks and are still the same.

Dagster guards a check only within its own run. The gate reads the manifests, so that a check that failed, or a
partition that was materialized again, stops the publishing of everything that was made from it in any later run too.
"""

from collections.abc import Mapping, Sequence

from recsys_assets.lake import Lake
from recsys_assets.manifest import GateNotPassed, Manifest, PartitionDamaged, PartitionMissing
from recsys_assets.ranking.champion import Champion, read_champion

CHAMPION_ASSET = "rank_champion"


def pass_gate(lake: Lake, bizdate: str, sources: Sequence[Manifest]) -> Champion | None:
    """Check the sources, everything that they were made from, the champion and its model.

    Args:
        lake: where the partitions are.
        bizdate: the day whose champion is wanted.
        sources: the partitions that are to be published, as they were read. The partitions of other days that they
            used (see `Manifest.inputs`) are not checked again.

    Returns:
        The bizdate's champion; None if no ranking model can be built on the data.

    Raises:
        GateNotPassed: a partition is gone, failed a blocking check, or is no longer what was read.
    """
    seen: set[tuple[str, str]] = set()
    _check_all(lake, bizdate, {source.name: source.fingerprint for source in sources}, seen)
    made = _read_manifest(lake, f"{CHAMPION_ASSET}/{bizdate}")
    _refuse_failed(made, "nothing of the day is published")
    if made.declined:
        return None
    champion = read_champion(lake.read(CHAMPION_ASSET, bizdate))
    model = _check_partition(lake, f"{champion.asset}/{champion.bizdate}", champion.fingerprint)
    for name, expected in model.inputs.items():
        ranker = _check_partition(lake, name, expected)
        if champion.bizdate == bizdate:  # the training data of another day's model may have changed since
            _check_all(lake, bizdate, ranker.inputs, seen)
    return champion


def _check_all(lake: Lake, bizdate: str, due: Mapping[str, str], seen: set[tuple[str, str]]) -> None:
    """Check partitions, by name and expected fingerprint, and then the inputs of those of the bizdate."""
    for name, expected in due.items():
        if (name, expected) not in seen:
            seen.add((name, expected))
            made = _check_partition(lake, name, expected)
            if made.bizdate == bizdate:  # as in `Lineage`: a day of events, or a partition that was extended
                _check_all(lake, bizdate, made.inputs, seen)


def _check_partition(lake: Lake, name: str, expected: str) -> Manifest:
    """Check one partition and return its manifest."""
    made = _read_manifest(lake, name)
    _refuse_failed(made, "nothing that was made from it is published")
    if made.fingerprint != expected:
        raise GateNotPassed(
            f"{made.asset} {made.bizdate} was materialized again since: materialize again what was made from it"
        )
    return made


def _refuse_failed(made: Manifest, consequence: str) -> None:
    if made.failed_checks:
        raise GateNotPassed(
            f"{made.asset} {made.bizdate} failed {', '.join(made.failed_checks)}: {consequence}; "
            f"fix its cause and materialize {made.asset} again"
        )


def _read_manifest(lake: Lake, name: str) -> Manifest:
    asset, _, bizdate = name.partition("/")
    try:
        return lake.manifest(asset, bizdate)
    except (PartitionMissing, PartitionDamaged) as error:
        raise GateNotPassed(f"nothing can be published: {error}") from error
