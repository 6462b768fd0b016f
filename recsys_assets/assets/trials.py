"""The output of a tuning: files, metrics, tables and a plot of its trials."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from recsys_assets.assets import show
from recsys_assets.assets.tracked import BEST
from recsys_assets.io_managers import Output
from recsys_assets.tuning.form import Form
from recsys_assets.tuning.metaspore import told
from recsys_assets.tuning.objectives import Tuned
from recsys_assets.tuning.space import Space, arranged
from recsys_assets.tuning.trial import Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUMMARY, SPACE, TRIALS = "summary.yaml", "space.yaml", "trials.parquet"
FILES = (SUMMARY, BEST, SPACE, TRIALS)
SHOWN = 10
_COLUMNS = pa.schema(
    [
        ("number", pa.int64()),
        ("state", pa.string()),
        ("value", pa.float64()),
        ("reports", pa.int64()),
        ("reason", pa.string()),
        ("settings", pa.string()),
    ]
)


def measure(output: Output, trials: Sequence[Trial], tuned: Tuned) -> dict[str, float]:
    """Record the number of trials by state, and the best trial's metric on validation and test rows (returned)."""
    best = trials[0].value
    if best is None:
        raise ValueError("the best trial has no value")  # `study.run` returns at least one complete trial
    states = [trial.state for trial in trials]
    counts = {state: float(states.count(state)) for state in ("complete", "pruned", "failed")}
    judged = {
        f"validation_{tuned.metric}": best,
        f"test_{tuned.metric}": tuned.test(trials[0].settings),
    }
    output.manifest.rows = len(trials)
    output.manifest.metrics = {**judged, **counts}
    return judged


def write(output: Output, trials: Sequence[Trial], tuned: Tuned, form: Form) -> None:
    """Write the trials, best first, as `summary.yaml` and `trials.parquet`; the best settings; and the search space."""
    summary = [
        {
            "hyper_param": trial.settings,
            "result": {tuned.metric: trial.value, "trial": trial.number, "state": trial.state, "reason": trial.reason},
        }
        for trial in trials
    ]
    best = arranged(trials[0].settings, tuned.sections)
    for file, content in ((SUMMARY, summary), (BEST, best), (SPACE, form.model_dump())):
        output.path(file).write_text(yaml.safe_dump(_plain(content), sort_keys=False), encoding="utf-8")
    rows = [
        {
            "number": trial.number,
            "state": trial.state,
            "value": trial.value,
            "reports": len(trial.course),
            "reason": trial.reason,
            "settings": json.dumps(trial.settings),
        }
        for trial in trials
    ]
    pq.write_table(pa.Table.from_pylist(rows, _COLUMNS), output.path(TRIALS), compression="zstd")


def describe(
    output: Output, trials: Sequence[Trial], searched: Space, unused: Mapping[str, str], metric: str
) -> "Figure":
    """Show the best trials, a plot of settings against the metric (returned), and unused parts of the space."""
    names = list(searched.distributions())
    rows = [
        (trial.number, trial.state, "" if trial.value is None else trial.value, *(trial.drawn[name] for name in names))
        for trial in trials
    ]
    output.metadata["best trials"] = show.table(["trial", "state", metric, *names], rows[:SHOWN])
    complete = [trial for trial in trials if trial.state == "complete"]
    columns: dict[str, list[Any]] = {name: [trial.drawn[name] for trial in complete] for name in names}
    log = {name for name, each in searched.ranges.items() if each.log}
    figure = show.parallel("complete trials", {**columns, metric: [trial.value for trial in complete]}, log)
    output.metadata["settings"] = show.picture(figure)
    if unused:
        output.metadata["not used"] = told(unused)
    return figure


def _plain(content: Any) -> Any:
    """The content with lists instead of tuples, for YAML."""
    return json.loads(json.dumps(content))
