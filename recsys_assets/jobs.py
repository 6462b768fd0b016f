"""Jobs: what a schedule or a sensor starts."""

import dagster as dg

everything = dg.define_asset_job(
    "everything",
    selection=dg.AssetSelection.all(),
    description="Every asset of one bizdate, from the landing files to the reports.",
)
