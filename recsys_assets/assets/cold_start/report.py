"""Report "cold start": methods for new items compared on cold, warm and all items."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from recsys_assets.assets.lake_asset import Check, lake_asset
from recsys_assets.assets.model_asset import ModelConfig
from recsys_assets.assets.recall import towers
from recsys_assets.assets.refit import find_kept, take
from recsys_assets.assets.reports import show
from recsys_assets.coldstart import network
from recsys_assets.coldstart.choice import BECAUSE, CHOICE_FILE, SERVES
from recsys_assets.coldstart.content import content_of
from recsys_assets.coldstart.stages import Drawn, Stage, StagePart, stage_of
from recsys_assets.coldstart.trial import CHOOSING, CUTOFFS, Outcome, compare, figures, require_cold
from recsys_assets.datasets.profile import Profile
from recsys_assets.declined import CannotBeBuilt
from recsys_assets.features.schema import FeatureSchema
from recsys_assets.io_managers import Output
from recsys_assets.manifest import Partition
from recsys_assets.models.catalogue import TOWERS
from recsys_assets.parallel import one_of_several_trainings
from recsys_assets.resources import Dataset, LakeStore
from recsys_assets.retrieval.interactions import Interactions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from recsys_assets.training.recall import Source

SETS = ("cold", "warm", "all")
BEATS = Check("beats_popularity", "the winner's NDCG@20 on drawn cold items is above popularity's", blocking=False)


class ColdStartConfig(ModelConfig):
    """The items that are held out, the training of DropoutNet, and the dropout rates of a plot."""

    share: float = Field(default=0.2, gt=0, lt=1, description="items drawn to be cold, half of them for each stage")
    steps: int = Field(default=400, ge=1, description="of DropoutNet's training, at most, but for two epochs")
    rates: list[float] = Field(
        default=[],
        description="dropout rates of items that a plot compares, such as 0, 0.5 and 1: a training for each",
    )


@lake_asset(
    ins={name: dg.AssetIn(name) for name in towers.inputs_of(network.MODEL)},
    kinds={"pytorch", "markdown"},
    pool="training",
    code_version="4",
    checks=[BEATS],
)
def cold_start_report(
    output: Output, config: ColdStartConfig, lake: LakeStore, dataset: Dataset, **inputs: Partition
) -> None:
    """Methods for items that nobody has touched, on cold, warm and all items; settings are chosen on validation rows.

    Cold are items that were drawn and whose events were held out, and, in a second table, those that first appear in
    the part. `cold_start.json` names the winner on drawn validation items, how it is merged with the preference model,
    and the best two-tower model, which serves fresh and cold items unless the profile names another. DropoutNet is
    trained for the first table, without the held-out events.
    """
    profile = dataset.load()
    if kept := find_kept(output, lake.lake, profile, config.model_dump()):
        take(output, kept)
        output.manifest.metrics = kept.manifest.metrics
        check_winner(output)
        return
    output.manifest.config, output.manifest.seed = config.model_dump(), config.seed
    source, schema = towers.source(network.MODEL, profile, inputs), towers.features_of(inputs)
    trials = Trials(config, schema, source, profile)
    found: dict[str, Outcome] = {}
    with one_of_several_trainings():
        for name, drawn in trials.definitions.items():
            try:
                found[name] = trials.run(drawn)
            except CannotBeBuilt as error:
                output.without[f"cold items by {name}"] = str(error)
    if "draw" not in found:
        raise CannotBeBuilt(output.without["cold items by draw"])
    _record(output, found, profile.fresh.model)
    if config.rates:
        output.metadata["dropout rates"] = show.picture(_sweep(trials, config))


class Trials:
    """The comparisons of one bizdate."""

    def __init__(self, config: ColdStartConfig, schema: FeatureSchema, source: "Source", profile: Profile) -> None:
        self._config, self._schema, self._source = config, schema, source
        self._seen, self._trained = profile.recall.filter_seen, dict[float, Any]()  # by dropout rate
        self._content = content_of(schema, source.items, source.interactions.item_ids)

    @property
    def definitions(self) -> Mapping[str, Drawn]:
        """The held-out items of each way in which an item can be cold."""
        log: Interactions = self._source.interactions
        return {"draw": Drawn.of(log, self._config.share, self._config.seed), "first appearance": Drawn.nothing(log)}

    def stage(self, drawn: Drawn, part: StagePart) -> Stage:
        """One stage of a comparison."""
        return stage_of(self._source.interactions, drawn, part, self._seen)

    def run(self, drawn: Drawn) -> Outcome:
        """All methods on both stages."""
        validation, test = self.stage(drawn, "validation"), self.stage(drawn, "test")
        require_cold(validation, test)
        # A training takes longer than all other methods together; the drawn items decide who wins.
        fitted = self.train(validation, {}) if drawn.stage.any() else None

        def networks(stage: Stage) -> dict[str, Any]:
            return {network.MODEL: network.score_of(fitted, self._source, stage)} if fitted else {}

        return compare(validation, test, self._content, networks, self._seen)

    def train(self, validation: Stage, more: Mapping[str, Any]) -> Any:
        """DropoutNet, with more settings of the network."""
        config, source = self._config, self._source
        training = {"epochs": network.epochs_of(validation, config.steps), **config.training}
        fitted = network.train(self._schema, source, validation, {**config.model, **more}, training, config.seed)
        self._trained[fitted.config.item_dropout] = fitted
        return fitted

    def sweep(self, rate: float) -> dict[str, float]:
        """Figures of DropoutNet with a dropout rate of items, on drawn validation items."""
        validation = self.stage(self.definitions["draw"], "validation").sample(CHOOSING)
        fitted = self._trained.get(rate) or self.train(validation, {"item_dropout": rate})
        return figures(validation, network.score_of(fitted, self._source, validation), self._seen)


def _record(output: Output, found: Mapping[str, Outcome], named: str | None) -> None:
    """Write the report, the choice, the metrics and the check."""
    drawn = found["draw"]
    serves, because = drawn.serves, why_it_serves(drawn)
    chosen = {"winner": drawn.winner, "preference": drawn.preference, "settings": drawn.settings}
    choice = {**chosen, SERVES: serves, BECAUSE: because}
    output.path(CHOICE_FILE).write_text(json.dumps(choice, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for name, outcome in found.items():
        short = name.replace(" ", "_")
        for method, each in outcome.test.items():
            output.manifest.metrics |= {f"{short}.{method}.{metric}": value for metric, value in each.items()}
    check_winner(output)
    sections = [f"## Cold items by {name}\n\n{describe(outcome)}" for name, outcome in found.items()]
    said = f"serves: {serves}, because {because}"
    if named not in (None, serves):
        said = f"serves: {named}, because `fresh.model` of the profile names it; else {serves} would, because {because}"
    output.metadata["serves"] = said
    show.write_report(output, "Cold start", [f"{said}.", *sections])
    for name, outcome in found.items():
        output.metadata[f"cold items by {name}"] = dg.MetadataValue.md(describe(outcome))


def check_winner(output: Output) -> None:
    """Compare the winner of the choice that was written with popularity, by the metrics that were recorded."""
    winner = json.loads(output.path(CHOICE_FILE).read_text(encoding="utf-8"))["winner"]
    best, popular = (output.manifest.metrics[f"draw.{name}.cold_ndcg@20"] for name in (winner, "popularity"))
    output.check(BEATS.name, best > popular, winner=winner, ndcg=best, popularity=popular)


def describe(outcome: Outcome) -> str:
    """A sentence on the winner and the table of the test figures, best on cold items first."""
    metrics = [f"{name}_{metric}" for name in SETS for metric in ("recall@20", "ndcg@20", f"recall@{CUTOFFS[-1]}")]
    order = sorted(outcome.test, key=lambda name: (-outcome.test[name].get("cold_ndcg@20", 0.0), name))
    rows = [(name, *(outcome.test[name].get(metric, "") for metric in metrics)) for name in order]
    best, ridge = (outcome.test[name]["cold_ndcg@20"] for name in (outcome.winner, "ridge"))
    rule, counts = outcome.settings["merged"], ", ".join(f"{n} {name}" for name, n in outcome.queries.items())
    said = (
        f"{outcome.winner} was the best on cold validation items. On cold test items its NDCG@20 is {best:.4f}, "
        f"{best / max(ridge, 1e-9) - 1:+.0%} compared with the ridge. "
        f"`merged` gives items with {rule['least']:.0f} or more events the score of {outcome.preference}, and lifts "
        f"the others by {rule['lift']:g} deviations. Right answers: {counts}."
    )
    return f"{said}\n\n{show.table(['', *metrics], rows).md_str}"


def why_it_serves(outcome: Outcome) -> str:
    """Words on why the best two-tower model is the best, by its figure and those of the others."""
    judged = {name: each["cold_ndcg@20"] for name, each in outcome.validation.items() if name in TOWERS}
    others = [f"{value:.4f} with {name}" for name, value in sorted(judged.items()) if name != outcome.serves]
    compared = f", compared with {', '.join(others)}" if others else ""
    found = judged[outcome.serves]
    return f"its NDCG@20 on cold validation items is the best of the models with towers: {found:.4f}{compared}"


def _sweep(trials: Trials, config: ColdStartConfig) -> "Figure":
    """NDCG@20 on validation rows by the share of items whose preference part is dropped."""
    rates = sorted(set(config.rates))
    found = [trials.sweep(rate) for rate in rates]
    figure, plot = show.axes("DropoutNet on validation rows", "dropout rate of items", "NDCG@20")
    for name in SETS:
        plot.plot(rates, [each.get(f"{name}_ndcg@20", 0.0) for each in found], marker="o", label=f"{name} items")
    plot.legend()
    return figure
