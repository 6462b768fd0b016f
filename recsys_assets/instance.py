"""Where Dagster keeps its history: `.dagster/` beside `dagster.yaml`, whoever starts it and from wherever.

Put nothing else here. Dagster's own setting for this folder is resolved against the current folder, so that a
command started elsewhere would leave a second history there, and without `DAGSTER_HOME` it is a temporary one.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.instance.ref import InstanceRef

HISTORY = ".dagster"


class ProjectInstance(dg.DagsterInstance):
    """Dagster's instance with runs, events, schedules and compute logs in `.dagster/` of the configured folder."""

    @classmethod
    def config_schema(cls) -> Mapping[str, Any]:
        """No settings beyond Dagster's own."""
        return {}

    @staticmethod
    def config_defaults(base_dir: str) -> Mapping[str, Any]:
        """Dagster's defaults, in the folder that holds `dagster.yaml`.

        Without `DAGSTER_HOME` Dagster reads `dagster.yaml` from the current folder but passes a temporary
        one as `base_dir`; the history belongs beside the file all the same.
        """
        home = Path(base_dir if os.environ.get("DAGSTER_HOME") else Path.cwd()).absolute()
        return InstanceRef.config_defaults(str(home / HISTORY))
