"""The project's instance for the `dagster dev` of the tests: its daemon looks for backfills every 5 seconds, not 30.

`dagster.yaml` has no setting for this, and the class of the instance is the only code of ours that the daemon loads.
"""

import sys

from recsys_assets.instance import ProjectInstance

__all__ = ["ProjectInstance"]
SECONDS = 5

if controller := sys.modules.get("dagster._daemon.controller"):  # other processes have no daemon
    controller.DEFAULT_DAEMON_INTERVAL_SECONDS = SECONDS  # type: ignore[attr-defined]
