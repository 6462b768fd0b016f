"""`recsys init` and `recsys check` as they are typed, from a log to a profile that lands, in a folder of one's own."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from recsys_assets.cli import main


def test_a_log_becomes_a_profile_that_lands_and_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("RECSYS_DATA", "RECSYS_LANDING"):
        monkeypatch.setenv(name, str(tmp_path / name))
    rows = (f"{n % 20},{n * 7 % 30},{1 + n % 5},{1_700_000_000 + 7200 * n}" for n in range(600))
    (tmp_path / "My log.csv").write_text("\n".join(["user_id,item_id,rating,timestamp", *rows]) + "\n")
    runner = CliRunner()

    for name in ("../log", "My log", "x: y", "ü"):
        refused = runner.invoke(main, ["init", "My log.csv", "--name", name])
        assert refused.exit_code == 2
        assert "--name: give 1 to 48 lower-case letters" in refused.output
    written = runner.invoke(main, ["init", "My log.csv"])
    assert written.exit_code == 0, written.output
    assert "recsys land my-log.yaml --source 'My log.csv'" in written.output
    again = runner.invoke(main, ["init", "My log.csv"])
    assert again.exit_code == 1
    assert "my-log.yaml is there already" in again.output

    early = runner.invoke(main, ["check", "my-log.yaml"])
    assert early.exit_code == 1
    assert "nothing has landed" in early.output
    landed = runner.invoke(main, ["land", "my-log.yaml", "--source", "My log.csv"])
    assert landed.exit_code == 0, landed.output
    checked = runner.invoke(main, ["check", "my-log.yaml"])
    assert checked.exit_code == 0, checked.output
    assert "600 events of the newest 51 of 51 days were read" in checked.output
    assert "nothing is in the way of" in checked.output

    scenes = tmp_path / "my-log.scenes.yaml"
    scenes.write_text("scenes: {home: {filter: price < 3}}")
    faulty = runner.invoke(main, ["check", "my-log.yaml"])
    assert faulty.exit_code == 1
    assert "scenes.home.filter: it names a column that does not exist: price" in faulty.output
