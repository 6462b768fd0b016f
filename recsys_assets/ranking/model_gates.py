"""The gates that decide which trained models may be served, read from the manifests of their partitions.

Only manifests are read and no model is loaded, so that a partition that is missing or failed a check is a reason, not
an error.
"""

import math
from collections.abc import Iterator, Mapping
from itertools import chain

from recsys_assets.lake import Lake
from recsys_assets.manifest import Manifest, PartitionDamaged, PartitionMissing
from recsys_assets.ranking.champion import Candidate, read_champion

SAMPLES = "rank_samples"
METRIC = "validation_auc"
Found = Mapping[str, Manifest | str]


def candidate(lake: Lake, model: str, bizdate: str, file: str, day: str) -> Candidate:
    """A model of a bizdate, with its figure and the first gate that it does not pass.

    The gates: `rank_samples`, `rank_<model>` and `onnx_<model>` are there and passed their checks (a floor of the AUC,
    ONNX parity); each was made from the current partition of the one before; nothing else that the model was
    made from has changed since; and the validation AUC is a number. `rank_samples` matters, as figures on different
    validation rows cannot be compared. For a model of a day other than `day`, such later changes do not count.

    Args:
        lake: where the partitions are.
        model: as in `rank_<model>`.
        bizdate: of the partitions.
        file: the file to serve, in the partition of `onnx_<model>`.
        day: the bizdate whose champion is chosen.
    """
    ranker, onnx = f"rank_{model}", f"onnx_{model}"
    found: Found = {asset: _manifest(lake, asset, bizdate) for asset in (SAMPLES, ranker, onnx)}
    known = {asset: each for asset, each in found.items() if isinstance(each, Manifest)}
    return Candidate(
        model,
        bizdate,
        value=known[ranker].metrics.get(METRIC, math.nan) if ranker in known else math.nan,
        why_not=next(chain(_objections(found, file), _changes(lake, found[onnx], day)), ""),
        path=f"{onnx}/bizdate={bizdate}/{file}",
        sha256=known[onnx].files.get(file, "") if onnx in known else "",
        fingerprint=known[onnx].fingerprint if onnx in known else "",
        mlflow_run_id=known[ranker].mlflow_run_id if ranker in known else None,
        upstream={f"{asset}/{bizdate}": each.fingerprint for asset, each in known.items()},
        declined=next((each.why_not for each in known.values() if each.why_not), ""),
    )


def champion_before(lake: Lake, asset: str, bizdate: str) -> Candidate | None:
    """The newest champion, of a day before the bizdate, whose partition passed its checks; None if there is none."""
    days = [day for day in lake.bizdates(asset) if day < bizdate]
    passed = [day for day in days if lake.manifest(asset, day).is_usable]
    if not passed:
        return None
    partition = lake.read(asset, passed[-1])
    before = read_champion(partition)
    return Candidate(
        before.model,
        before.bizdate,
        before.validation_auc,
        path=before.path,
        sha256=before.sha256,
        fingerprint=before.fingerprint,
        mlflow_run_id=partition.manifest.mlflow_run_id,
        upstream={f"{asset}/{passed[-1]}": partition.manifest.fingerprint},
    )


def _manifest(lake: Lake, asset: str, bizdate: str) -> Manifest | str:
    """The partition's manifest, or the reason why there is none."""
    try:
        return lake.manifest(asset, bizdate)
    except PartitionMissing:
        return f"there is no {asset} of {bizdate}"
    except PartitionDamaged:
        return f"the manifest of {asset} {bizdate} cannot be read"


def _one_class_reason(samples: Manifest) -> str:
    """The reason why the samples, by their metrics `<part>_classes`, can train no ranker; empty if they can."""
    parts = [name.removesuffix("_classes") for name, classes in samples.metrics.items() if name.endswith("_classes")]
    short = [part for part in parts if samples.metrics[f"{part}_classes"] < 2]
    return f": {samples.asset} has one class only in its {' and '.join(short)} part" if short else ""


def _objections(found: Found, file: str) -> Iterator[str]:
    """The reasons why the model of these partitions, in the order in which they are made, may not be served."""
    known: list[Manifest] = []
    for asset, manifest in found.items():
        if isinstance(manifest, str):
            yield manifest + "".join(_one_class_reason(each) for each in known)
            return
        if manifest.failed_checks:
            yield f"{asset} failed {', '.join(manifest.failed_checks)}"
        if manifest.below_floor:
            yield manifest.below_floor
        if manifest.declined:
            yield f"{asset} cannot be built: {manifest.declined}"
        known.append(manifest)
    samples, ranker, onnx = known
    for made, source in ((ranker, samples), (onnx, ranker)):
        if not made.is_made_from(source):
            yield f"{made.asset} was not made from the current {source.asset}{_one_class_reason(samples)}"
    if not math.isfinite(ranker.metrics.get(METRIC, math.nan)):
        yield f"{ranker.asset} has no {METRIC}"
    if file not in onnx.files:
        yield f"{onnx.asset} has no {file}"


def _changes(lake: Lake, onnx: Manifest | str, day: str) -> Iterator[str]:
    """Changes in what the day's model was made from, since it was made."""
    if isinstance(onnx, Manifest) and onnx.bizdate == day and (outdated := lake.outdated_inputs(onnx)):
        yield f"{onnx.asset} is outdated: {', '.join(outdated)} changed after it was made"
