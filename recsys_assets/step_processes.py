"""The first import of Dagster's fork server: each step that it forks ends with the process of the run.

The check begins with the fork: a step imports for seconds before any of its own code runs. The fork server itself
waits for its forks, so it does not end with the run either. Nothing else may import this module.
"""

import os

from recsys_assets.processes import end_with

RUN = os.getppid()  # the parent of the fork server is the run


def _follow() -> None:
    end_with(RUN)
    end_with(os.getppid())  # without the fork server, the run considers the step crashed


os.register_at_fork(after_in_child=_follow)
