"""What every step needs, loaded by Dagster's fork server before it forks: 1.7 s that a step would otherwise take."""

import dagster._core.storage.event_log
import dagster._core.storage.runs
import dagster._core.storage.schedules  # noqa: F401 -- every step opens the history

from recsys_assets.definitions import defs

defs.get_repository_def()  # resolves the jobs and keeps them
