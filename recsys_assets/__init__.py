"""recsys_assets: everything a recommender needs each business day, as a Dagster asset graph."""
