"""The final lists of a lake's funnel compared with other ways to merge the same channels, on the online rows.

    RECSYS_PROFILE=… RECSYS_DATA=… python benchmarks/funnel_merges.py BIZDATE

The others are each channel, reciprocal rank fusion with equal weights (constants 20 and 60), and the merge that came
before `funnel_model`: weights and an exponent of the ranker's probability that were tuned by hand on MovieLens 1M. All
partitions that `funnel_report` reads must be there. Intervals are 95 % bootstrap intervals over users.
"""

import argparse
from collections.abc import Mapping

import numpy as np

from recsys_assets.arrays import Floats, Ints
from recsys_assets.datasets.profile import load_profile
from recsys_assets.funnel import evaluation
from recsys_assets.funnel.candidates import as_lists, best
from recsys_assets.funnel.funnel import NEEDED, Funnel, describer, events_of
from recsys_assets.funnel.inputs import read_inputs
from recsys_assets.funnel.known import PROBABILITY
from recsys_assets.funnel.merge import Fusion, merge
from recsys_assets.funnel.model import Describe, fused_lists
from recsys_assets.funnel.requests import moments_of
from recsys_assets.funnel.stopwatch import Stopwatch
from recsys_assets.resources import LakeStore
from recsys_assets.retrieval.interactions import queries
from recsys_assets.retrieval.lists import Lists
from recsys_assets.settings import settings

WEIGHTS = {"itemcf": 0.75, "dssm": 0.5, "sasrec": 1.0}  # of the former merge; 0.1 for every other channel
RANKING = 0.1  # its exponent of the probability


def former(channels: Mapping[str, Lists], width: int, describe: Describe) -> Ints:
    """The lists (N, 50) of the former merge."""
    fusion = Fusion(20.0, {name: WEIGHTS.get(name, 0.1) for name in channels})
    candidates, fused = merge(channels, fusion, width, 300)
    likely = describe(candidates).get(PROBABILITY, np.ones(len(fused), np.float32))
    scores: Floats = fused ** (1 - RANKING) * likely**RANKING
    kept = best(candidates, scores, 50)
    size = len(next(iter(channels.values())).items)
    return as_lists(candidates.query[kept], candidates.item[kept], scores[kept], size, 50).items


def main(day: str) -> None:
    """Print a row for each way."""
    profile, lake = load_profile(), LakeStore(profile=settings().profile)
    inputs = read_inputs(profile, lake.lake, day, {asset: lake.read(asset, day) for asset in NEEDED})
    events = events_of(inputs["splits"], inputs["users"])
    funnel, width = Funnel(profile, inputs, events, Stopwatch()), len(events.item_ids)
    asked, found = funnel.lists_of(np.arange(len(events.user_ids)))
    moments = moments_of(profile, inputs["splits"].path("data.parquet"), "online", events.user_ids)
    describe = describer(funnel.known, funnel.users, events, asked, moments)
    items = {"final": found.final.lists.items, "candidates": found.candidates.items}
    items["former merge"] = former(found.channels, width, describe)
    for constant in (20.0, 60.0):
        equal = Fusion(constant, dict.fromkeys(found.channels, 1.0))
        items[f"equal weights, {constant:.0f}"] = fused_lists(found.channels, equal, width, 50).items
    items |= {name: listed.items for name, listed in found.channels.items()}
    for counted in profile.rights:
        right = queries(events, "online", profile.recall.filter_seen, counted)
        judged = {name: evaluation.judge(listed[right.users], right) for name, listed in items.items()}
        compared = evaluation.compare(judged, "final")
        print(f"\n{len(right):,} users, {counted} next: NDCG@50, lead of the final list")
        for name, each in judged.items():
            lead = compared.differences[name][evaluation.MAIN] if name != "final" else None
            said = f"{lead.low:+.4f} to {lead.high:+.4f}" if lead else ""
            print(f"  {name:20} {each.figures()[evaluation.MAIN]:.4f}  {said}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bizdate", metavar="BIZDATE")
    main(parser.parse_args().bizdate)
