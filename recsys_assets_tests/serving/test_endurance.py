"""The script that measures a service over a long time runs from its start to its counts, at the smallest size."""

import re
import runpy
import sys

import pytest

from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.serving.running import release

SCRIPT = PROJECT / "benchmarks" / "serving_endurance.py"


@pytest.mark.usefixtures("world")
def test_told_events_survive_killed_processes_and_memory_is_measured(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    release()
    monkeypatch.syspath_prepend(SCRIPT.parent)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--told", "2", "--kills", "1", "--requests", "40"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    said = capfd.readouterr().out
    assert ended.value.code == 0, said
    assert "2 told events: 0 still listed by the next answer" in said
    assert re.search(r"1 kills: [1-9]\d* events acknowledged, 0 lost, 0 doubled", said)
    assert re.search(r" 40 requests: \d+ MB, [+-]\d+\.\d% since the first tenth", said)
