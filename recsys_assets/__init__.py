"""recsys_assets: everything a recommender needs each business day, as a Dagster asset graph."""

import os

# OpenMP reads this when torch or LightGBM is first loaded, so it is set before any other module of the project. By
# default its threads spin while they wait for each other: where two trainings share two cores, an epoch of 0.8 s then
# takes 2 to 31 s. Threads that sleep while they wait lose nothing when the cores are free.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
