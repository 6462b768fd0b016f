"""Imports that every step needs. Dagster's fork server loads them before it forks, which saves each step 2 s."""

import dagster._core.storage.event_log
import dagster._core.storage.runs
import dagster._core.storage.schedules  # noqa: F401 -- every step opens the history
import pyarrow.dataset  # noqa: F401 -- reading any Parquet file loads it, and pandas with it

from recsys_assets.definitions import defs

defs.get_repository_def()  # resolves the jobs and caches them
