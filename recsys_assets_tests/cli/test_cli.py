import datetime as dt
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from recsys_assets.cli import main, places
from recsys_assets.cli.days import NothingLanded, latest_bizdate
from recsys_assets.cli.doctor import differing_packages
from recsys_assets.cli.selection import select
from recsys_assets.datasets.profile import bundled_profiles, load_profile
from recsys_assets.lake import Lake
from recsys_assets.partitions import stretches
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.page_blocks import all_commands

SMALL = ["--users", "60", "--items", "120", "--events", "3750", "--days", "10", "--seed", "7", "--to", "2026-06-30"]
KEYS = ["asset", "profile", "bizdate", "path", "rows", "metrics", "manifest", "outdated"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders and settings of this test's own, whatever the shell has set."""
    forget_settings(monkeypatch)
    monkeypatch.setenv("RECSYS_PROFILE", "sample")  # set, so that monkeypatch undoes the change that --profile makes
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    shutil.copy(PROJECT / "dagster.yaml", tmp_path)
    return tmp_path


def forget_settings(patch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("RECSYS_", "DAGSTER_", "MLFLOW_"))]:
        patch.delenv(name)


def recsys(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command in a new process, as a shell does."""
    return subprocess.run(
        [sys.executable, "-m", "recsys_assets.cli", *arguments], capture_output=True, text=True, check=False
    )


def activated(script: str, shell: str = "bash") -> "subprocess.CompletedProcess[str]":
    """Run a line in a shell in which the project is activated, with this test's history."""
    here = os.environ["DAGSTER_HOME"]
    lines = f". ./activate; export DAGSTER_HOME='{here}'; {script}"
    return subprocess.run([shell, "-euc", lines], cwd=PROJECT, capture_output=True, text=True, check=False)


def publish(asset: str, bizdate: str, rows: int = 3) -> None:
    with Lake(str(Path(os.environ["RECSYS_DATA"]) / "lake"), "sample").draft(asset, bizdate) as draft:
        draft.path("data.csv").write_text("a\n1\n", encoding="utf-8")
        draft.manifest.rows, draft.manifest.metrics = rows, {"test_auc": 0.75}


def test_help_takes_less_than_a_second_of_a_core() -> None:
    def seconds() -> float:
        before = os.times()
        assert "materialize" in command("--help").stdout
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    assert any(seconds() < 1 for _ in range(3))  # a busy machine may need another try


def test_bizdate_is_the_last_landed_day_that_is_over() -> None:
    assert recsys("land", "sample", *SMALL).exit_code == 0
    profile = load_profile("sample")
    assert latest_bizdate(profile) == "2026-06-30"
    assert latest_bizdate(profile, today=dt.date(2026, 6, 30)) == "2026-06-29"
    with pytest.raises(NothingLanded):
        latest_bizdate(profile, today=dt.date(2026, 6, 1))
    assert recsys("bizdate").stdout == "2026-06-30\n"


def test_bizdate_says_what_to_do_when_nothing_has_landed() -> None:
    result = recsys("bizdate")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "`recsys land sample`" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--profile", "nowhere", "bizdate"], "no profile 'nowhere': give one of"),
        (["land", "sample", "--from", "2026-13-01"], "'2026-13-01' is not a day: write it as YYYY-MM-DD"),
        (
            ["land", "sample", "--from", "2026-02-02", "--to", "2026-02-01"],
            "--from 2026-02-02 is after --to 2026-02-01",
        ),
        (["land", "sample", "--source", "x.zip"], "takes no source: leave out --source"),
        (["land", "movielens-1m", "--users", "9"], "takes no users"),
        (
            ["show", "splits", "2026-03-01"],
            "no events of 2026-03-01 have landed (nothing has): `recsys land sample --from",
        ),
        (["show", "splits", "--bizdate", "2026-03-01"], "no events of 2026-03-01 have landed"),
        (["show", "splits", "2026-03-01", "--bizdate", "2026-03-02"], "give only one of them"),
        (["show", "rank_wide"], "no asset 'rank_wide': did you mean rank_widedeep"),
        (["show", "zzzz"], "no asset 'zzzz': `dagster asset list` lists all assets"),
        (["show", "splits", "2999-01-01"], "2999-01-01 is not over yet (UTC): bizdates run from 2026-01-01 to"),
        (["materialize", "rank_wide"], "no asset 'rank_wide': did you mean rank_widedeep"),
        (["materialize", "rank_lgbm", "--bizdate", "2026-03-01"], "no events of 2026-03-01 have landed"),
        (["--profile", "samples", "bizdate"], "no profile 'samples': did you mean sample?"),
        (["materialise"], "Did you mean 'materialize'?"),
        (["show", "splits"], "splits was never materialized for 'sample': recsys materialize '+splits'"),
        (["show", "split"], "no asset 'split': did you mean splits"),
        (["materialize", "+rank_sample"], "no asset 'rank_sample': did you mean rank_samples"),
        (["materialize", "group:nothing"], "names no asset; the groups are embeddings, "),
        (["materialize", "splits and"], "cannot be read"),
        (
            ["materialize", "splits", "--bizdate", "2019-01-01"],
            "2019-01-01 is not a bizdate of the profile: bizdates run from",
        ),
    ],
)
def test_a_mistake_is_answered_in_a_line_without_a_traceback(arguments: list[str], said: str) -> None:
    result = recsys(*arguments)
    assert result.exit_code in (1, 2)
    assert said in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_show_json_is_one_object_with_stated_keys() -> None:
    publish("rank_widedeep", "2026-06-29")
    publish("rank_widedeep", "2026-06-30", rows=5)
    shown = json.loads(recsys("show", "rank_widedeep", "--json").stdout)
    assert list(shown) == KEYS
    assert (shown["bizdate"], shown["rows"], shown["metrics"]) == ("2026-06-30", 5, {"test_auc": 0.75})
    assert shown["manifest"]["files"].keys() == {"data.csv"}
    assert Path(shown["path"], "manifest.json").is_file()
    assert json.loads(recsys("show", "rank_widedeep", "2026-06-29", "--json").stdout)["rows"] == 3


def test_show_says_rows_metrics_and_files() -> None:
    publish("rank_widedeep", "2026-06-30")
    said = recsys("show", "rank_widedeep").stdout
    assert all(part in said for part in ("2026-06-30 of sample", "test_auc", "0.7500", "data.csv"))


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("splits", {"splits"}),
        ("splits,items", {"splits", "items"}),
        ("splits or items", {"splits", "items"}),
        ("+rank_samples", {"rank_samples", "factors", "event_features", "splits", "interactions", "users", "items"}),
        ("*rank_samples", {"rank_samples", "factors", "event_features", "splits", "interactions", "users", "items"}),
        ("1+rank_samples", {"rank_samples", "factors", "event_features", "splits", "users", "items"}),
        ('key:"user*"', {"users", "user_features"}),
        ("group:ingest and not users", {"interactions", "items"}),
    ],
)
def test_a_selection_is_read_as_dagster_reads_it(expression: str, names: set[str]) -> None:
    assert {key.to_user_string() for key in select(expression)} == names


def test_stretches_are_unbroken_runs_of_days() -> None:
    days = [dt.date(2026, 1, day) for day in (1, 2, 3, 7, 9, 10)]
    found = [(first.day, last.day) for first, last in stretches(days)]
    assert found == [(1, 3), (7, 7), (9, 10)]
    assert stretches([]) == []


def test_doctor_finds_no_problem_here() -> None:
    result = recsys("doctor")
    assert result.exit_code == 0, result.output
    assert "recsys land sample" in result.output


def test_doctor_says_how_to_fix_what_is_wrong(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = home / "broken.yaml"
    broken.write_text("name: Broken\n", encoding="utf-8")
    (home / "file").touch()
    monkeypatch.setenv("RECSYS_LAKE", str(home / "file" / "lake"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///tmp/runs")
    monkeypatch.setattr(places, "LEAST_DISK_GB", 1e9)
    result = recsys("--profile", str(broken), "doctor")
    assert result.exit_code == 1
    assert problems(result) == ["profile", "lake", "disk", "mlflow"]
    assert "RECSYS_DATA" in result.output
    assert "4 problems found" in result.output


def problems(result: Result) -> list[str]:
    return [line.split()[1] for line in result.output.splitlines() if line.startswith("FIX")]


def test_doctor_says_which_store_does_not_answer_and_keeps_its_password(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONGO_URI", "mongodb://me:sesame@127.0.0.1:1/?serverSelectionTimeoutMS=300")
    monkeypatch.setenv("RECSYS_LANCE_URI", str(home / "lance"))
    result = recsys("doctor")
    stores = {line.split()[1]: line.split()[0] for line in result.output.splitlines() if line.startswith(("FIX", "ok"))}
    assert (stores["mongo"], stores["lance"]) == ("FIX", "ok")
    assert "127.0.0.1:1" in result.output
    assert "sesame" not in result.output


def test_doctor_compares_with_the_pins_but_not_the_build_of_torch() -> None:
    assert differing_packages("# a comment\ntorch==2.13.0\nnot-installed==1.0") == []
    assert differing_packages("click==0.1")[0].endswith("(not 0.1)")


@pytest.fixture(scope="module")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in which the command has landed a small world, for tests to copy."""
    data = tmp_path_factory.mktemp("small") / "data"
    with pytest.MonkeyPatch.context() as patch:
        forget_settings(patch)
        patch.setenv("RECSYS_DATA", str(data))
        landed = command("land", "sample", *SMALL)
    assert landed.returncode == 0, landed.stderr
    return data


@pytest.fixture
def landed(home: Path, small_world: Path) -> Path:
    shutil.copytree(small_world, home / "data")
    return home


def test_materialize_ingests_missing_days_then_builds_and_sums_up(landed: Path) -> None:
    ran = command("materialize", "+splits")
    assert ran.returncode == 0, ran.stderr
    assert "interactions of 2026-06-21 to 2026-06-29" in ran.stderr
    assert "DEBUG" not in ran.stderr
    assert "train_rows" in ran.stdout and "sample 2026-06-30" in ran.stdout
    lake = Lake(str(landed / "data" / "lake"), "sample")
    assert lake.bizdates("interactions") == [f"2026-06-{day}" for day in range(21, 31)]
    assert lake.bizdates("splits") == ["2026-06-30"]
    again = command("materialize", "splits", "--bizdate", "2026-06-29")
    assert again.returncode == 0, again.stderr
    assert "interactions" not in again.stderr


def test_a_failing_step_is_told_in_its_own_words(landed: Path) -> None:
    spoilt = landed / "data" / "landing" / "sample" / "interactions" / "bizdate=2026-06-30"
    for file in spoilt.iterdir():
        file.write_bytes(b"no parquet")
    ran = command("materialize", "+splits")
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    error = ran.stderr[ran.stderr.index("Error:") :]
    assert "LandedFileError" in error and str(spoilt) in error
    assert "not built:" in error and "splits" in error


@pytest.mark.usefixtures("landed")
@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_activate_exports_the_latest_bizdate(shell: str) -> None:
    said = activated('echo "$DAGSTER_CLI_ASSET_MATERIALIZE_PARTITION $DAGSTER_DG_LAUNCH_PARTITION $RECSYS_HOME"', shell)
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines()[-1] == f"2026-06-30 2026-06-30 {PROJECT}"


def test_activate_without_data_gives_a_hint_and_does_not_end_the_shell() -> None:
    said = activated('echo "${DAGSTER_DG_LAUNCH_PARTITION-unset}"')
    assert (said.returncode, said.stdout) == (0, "unset\n")
    assert "recsys land sample" in said.stderr


def test_activate_takes_a_profile_for_the_rest_of_the_shell() -> None:
    lines = "RECSYS_PROFILE=movielens-1m . ./activate; printenv RECSYS_PROFILE"
    said = subprocess.run(["bash", "-c", lines], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert said.stdout == "movielens-1m\n"


def test_dagsters_own_commands_that_list_or_take_a_range_work_as_the_page_prints_them(landed: Path) -> None:
    shown = re.compile(r"(\w+= )?(dagster|dg) (asset list|list defs|.* --partition-range A\.\.\.B)")
    commands = {command for _, command in all_commands() if shown.fullmatch(command)}
    assert len(commands) == 4
    lake = Lake(str(landed / "data" / "lake"), "sample")
    for command in commands:
        ran = activated(command.replace("A...B", "2026-06-28...2026-06-29"))
        assert ran.returncode == 0, ran.stderr[-2000:]
        if "range" in command:
            assert lake.bizdates("interactions") == ["2026-06-28", "2026-06-29"]
            shutil.rmtree(landed / "data" / "lake" / "sample" / "interactions")
        else:
            assert "rank_widedeep" in ran.stdout


def sample_with_floor(home: Path, min_auc: float) -> str:
    """The bundled sample as one's own profile, with a lower AUC to reach (3,000 events teach little)."""
    bundled = bundled_profiles()["sample"].read_text(encoding="utf-8")
    profile = home / "own.yaml"
    profile.write_text(bundled.replace("min_auc: 0.55", f"min_auc: {min_auc}"), encoding="utf-8")
    return str(profile)


def test_a_model_below_its_floor_is_named_with_its_figures_and_dagsters_own_commands_work_as_typed(
    landed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_PROFILE", sample_with_floor(landed, 0.99))
    made = command("materialize", "+feature_schema")
    assert made.returncode == 0, made.stderr
    refused = command("materialize", "rank_widedeep,onnx_widedeep")
    assert refused.returncode == 0, refused.stderr
    assert re.search(r"rank_widedeep: check auc_floor failed \(value 0\.\d+, floor 0\.99\)", refused.stderr)
    assert "rank_widedeep failed auc_floor" in " ".join(refused.stdout.replace("│", " ").split())
    assert "below 0.99" in command("show", "rank_widedeep").stdout
    lake = Lake(str(landed / "data" / "lake"), "sample")
    assert "rank_widedeep failed auc_floor" in lake.manifest("onnx_widedeep", "2026-06-30").declined

    sample_with_floor(landed, 0.0)
    typed = [
        ("dagster asset materialize --select rank_widedeep", "rank_widedeep", "2026-06-30"),
        ("dagster asset materialize --select splits --partition 2026-06-28", "splits", "2026-06-28"),
        ("dg launch --assets splits --partition 2026-06-29", "splits", "2026-06-29"),
        ("dg launch --assets items", "items", "2026-06-30"),
    ]
    lines = [f"rm -rf '{lake.location(asset, day)}'; {line}; echo made" for line, asset, day in typed]
    ran = activated("; ".join(lines))
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.count("made\n") == len(typed)
    assert [day in lake.bizdates(asset) for _, asset, day in typed] == [True] * len(typed)
    shown = json.loads(command("show", "rank_widedeep", "--json").stdout)
    assert shown["metrics"].keys() >= {"test_auc", "test_gauc", "test_logloss", "validation_auc"}
