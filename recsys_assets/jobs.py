"""Jobs: what a schedule or a sensor starts, and the order in which the queue takes their runs.

`dagster.yaml` runs one run at a time of each value of the tag `recsys/turn`: of `now`, the newest bizdate or what
somebody asked for; and of `later`, older bizdates that the sensor found. So the newest bizdate never waits for an older
one, its retry neither. Among the runs that wait the one of the latest bizdate goes first, also where trainings of
several runs wait for the pool.
"""

import warnings
from typing import Literal

import dagster as dg

# A run of the job is of one day, so that policies for ranges of days have no say in it; Dagster warns all the same.
warnings.filterwarnings("ignore", "Asset job everything materializes assets with varying BackfillPolicies", UserWarning)

ON_DEMAND = "tuning"  # the group of what runs only when it is named
TURN, PRIORITY = "recsys/turn", "dagster/priority"
Turn = Literal["now", "later"]


def in_turn(turn: Turn, bizdate: str) -> dict[str, str]:
    """The tags of a run: its turn, and the bizdate as its priority."""
    return {TURN: turn, PRIORITY: bizdate.replace("-", "")}


everything = dg.define_asset_job(
    "everything",
    selection=dg.AssetSelection.all() - dg.AssetSelection.groups(ON_DEMAND),
    description="Every asset of one bizdate, from the landing files to the reports; tuning is left out.",
    tags={TURN: "now"},
)

ingest = dg.define_asset_job(
    "ingest",
    selection=dg.AssetSelection.assets("interactions"),
    description="The events of one bizdate or of a range of them: what later bizdates are made from.",
    tags={TURN: "now"},
)

champion = dg.define_asset_job(
    "champion",
    selection=dg.AssetSelection.assets("rank_champion").downstream(),
    description="The choice of the ranking model to serve, of one bizdate, and what is published with it.",
)
