"""Dagster's fork server loads this first: each step that is forked from it ends with the process that runs the steps.

The watch begins with the fork. A step imports for seconds before any of its own code runs, and the fork server itself
waits for its forks, so that it does not end with the run either. Nothing else may import this module.
"""

import os

from recsys_assets.processes import end_with

RUN = os.getppid()  # of the fork server, which the run has started


def _follow() -> None:
    end_with(RUN)
    end_with(os.getppid())  # without the fork server the run takes the step for crashed


os.register_at_fork(after_in_child=_follow)
