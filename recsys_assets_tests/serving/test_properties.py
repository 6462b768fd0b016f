"""No list holds what it must not, whatever is asked."""

import re
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recsys_assets.arrays import Vectors
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.funnel import channels, inputs
from recsys_assets.funnel.merge import Fusion
from recsys_assets.funnel.model import FunnelModel
from recsys_assets.retrieval import row_sums
from recsys_assets.retrieval.index import VectorIndex
from recsys_assets.retrieval.lists import Lists
from recsys_assets.serving.engine import Engine
from recsys_assets.serving.scenes.book import Book
from recsys_assets.serving.service import Opened, Service
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.random_requests import Trial, read_seen
from recsys_assets_tests.helpers.worlds import DAY, World

SCRIPT = PROJECT / "benchmarks" / "serving_properties.py"
LATENCY = PROJECT / "benchmarks" / "serving_latency.py"
LARGE = PROJECT / "benchmarks" / "large_catalogue.py"


@pytest.mark.usefixtures("world")
def test_no_list_holds_seen_told_excluded_or_blocked_items(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--requests", "300"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    said = capsys.readouterr().out
    assert ended.value.code == 0, said
    assert "0 lists hold something that they must not" in said
    counts = {name: int(count) for name, count in re.findall(r"^ +(\w+) +(\d+)$", said, re.MULTILINE)}
    assert min(counts[each] for each in ("full", "history", "popular")) > 20
    assert counts["empty"] < 100


def test_a_list_that_breaks_the_rules_is_found(world: World, engine: Engine) -> None:
    service = Service(Opened(7, engine, Book()))
    seen = read_seen(world.read("splits").path(ROWS))
    trial = Trial(service, seen, {"home": {1}}, np.random.default_rng(3))
    asked = {"user_id": next(iter(seen)), "judged": False, "scene": "home", "size": 1, "exclude": [1], "restrict": [2]}
    everything = engine.log.item_ids.tolist()
    wrong = trial.faults(asked, [*everything, everything[0], 1])
    assert wrong == ["twice", "more than asked", "seen", "excluded", "outside of restrict", "blocked"]


@pytest.mark.usefixtures("world")
def test_the_time_of_an_answer_is_measured_step_by_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(LATENCY), DAY, "--users", "3", "--told", "2"])
    runpy.run_path(str(LATENCY), run_name="__main__")
    said = capsys.readouterr().out
    assert re.search(r"recall popularity +\d", said)
    assert re.search(r"an answer +\d", said)


@pytest.mark.usefixtures("world")
def test_a_large_catalogue_is_made_and_served_through_its_indexes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for module, limit in ((channels, "WIDE"), (row_sums, "WIDE"), (inputs, "EXACT_ITEMS")):
        monkeypatch.setattr(module, limit, 200)
    searched: list[int] = []
    search, read_model = VectorIndex.search, FunnelModel.read

    def with_a_tower(folder: Path) -> FunnelModel:
        model = read_model(folder)
        return replace(model, fusion=Fusion(model.fusion.constant, {**model.fusion.weights, "sasrec": 1.0}))

    def counted(self: VectorIndex, queries: Vectors, k: int, how: object = None) -> Lists:
        searched.append(k)
        return search(self, queries, k, how)

    monkeypatch.setattr(VectorIndex, "search", counted)
    monkeypatch.setattr(FunnelModel, "read", with_a_tower)
    monkeypatch.syspath_prepend(LARGE.parent)
    sizes = ["--users", "300", "--items", "400", "--requests", "5", "--rate", "0"]
    monkeypatch.setattr(sys, "argv", [str(LARGE), DAY, str(tmp_path), *sizes])
    runpy.run_path(str(LARGE), run_name="__main__")
    said = capsys.readouterr().out
    assert re.search(r"357 users, 426 items, [\d,]+ events", said), said
    assert re.search(r"an answer +\d", said)
    assert len(searched) >= 5
