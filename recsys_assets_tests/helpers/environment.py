"""The environment that tests run in."""

import pytest


def forget_tracking_uri(patch: pytest.MonkeyPatch) -> None:
    """Unset `MLFLOW_TRACKING_URI` until `patch` is undone, and then again where nothing set it before.

    `mlflow.set_tracking_uri` sets the variable too. A patch that only removes a variable that is not set remembers
    nothing, so MLflow's own value would stay, and later tests of the process would write to a database that is gone.
    """
    patch.setenv("MLFLOW_TRACKING_URI", "")
    patch.delenv("MLFLOW_TRACKING_URI")
