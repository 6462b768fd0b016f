import io

from rich.console import Console

from recsys_assets.demo import comparison


def test_the_comparison_has_the_best_model_first_and_leaves_out_what_was_not_measured() -> None:
    metrics = {"popularity.test_auc": 0.61, "widedeep.test_auc": 0.71, "widedeep.test_gauc": 0.69}
    shown = ("test_auc", "test_gauc", "test_logloss")
    table = comparison({**metrics, "union.recall@50": 0.5}, "ranking", shown, "test_auc")
    assert [column.header for column in table.columns] == ["", *shown]
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(table)
    lines = [line.replace("│", " ").split() for line in console.export_text().splitlines() if "│" in line]
    assert lines == [["widedeep", "0.7100", "0.6900"], ["popularity", "0.6100"]]
