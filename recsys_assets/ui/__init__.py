"""`python -m recsys_assets.ui` (`make ui`): Dagster's UI and daemon and MLflow's UI, until Ctrl-C."""
