"""The model card of a champion: what it learned from, its figures, its limits, its lineage, and the way back.

The headings follow Mitchell et al. 2019, "Model Cards for Model Reporting".
"""

from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from recsys_assets.datasets.row_files import read_columns
from recsys_assets.features.schema import FeatureSchema
from recsys_assets.manifest import Manifest, Partition
from recsys_assets.metrics import calibration
from recsys_assets.models.catalogue import RANKERS
from recsys_assets.ranking.champion import Champion
from recsys_assets.ranking.sample_parts import part_files
from recsys_assets.ranking.slices import COUNTS, slice_aucs, slices
from recsys_assets.reports.day import Day
from recsys_assets.reports.figures import Section
from recsys_assets.reports.models import PREDICTIONS, RANK, RANK_METRICS, champion_of
from recsys_assets.reports.page import charts, page, table, text
from recsys_assets.reports.svg import lines


@dataclass(frozen=True)
class Card:
    """A model card: its page, and the same in short texts, as MLflow's tags want them."""

    html: str
    tags: dict[str, str]
    sha256: str  # of the ONNX file


def model_card(day: Day) -> Card:
    """The card of the day's champion.

    Raises:
        Absent: there is no champion, or its model is not there.
    """
    champion = champion_of(day)
    model = day.open(f"rank_{champion.model}", champion.bizdate)
    sections = [_model(day, champion, model), _data(day, model), _figures(day, champion, model), _limits(day, model)]
    sections.append(_lineage(champion, model.manifest))
    metrics = model.manifest.metrics
    tags = {
        "card.model": champion.model,
        "card.bizdate": champion.bizdate,
        "card.fitted_on": model.manifest.fitted_on,
        "card.test_auc": f"{metrics['test_auc']:.4f}" if "test_auc" in metrics else "unknown",
        "card.calibration_error": f"{metrics.get('test_calibration_error', float('nan')):.4f}",
        "card.sha256": champion.sha256,
        "card.reason": champion.reason,
    }
    title = f"Model card: {champion.model} of {champion.bizdate}"
    well = f"Champion of {day.bizdate}: {champion.reason}"
    html = page(title, f"Ranking model of {day.profile.title or day.profile.name}", sections, [], well)
    return Card(html, tags, champion.sha256)


def _model(day: Day, champion: Champion, model: Partition) -> Section:
    """The model's purpose and its settings."""
    section = Section("Model")
    section.html.append(text(RANKERS[champion.model].description))
    section.html.append(
        text(
            "It orders the candidates that recall methods found for a user. Its probability that an item is liked is "
            f"one input of the final order. Positive is: {day.profile.label}. "
            f"Negatives: {day.profile.negatives_text}."
        )
    )
    if model.manifest.fitted:
        said = f"It was fitted on {model.manifest.fitted_on}, and has been kept since: on {champion.bizdate} it is"
        section.html.append(text(f"{said} {model.manifest.age_of_fit} days old."))
    settings = {name: value for name, value in model.manifest.config.items() if not isinstance(value, dict)}
    for part in ("model", "training"):
        settings |= {f"{part}.{name}": value for name, value in (model.manifest.config.get(part) or {}).items()}
    rows = [(name, str(value)) for name, value in sorted(settings.items())]
    section.html.append(table("Settings that were given; all others are defaults", ["setting", "value"], rows))
    return section


def _data(day: Day, model: Partition) -> Section:
    """The rows that it learned from, and its features."""
    section, fitted_on = Section("Data"), model.manifest.fitted_on
    splits = day.open("splits", fitted_on).manifest
    counts = {name.removesuffix("_rows"): value for name, value in splits.metrics.items() if name.endswith("_rows")}
    days = sorted(name.partition("/")[2] for name in splits.upstream if name.startswith("interactions/"))
    if days:
        section.html.append(text(f"Events of {len(days)} days, from {days[0]} to {days[-1]}."))
    section.html.append(
        table("Rows by part; those of train include validation", ["part", "rows"], sorted(counts.items()))
    )
    schema = FeatureSchema.read(day.open("feature_schema", fitted_on).path("schema.json"))
    rows = [(each.name, each.kind, each.side, len(each.vocabulary) or None) for each in schema.features]
    section.html.append(table("Features", ["", "kind", "side", "values"], rows))
    return section


def _figures(day: Day, champion: Champion, model: Partition) -> Section:
    """Test figures with intervals, by slice, and the calibration curve."""
    section, metrics = Section("Figures on test rows"), model.manifest.metrics
    made = day.lake.manifests([f"{RANK}/{champion.bizdate}"]).get(f"{RANK}/{champion.bizdate}")
    report = made.metrics if made else {}
    rows = []
    for metric in (*RANK_METRICS, "validation_auc"):
        if metric in metrics:
            ends = [report.get(f"{champion.model}.{metric}_{end}") for end in ("low", "high")]
            rows.append((metric, metrics[metric], *ends))
    section.html.append(table("Figures, with 95 % intervals", ["", "value", "from", "to"], rows))
    scored = pq.read_table(model.path(PREDICTIONS), columns=["label", "score"])
    labels, scores = scored["label"].to_numpy(), scored["score"].to_numpy()
    curve = calibration(labels, scores)
    points = list(zip(curve["predicted"].tolist(), curve["observed"].tolist(), strict=True))
    drawn = lines(
        "Observed over predicted rate", {champion.model: points}, None, ("predicted 0", "highest"), diagonal=True
    )
    aucs = _slices(day, champion, labels, scores)
    section.html.append(charts([drawn]))
    section.html.append(table("AUC by slice", ["", "AUC", "rows"], aucs))
    return section


def _slices(day: Day, champion: Champion, labels: Any, scores: Any) -> list[tuple[str, float, int]]:
    """The AUC and the rows of each slice of the test rows."""
    files = part_files(day.open("rank_samples", champion.bizdate), "test")
    term = day.profile.features.terms
    wanted = ["label", *COUNTS, *([term.column] if term else [])]
    test = read_columns(files, wanted)
    chosen = slices(test, term.column if term else None)
    aucs = slice_aucs(chosen, labels, {"model": scores})
    return [(name, aucs[name]["model"], int(rows.sum())) for name, rows in chosen.items()]


def _limits(day: Day, model: Partition) -> Section:
    """Things that the model cannot do, as far as the data and its figures tell."""
    section, metrics = Section("Limits"), model.manifest.metrics
    said = [
        "It learned from what users touched, in which earlier lists had a part: the figures are of such rows, and not "
        "of items drawn at random.",
        "Users, items and values that the train rows do not have are all one unknown value to it.",
    ]
    if (error := metrics.get("test_calibration_error")) is not None:
        said.append(f"Its probabilities are off by {error:.3f} on average (calibration error on test rows).")
    if day.profile.draws_all:
        said.append("All its negatives are drawn; its probabilities rest on the correction for the draw.")
    if day.profile.oracle:
        said.append("The data are generated: nothing here says how it does on real users.")
    said.append("The profile does not say under which licence its data are; neither does this card.")
    section.html += [text(each) for each in said]
    return section


def _lineage(champion: Champion, made: Manifest) -> Section:
    """Hashes of what the model was made from, and how to go back."""
    section = Section("Lineage and the way back")
    rows = [(made.name, made.fingerprint), *sorted(made.upstream.items())]
    rows.append((f"{champion.path} (SHA-256)", champion.sha256))
    section.html.append(table("Fingerprints of partitions", ["", "fingerprint"], rows))
    others = [f"{each['model']}/{each['bizdate']}" for each in champion.considered if not each["why_not"]]
    section.html.append(
        text(
            "Services go back to the release of an earlier day with: recsys rollback --all --to DAY. "
            f"The setting pin of rank_champion chooses another model; these passed every gate: {', '.join(others)}."
        )
    )
    return section
