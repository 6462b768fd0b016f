"""Requests that a log stands for: the moment at which each user came back, as far as rankers read it.

The time and the device of a request are known before anything is shown, so they tell nothing of the answer.
"""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.arrays import Ids
from recsys_assets.datasets.duck import connect, quote, scan
from recsys_assets.datasets.moments import moment_columns
from recsys_assets.datasets.profile import Profile


def moments_of(profile: Profile, splits: Path, part: str, users: Ids) -> Mapping[str, pa.Array]:
    """The features of the moment of each user's request, (N,) each: those of the user's first event of a part.

    Args:
        profile: its `features.moment` says which.
        splits: the table of the asset of that name.
        part: of the split.
        users: (N,) ids; what is not known of a user without an event in the part is null.
    """
    if not profile.features.moment:
        return {}
    rows = f"SELECT * FROM {scan([splits])} WHERE part = {quote(part)}"
    first = f"{rows} QUALIFY position = min(position) OVER (PARTITION BY user_id)"
    with connect(splits.parent) as connection:
        query = f"SELECT user_id{moment_columns(profile, 'first')} FROM ({first}) AS first"
        found = connection.sql(query).to_arrow_table()
    places = pc.index_in(pa.array(users).cast(found["user_id"].type), value_set=found["user_id"].combine_chunks())
    return {name: found[name].combine_chunks().take(places) for name in profile.features.moment}
