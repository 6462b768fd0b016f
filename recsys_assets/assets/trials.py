"""What a tuning publishes of its trials: files, metrics, tables and a plot."""

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
    """The best trial's metric on validation and on test rows (returned), and how many trials ended how."""
    best = trials[0].value
    if best is None:
        raise ValueError("the best trial has no value")  # `study.run` gives at least one that is complete
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
    """The trials, best first, as `summary.yaml` and as `trials.parquet`; `best.yaml`; and what was searched."""
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
    """The best trials as a table, how the settings go with the metric as a plot (returned), what was not used."""
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
    """The content as YAML can have it: lists for tuples."""
    return json.loads(json.dumps(content))
