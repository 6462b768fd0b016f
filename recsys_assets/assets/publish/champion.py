"""The champion: which ranking model of which bizdate is to be served, and why."""

from dataclasses import asdict

import dagster as dg
from pydantic import Field

from recsys_assets.assets.lake_asset import FIRST, Check, lake_asset
from recsys_assets.assets.publish.onnx import MODEL
from recsys_assets.assets.reports import show
from recsys_assets.datasets.folders import file_hash
from recsys_assets.io_managers import Output
from recsys_assets.lake import Lake
from recsys_assets.manifest import PartitionDamaged, PartitionMissing
from recsys_assets.models.catalogue import RANKERS
from recsys_assets.ranking.champion import CHAMPION_FILE, Candidate, Champion, choose, record
from recsys_assets.ranking.model_gates import METRIC, SAMPLES, candidate, champion_before
from recsys_assets.resources import LakeStore
from recsys_assets.tracking import Tracking


class ChampionConfig(dg.Config):
    """How the champion is chosen; both settings hold only for the run that they are given to."""

    pin: str | None = Field(
        default=None,
        description="model to serve: of the bizdate (widedeep), or of a different one (widedeep/2026-01-05)",
    )
    margin: float = Field(
        default=0.005, ge=0, description="by how much the validation AUC may fall from one champion to the next"
    )


@lake_asset(
    # Only their manifests are read: if they were inputs, one model that cannot be served would decline the choice.
    deps=[SAMPLES, *(f"{stage}_{model}" for model in RANKERS for stage in ("rank", "onnx"))],
    kinds={"json", "mlflow"},
    op_tags=FIRST,
    checks=[Check("champion_is_sound", "the ONNX file that it points at is there and has the recorded hash")],
)
def rank_champion(output: Output, config: ChampionConfig, lake: LakeStore, tracking: Tracking) -> None:
    """The ranking model to serve: `champion.json` points at its ONNX file and says why it was chosen.

    It has the highest validation AUC of the models that pass every gate. The previous champion stays if the best new
    model is worse by more than `margin`, or if no model passes. A model that does not pass is listed with the reason;
    one that is below its floor, or that the data do not allow, does not stop the choice. If a training broke down,
    Dagster skips this asset in that run, and `champion_sensor` then runs it. If no model can be built on the data or
    none reaches its floor, there is no champion, and everything else is published without one.
    The newest bizdate's champion has the alias `champion` of the registered model `<profile>-rank` in MLflow.
    """
    day = output.manifest.bizdate
    candidates = [candidate(lake.lake, model, day, MODEL, day) for model in RANKERS]
    for each in candidates:
        if each.declined:  # the choice is outdated once it is built again
            output.manifest.upstream |= each.upstream
    before = champion_before(lake.lake, "rank_champion", day)
    pinned = _pinned_candidate(lake.lake, config.pin, day)
    chosen, reason = choose(candidates, before, config.margin, pinned)
    considered = list({each.name: each for each in (*candidates, before, pinned) if each}.values())
    output.manifest.config = config.model_dump()
    for each in considered:
        if not each.why_not:  # a model that may not be served must not make the choice among the others outdated
            output.manifest.upstream |= each.upstream
    champion = record(chosen, reason, considered)
    output.write_json(CHAMPION_FILE, asdict(champion))
    output.manifest.metrics = {METRIC: champion.validation_auc}
    output.manifest.mlflow_run_id = chosen.mlflow_run_id
    _check(output, lake.lake, champion)
    _show(output, champion)
    output.metadata["mlflow version"] = _promote(output, lake.lake, tracking, champion)


def _pinned_candidate(lake: Lake, pin: str | None, day: str) -> Candidate | None:
    """The pinned model, of the day unless the pin names another."""
    if pin is None:
        return None
    model, _, bizdate = pin.partition("/")
    return candidate(lake, model, bizdate or day, MODEL, day)


def _check(output: Output, lake: Lake, champion: Champion) -> None:
    """Check the file itself, whatever day it is of."""
    try:
        found = file_hash(lake.read(champion.asset, champion.bizdate).path(MODEL))
    except (PartitionMissing, PartitionDamaged) as error:
        output.check("champion_is_sound", False, error=str(error))
    else:
        output.check("champion_is_sound", found == champion.sha256, found=found, recorded=champion.sha256)


def _show(output: Output, champion: Champion) -> None:
    rows = [
        (f"{each['model']}/{each['bizdate']}", each["validation_auc"] or "", each["why_not"] or "yes")
        for each in champion.considered
    ]
    output.metadata |= {
        "champion": f"{champion.model}/{champion.bizdate}",
        "reason": champion.reason,
        "considered": show.table(["model", "validation AUC", "eligible"], rows),
    }


def _promote(output: Output, lake: Lake, tracking: Tracking, champion: Champion) -> dg.MetadataValue:
    """Name the champion in MLflow's registry, unless it is unsound or a later bizdate has one; return a link to it."""
    day = output.manifest.bizdate
    if output.manifest.failed_checks:
        return dg.MetadataValue.text("not named in MLflow: the champion is not sound")
    if later := [each for each in lake.bizdates("rank_champion") if each > day]:
        return dg.MetadataValue.text(f"not named in MLflow: {later[-1]} has a champion of its own")
    tags = {"bizdate": champion.bizdate, "champion_of": day, "reason": champion.reason}
    file = lake.read(champion.asset, champion.bizdate).path(MODEL)
    return dg.MetadataValue.url(tracking.promote(output.manifest.mlflow_run_id or "", "rank", "champion", tags, file))
