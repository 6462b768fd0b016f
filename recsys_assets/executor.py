"""The executor: two steps at a time, each forked from a process that has already loaded the libraries they import."""

from collections import Counter
from collections.abc import Callable
from multiprocessing import forkserver

import dagster as dg

from recsys_assets.parallel import STEPS_AT_ONCE

# The libraries that assets with all of these kinds import. Import times on one core: torch 1.9 s, LightGBM with
# scikit-learn 1.3 s, MLflow with its database 2.0 s, matplotlib 0.6 s.
# onnxruntime is not listed: it starts a thread, which a fork would lose.
LIBRARIES_OF_KINDS = {
    ("lightgbm",): ["lightgbm"],
    ("markdown",): ["matplotlib.pyplot"],
    ("mlflow",): ["mlflow.store.tracking.sqlalchemy_store", "matplotlib.pyplot"],
    ("numpy",): ["matplotlib.pyplot"],
    ("onnx",): ["torch", "lightgbm", "onnx"],
    ("pytorch",): ["torch"],
}


@dg.executor(name="multiprocess", requirements=dg.multiple_process_executor_requirements())
def step_executor(context: dg.InitExecutorContext) -> dg.Executor:
    """Dagster's multiprocess executor, whose fork server preloads the libraries of the run's assets."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined] # noqa: SLF001 -- that of an earlier run in this process
    preloaded = [
        "recsys_assets.step_processes",
        "recsys_assets.step_imports",
        *shared_libraries(context.job.get_definition()),
    ]
    config = {
        "max_concurrent": STEPS_AT_ONCE,
        "start_method": {"forkserver": {"preload_modules": preloaded}},
        "retries": {"enabled": {}},
    }
    create: Callable[[dg.InitExecutorContext], dg.Executor] = dg.multiprocess_executor.executor_creation_fn  # type: ignore[assignment]
    return create(context._replace(executor_config=config))


def shared_libraries(job: dg.JobDefinition) -> list[str]:
    """Libraries that at least two of the job's assets import: these are loaded once instead of once per asset."""
    layer = job.asset_layer
    kinds = [layer.get(key).kinds for key in layer.selected_asset_keys]
    imports = [
        {name for needed, names in LIBRARIES_OF_KINDS.items() if each >= set(needed) for name in names}
        for each in kinds
    ]
    count = Counter(name for names in imports for name in names)
    return sorted(name for name, assets in count.items() if assets > 1)
