"""Jobs: what a schedule or a sensor starts."""

import warnings

import dagster as dg

# A run of the job is of one day, so that policies for ranges of days have no say in it; Dagster warns all the same.
warnings.filterwarnings("ignore", "Asset job everything materializes assets with varying BackfillPolicies", UserWarning)

ON_DEMAND = "tuning"  # the group of what runs only when it is named

everything = dg.define_asset_job(
    "everything",
    selection=dg.AssetSelection.all() - dg.AssetSelection.groups(ON_DEMAND),
    description="Every asset of one bizdate, from the landing files to the reports; tuning is left out.",
    # `splits` needs the `interactions` of all days before: dagster.yaml runs the days of this tag one after another.
    tags={"recsys/turn": "everything"},
)

champion = dg.define_asset_job(
    "champion",
    selection=dg.AssetSelection.assets("rank_champion").downstream(),
    description="The choice of the ranking model to serve, of one bizdate, and what is published with it.",
)
