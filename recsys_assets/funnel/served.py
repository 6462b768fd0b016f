"""The partitions that an online service of a bizdate reads: a release names them with the hashes of their files."""

from collections.abc import Iterable, Iterator
from typing import Any

from recsys_assets.coldstart.choice import REPORT
from recsys_assets.funnel.funnel import NEEDED
from recsys_assets.funnel.inputs import CHAMPION, OPTIONAL
from recsys_assets.lake import Lake
from recsys_assets.lineage import Lineage
from recsys_assets.manifest import Manifest
from recsys_assets.models.catalogue import TOWERS
from recsys_assets.ranking.champion import read_champion

FORM = 1  # of what a service reads; raise it when a service of the version before could not read it
# Whatever a service opens must be listed here: its copy of a release holds nothing else.
SERVED = tuple(dict.fromkeys((*NEEDED, *OPTIONAL, *(f"onnx_{name}" for name in TOWERS), REPORT)))


def served_partitions(lake: Lake, bizdate: str) -> list[Manifest]:
    """The manifests of those partitions that are there and sound, and of the champion's model, ordered by name.

    Declined ones are among them, because they say why the service is without them.
    """
    found, lineage = lake.manifests(f"{asset}/{bizdate}" for asset in SERVED), Lineage(lake)
    sound = {name: each for name, each in found.items() if not each.failed_checks and not lineage.outdated_inputs(each)}
    if (made := sound.get(f"{CHAMPION}/{bizdate}")) and made.is_usable:
        sound |= _of_champion(lake, bizdate)
    return [sound[name] for name in sorted(sound)]


def describe_served(manifests: Iterable[Manifest]) -> dict[str, Any]:
    """The words of a release on these partitions: a form, and for each partition its fingerprint and its files."""
    return {"form": FORM, "partitions": list(_descriptions(manifests))}


def _descriptions(manifests: Iterable[Manifest]) -> Iterator[dict[str, Any]]:
    for each in manifests:
        files = [{"file": file, "sha256": sha256} for file, sha256 in sorted(each.files.items())]
        yield {"partition": each.name, "fingerprint": each.fingerprint, "files": files}


def _of_champion(lake: Lake, bizdate: str) -> dict[str, Manifest]:
    champion = read_champion(lake.read(CHAMPION, bizdate))
    return lake.manifests(f"{asset}/{champion.bizdate}" for asset in (champion.asset, f"rank_{champion.model}"))
