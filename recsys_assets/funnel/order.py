"""The columns by which trees order candidates, and the ONNX file that scores them.

`model.onnx` takes `input` (M, F) float32, NaN where nothing is known; its metadata name the columns (`columns`, a JSON
list). It gives `score` (M, 1): the higher, the better among the candidates of one query.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from recsys_assets.arrays import Floats, place_in_group
from recsys_assets.funnel.candidates import Candidates, ordered
from recsys_assets.funnel.known import PROBABILITY
from recsys_assets.funnel.network import open_session

ORDER = "model.onnx"
CHANNELS, FUSED, FUSED_PLACE = "channels", "fused", "fused_place"


def columns(
    names: Sequence[str], candidates: Candidates, fused: Floats, known: Mapping[str, Floats]
) -> dict[str, Floats]:
    """Each column (M,) of the candidates: what the channels (`names`) say, what the merge says, what is known."""
    of_channels = {
        f"{name}:{what}": numbers[:, place]
        for what, numbers in (("place", candidates.places), ("score", candidates.scores))
        for place, name in enumerate(names)
    }
    return of_channels | {
        CHANNELS: candidates.channels.astype(np.float32),
        FUSED: fused,
        FUSED_PLACE: _places(candidates, fused),
        **{name: column for name, column in known.items() if name != PROBABILITY},
    }


def matrix(wanted: Sequence[str], found: Mapping[str, Floats], rows: int) -> Floats:
    """(M, F) the wanted columns; one that was not found is NaN, as if it were unknown of every candidate."""
    made = np.full((rows, len(wanted)), np.nan, np.float32)
    for place, name in enumerate(wanted):
        if name in found:
            made[:, place] = found[name]
    return made


def _places(candidates: Candidates, fused: Floats) -> Floats:
    """(M,) the candidate's place in its query's order by the fused score, from 1; ties by the item's number."""
    order = ordered(candidates, fused)
    places = np.empty(len(order), np.float32)
    places[order] = place_in_group(candidates.query[order]) + 1
    return places


class Order:
    """The trees as a service uses them, on one thread."""

    def __init__(self, path: Path) -> None:
        self._runtime = open_session(path)
        self.columns: list[str] = json.loads(self._runtime.get_modelmeta().custom_metadata_map["columns"])

    def __call__(self, found: Mapping[str, Floats], rows: int) -> Floats:
        """(M,) the score of M candidates with these columns."""
        scores: Floats = self._runtime.run(["score"], {"input": matrix(self.columns, found, rows)})[0]
        return scores.reshape(-1)
