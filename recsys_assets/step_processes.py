"""The first import of Dagster's fork server: each step that it forks ends with the process of the run.

The check begins with the fork: a step imports for seconds before any of its own code runs. The fork server itself
waits for its forks, so it does not end with the run either. Nothing else may import this module.
"""

import atexit
import gc
import os

from recsys_assets.processes import end_with

RUN = os.getppid()  # the parent of the fork server is the run


def _follow() -> None:
    end_with(RUN)
    end_with(os.getppid())  # without the fork server, the run considers the step crashed


# Without freezing, each collection in a step looks at the 700,000 objects of the loaded libraries (0.3 s), and copies
# the memory pages that they share with the fork server.
os.register_at_fork(before=gc.freeze, after_in_child=_follow)
# The first that is registered is the last that is called: Python's own end would print what DuckDB did not free.
atexit.register(os._exit, 0)
