"""The gate: what is published must have been made of partitions that passed, and that are still the same.

Dagster guards a check only within its own run. This reads the manifests, so that a check that failed, or a partition
that was made anew since, stops the publishing of what was made of it in any later run too.
"""

from collections.abc import Sequence

from recsys_assets.lake import GateNotPassed, Lake, Manifest, PartitionDamaged, PartitionMissing
from recsys_assets.ranking.champion import Champion, read_champion

CHAMPION = "rank_champion"


def pass_gate(lake: Lake, bizdate: str, sources: Sequence[Manifest]) -> Champion:
    """Look at the sources, at all of the bizdate that they were made of, and at the champion and its model.

    Args:
        lake: where the partitions are.
        bizdate: of what is to be published; partitions of other days are not looked at again.
        sources: the partitions that it is made of, as they were read.

    Returns:
        The bizdate's champion.

    Raises:
        GateNotPassed: a partition is gone, failed a blocking check, or is no longer what was read.
    """
    seen: set[str] = set()
    for source in sources:
        _pass(lake, bizdate, _manifest(lake, source.asset, source.bizdate), source.fingerprint, seen)
    return _pass_champion(lake, bizdate, seen)


def _pass(lake: Lake, bizdate: str, made: Manifest, fingerprint: str, seen: set[str]) -> None:
    """Look at a partition and, the deeper ones later, at what it was made of."""
    name = f"{made.asset} {made.bizdate}"
    if made.failed_checks:
        raise GateNotPassed(
            f"{name} failed {', '.join(made.failed_checks)}: nothing that was made of it is published; "
            f"mend its cause and materialize {made.asset} again"
        )
    if made.fingerprint != fingerprint:
        raise GateNotPassed(f"{name} was made anew since: materialize what was made of it again")
    seen.add(f"{made.asset}/{made.bizdate}")
    for upstream, expected in made.upstream.items():
        asset, _, day = upstream.partition("/")
        if day == bizdate and upstream not in seen:
            _pass(lake, bizdate, _manifest(lake, asset, day), expected, seen)


def _pass_champion(lake: Lake, bizdate: str, seen: set[str]) -> Champion:
    """Look at the champion's partition and at its model; models that were not chosen may have failed."""
    made = _manifest(lake, CHAMPION, bizdate)
    if made.failed_checks:
        raise GateNotPassed(
            f"{CHAMPION} {bizdate} failed {', '.join(made.failed_checks)}: nothing of the day is published; "
            f"mend its cause and materialize {CHAMPION} again"
        )
    champion = read_champion(lake.read(CHAMPION, bizdate))
    _pass(lake, champion.bizdate, _manifest(lake, champion.asset, champion.bizdate), champion.fingerprint, seen)
    return champion


def _manifest(lake: Lake, asset: str, bizdate: str) -> Manifest:
    try:
        return lake.manifest(asset, bizdate)
    except (PartitionMissing, PartitionDamaged) as error:
        raise GateNotPassed(f"nothing can be published: {error}") from error
