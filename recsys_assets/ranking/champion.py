"""The choice of the ranking model to serve: a rule on figures, and the record of what was chosen and why."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from recsys_assets.declined import CannotBeBuilt
from recsys_assets.manifest import Partition

CHAMPION_FILE = "champion.json"


class NothingToServe(RuntimeError):
    """No model could be judged, and there is no champion of an earlier day; the message gives the reasons."""


class NoRankers(CannotBeBuilt):
    """No ranking model can be built on the data, or none reaches its floor; the message gives the reasons."""


class PinRefused(ValueError):
    """The pinned model may not be served; the message says why."""


@dataclass(frozen=True)
class Candidate:
    """One trained model that might be served.

    Attributes:
        model: its name, as in `rank_<model>`.
        bizdate: of its partitions.
        value: its validation AUC; NaN if it has none.
        why_not: the first gate of `model_gates.py` that it does not pass, empty if it passes all.
        path: its ONNX file, from the profile's folder in the lake.
        sha256: of that file.
        fingerprint: of the partition that holds the file.
        mlflow_run_id: of its training.
        upstream: fingerprints of the partitions that its gates read, by asset and bizdate.
        declined: why it cannot be built on the data, or that it is below its floor; empty if neither is so.
    """

    model: str
    bizdate: str
    value: float = math.nan
    why_not: str = ""
    path: str = ""
    sha256: str = ""
    fingerprint: str = ""
    mlflow_run_id: str | None = None
    upstream: dict[str, str] = field(default_factory=dict)
    declined: str = ""

    @property
    def name(self) -> str:
        """Model and bizdate, the form of a pin."""
        return f"{self.model}/{self.bizdate}"


@dataclass(frozen=True)
class Champion:
    """The content of `champion.json`: the file to serve, its hash, the reason for the choice, and the candidates.

    `path` is relative to the profile's folder in the lake; `sha256` is of that file, `fingerprint` of its partition
    `onnx_<model>` of `bizdate`. `considered` has model, bizdate, validation_auc and why_not of each candidate.
    """

    model: str
    bizdate: str
    validation_auc: float
    path: str
    sha256: str
    fingerprint: str
    reason: str
    considered: list[dict[str, Any]]

    @property
    def asset(self) -> str:
        """The asset whose partition holds the file."""
        return f"onnx_{self.model}"


def read_champion(partition: Partition) -> Champion:
    """The champion that a partition of `rank_champion` points at."""
    return Champion(**json.loads(partition.path(CHAMPION_FILE).read_text(encoding="utf-8")))


def choose(
    candidates: Sequence[Candidate],
    incumbent: Candidate | None = None,
    margin: float = 0.0,
    pinned: Candidate | None = None,
) -> tuple[Candidate, str]:
    """The model to serve and a sentence that says why.

    The candidate with the highest validation AUC among those that pass every gate is chosen, ties by name. The
    incumbent stays if that candidate is below it by more than the margin, or if none passes. A pin overrides both
    rules, but no gate.

    Args:
        candidates: the day's models.
        incumbent: the champion of an earlier day, with the validation AUC it was chosen for.
        margin: by how much the validation AUC may fall from one champion to the next.
        pinned: the model that somebody wants to serve.

    Raises:
        NoRankers: no candidate passes and there is no incumbent; some are below their floor or cannot be built.
        NothingToServe: the same, but every candidate is missing or broken.
        PinRefused: the pinned model does not pass every gate.
    """
    if pinned:
        if pinned.why_not:
            raise PinRefused(f"{pinned.name} cannot be pinned: {pinned.why_not}")
        return pinned, f"{pinned.name} is pinned."
    passed = sorted((each for each in candidates if not each.why_not), key=lambda each: (-each.value, each.model))
    if not passed:
        if incumbent is None:
            if any(each.declined for each in candidates):
                raise NoRankers("; ".join(dict.fromkeys(each.declined or each.why_not for each in candidates)))
            reasons = "; ".join(f"{each.model}: {each.why_not}" for each in candidates)
            raise NothingToServe(f"no model may be served, and there is no champion of an earlier day: {reasons}")
        return incumbent, f"{incumbent.name} stays: no model of the day passes every gate."
    best = passed[0]
    said = f"{best.name} has the highest validation AUC, {best.value:.4f}, of {len(passed)} that pass every gate"
    if incumbent is None:
        return best, f"{said}; there is no champion of an earlier day."
    bound = f"the previous champion, {incumbent.name} with {incumbent.value:.4f}, by more than {margin}"
    if best.value < incumbent.value - margin:
        return incumbent, f"{incumbent.name} stays: {said}, but it is below {bound}."
    return best, f"{said}, and it is not below {bound}."


def record(chosen: Candidate, reason: str, considered: Sequence[Candidate]) -> Champion:
    """The champion with the record of the choice."""
    table = [
        {
            "model": each.model,
            "bizdate": each.bizdate,
            "validation_auc": None if math.isnan(each.value) else each.value,
            "why_not": each.why_not,
        }
        for each in considered
    ]
    return Champion(
        chosen.model, chosen.bizdate, chosen.value, chosen.path, chosen.sha256, chosen.fingerprint, reason, table
    )
