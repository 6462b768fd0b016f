"""Jobs that schedules and sensors start, and the tags that order their runs in the queue.

`dagster.yaml` allows one run at a time for each value of the tag `recsys/turn`: `now` for the newest bizdate and for
what somebody asked for, `later` for older bizdates that the sensor found and for backfills. So neither the newest
bizdate nor its retry waits for an older one. Among the waiting runs the one with the latest bizdate goes first, also
where trainings of several runs wait for the pool; where trainings continue from earlier days, older bizdates go in
their order. The daily schedule goes before all of them, fresh items come next, and backfills are last.
"""

import warnings
from typing import Literal

import dagster as dg

# A run of the job covers one day, so policies for ranges of days do not affect it; Dagster warns all the same.
warnings.filterwarnings("ignore", "Asset job everything materializes assets with varying BackfillPolicies", UserWarning)

ON_DEMAND = "tuning"  # the group of assets that run only when they are named
TURN, PRIORITY = "recsys/turn", "dagster/priority"
BACKFILL = "recsys/backfill"  # the tag that says which days and assets a backfill was asked for
FIRST, SECOND, LAST = "9999-12-31", "9999-12-30", "-9999-12-31"  # in the place of a bizdate
Turn = Literal["now", "later"]


def in_turn(turn: Turn, bizdate: str, *, oldest_first: bool = False) -> dict[str, str]:
    """The tags of a run: its turn, and its bizdate as the priority."""
    return {TURN: turn, PRIORITY: priority(bizdate, oldest_first=oldest_first)}


def priority(bizdate: str, *, oldest_first: bool = False) -> str:
    """A bizdate, or one of `FIRST`, `SECOND` and `LAST`, as Dagster's priority: a number, the highest goes first."""
    minus = "-" if oldest_first or bizdate.startswith("-") else ""
    return minus + bizdate.replace("-", "")


everything = dg.define_asset_job(
    "everything",
    selection=dg.AssetSelection.all() - dg.AssetSelection.groups(ON_DEMAND),
    description="Every asset of one bizdate, from the landing files to the reports, without tuning.",
    tags={TURN: "now"},
)

ingest = dg.define_asset_job(
    "ingest",
    selection=dg.AssetSelection.assets("interactions"),
    description="The events of one bizdate or of a range of them; later bizdates are built from these.",
    tags={TURN: "now"},
)

champion = dg.define_asset_job(
    "champion",
    selection=dg.AssetSelection.assets("rank_champion").downstream(),
    description="Chooses the ranking model to serve for one bizdate, and publishes the collections that depend on it.",
)
