"""A small generated world in which a bizdate extends the state of the day before, with everything that is counted."""

from pathlib import Path

from recsys_assets_tests.helpers.worlds import YESTERDAY, open_world

STATE = ["users", "items", "splits", "event_features"]
FEATURES = ["factors", "rank_samples", "feature_schema", "user_features", "item_features"]
RECALL = ["recall_samples", "negative_items", "recall_term", "i2i_itemcf"]
# Each term adds five windows over all rows: two show the same as many.
QUICK = {
    "name": "counted",
    "split": {"strategy": "by_day"},
    "features": {"terms": {"column": "genres", "window": 10, "max_terms": 2}},
}


def build(home: Path) -> None:
    """Build the world in an empty folder; see `worlds.copy_of`."""
    with open_world(home, QUICK, users=60, items=80, events=1200, days=7) as world:
        world.run([*STATE, *FEATURES[:2]], YESTERDAY)
        world.run([*STATE, *FEATURES, *RECALL])
