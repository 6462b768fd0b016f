"""The scripts of `benchmarks/` run from command line to table at the smallest size, and their documented flags exist.

They run in this process, and start others when they measure these. The figures are not checked. MovieLens is generated:
its files with 60 users.
"""

import argparse
import json
import re
import runpy
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.ranking_rows import ranking_rows, ranking_schema
from recsys_assets_tests.helpers.spark_server import needs_spark

FOLDER = PROJECT / "benchmarks"
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py") if "__main__" in path.read_text(encoding="utf-8"))
DAY = 86_400
Runner = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Runner:
    """Runs a script as `python benchmarks/…` does, and returns its output."""
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.delenv("MONGO_URI", raising=False)

    def ran(script: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [str(FOLDER / script), *map(str, arguments)])
        threads = torch.get_num_threads()
        try:
            runpy.run_path(str(FOLDER / script), run_name="__main__")
        finally:
            torch.set_num_threads(threads)
        return capfd.readouterr().out

    return ran


@pytest.fixture(scope="module")
def movielens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in MovieLens 1M's format: 60 users with 30 ratings each, on 80 movies."""
    folder, rng = tmp_path_factory.mktemp("ml-1m"), np.random.default_rng(1)
    users, movies, each = 60, 80, 30
    genres = ["Action", "Comedy", "Drama", "War"]
    ratings = [
        f"{user}::{movie}::{rng.integers(1, 6)}::{960_000_000 + DAY * place}"
        for user in range(1, users + 1)
        for place, movie in enumerate(rng.choice(np.arange(1, movies + 1), each, replace=False))
    ]
    lines = {
        "ratings.dat": ratings,
        "users.dat": [f"{user}::{'MF'[user % 2]}::25::{user % 21}::55117" for user in range(1, users + 1)],
        "movies.dat": [f"{movie}::Film {movie} (1999)::{genres[movie % 4]}" for movie in range(1, movies + 1)],
    }
    for file, content in lines.items():
        (folder / file).write_text("\n".join(content) + "\n", encoding="latin-1")
    return folder


@pytest.fixture(scope="module")
def rank_samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the rows of the three parts and their schema."""
    folder = tmp_path_factory.mktemp("rank_samples")
    for seed, part in enumerate(("train", "validation", "test")):
        pq.write_table(ranking_rows(300, seed)[0], folder / f"{part}.parquet")
    (folder / "schema.json").write_text(ranking_schema().to_json(), encoding="utf-8")
    return folder


def last_line(printed: str) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = json.loads(printed.splitlines()[-1])
    return found


def test_i2i_speed(run: Runner, movielens: Path) -> None:
    printed = run("i2i_speed.py", "--source", movielens, "--events", 1000, "--rounds", 1, "--json")
    assert "swing, plain dense" in printed
    figures = last_line(printed)
    assert figures["itemcf, 1,000 events"]["peak_gb"] > 0
    assert figures["swing"].keys() == {"seconds"}


def test_recall_ml1m(run: Runner, movielens: Path) -> None:
    figures = last_line(run("recall_ml1m.py", "--source", movielens, "--epochs", 1, "--json"))
    assert {"popularity", "itemcf", "swing_ours", "sasrec", "fm"} <= figures.keys()
    assert all(row.keys() == {"precision@20", "recall@20", "map@20", "ndcg@20"} for row in figures.values())


def test_cold_start(run: Runner, movielens: Path) -> None:
    few = ["--networks", "--towers", "--epochs", 1, "--rates", 0.5]
    figures = last_line(run("cold_start.py", "--source", movielens, *few, "--json"))
    assert {"ridge", "aligned_ease", "dropoutnet", "merged", "ridge_towers"} <= figures.keys()
    assert 0 <= figures["ridge"]["cold_ndcg@20"] <= 1


def test_recall_loo_ml1m(run: Runner, movielens: Path) -> None:
    figures = last_line(run("recall_loo_ml1m.py", "--source", movielens, "--epochs", 1, "--seeds", 1, "--json"))
    assert {"popularity", "sasrec"} <= figures.keys()


def test_rank_ml1m(run: Runner, movielens: Path, tmp_path: Path) -> None:
    few = ["--models", "lgbm", "deepfm_own", "--epochs", 1, "--seeds", 1, "--work", tmp_path]
    figures = last_line(run("rank_ml1m.py", "--source", movielens, *few, "--json"))
    protocols = ("recsys_pipeline", "metaspore_ctr", "easyrec_random")
    assert figures.keys() == {*(f"{each}.lgbm" for each in protocols), "recsys_pipeline.deepfm_own"}


def test_sample_tastes(run: Runner, movielens: Path) -> None:
    printed = run("sample_tastes.py", "--source", movielens, "--seeds", 1, "--events", 8000, "--json")
    figures = last_line(printed)
    assert figures.keys() == {
        f"{each}, {by}" for each in ("MovieLens 1M", "8,000 events (seed 1)") for by in ("profile", "next")
    }
    assert figures["8,000 events (seed 1), profile"]["true AUC"] > 0.7


def test_splits_to_samples(run: Runner) -> None:
    assert re.search(r"sample +\d+,?\d+ +\d+\.\d\d", run("splits_to_samples.py", "--sizes", 2000, "--days", 10))


def test_a_day_in_the_graph(run: Runner) -> None:
    printed = run("day_graph.py", "--events", 3000, "--days", 12)
    times = {line.split()[0]: float(line.split()[-1]) for line in printed.splitlines()[1:-1]}
    assert times["event_features"] > 0 and times["together"] > 0


def test_increments(run: Runner) -> None:
    printed = run("increments.py", "--days", 2, "--kills", 1)
    counts = json.loads(printed.splitlines()[-1])
    assert (counts["days"]["equal"], counts["kills"]["equal"]) == (2, 1)


def test_day(run: Runner) -> None:
    printed = run("day.py", "--sizes", 2000, "--days", 10)
    rows = {way: int(count.replace(",", "")) for way, count in re.findall(r"2,000 +(\w+) +([\d,]+) ", printed)}
    assert rows["before"] + rows["day"] == rows["all"] > rows["day"] > 0
    assert printed.endswith("\n0 rows of the day's tables differ from those of all rows at once\n")


def test_criteo_rows(run: Runner) -> None:
    assert re.search(r" 400 ", run("criteo_rows.py", "--sizes", 400))


def test_land_csv(run: Runner) -> None:
    assert re.search(r"3,000 rows, 0.00 GB: [\d.]+ s, [\d.]+ processor seconds", run("land_csv.py", "--events", 3000))


def test_hitrate_speed(run: Runner) -> None:
    figures = last_line(run("hitrate_speed.py", "--users", 10, "--items", 1500, "--top-k", 5, "--json"))
    assert figures["recsys_assets, exact"]["hitrate"] == figures["faiss FlatIP"]["hitrate"] > 0


def test_negative_sampling(run: Runner) -> None:
    assert '"sampler": "alias table"' in run("negative_sampling.py", "--items", 100, "--draws", 100, "--json")


def test_table_updates(run: Runner) -> None:
    assert re.search(r" 1,000 .* all rows", run("table_updates.py", "--rows", 1000, "--rounds", 1))


def test_publish_speed(run: Runner) -> None:
    assert re.search(r"\ntotal +60 ", run("publish_speed.py", "--rows", 30, "--rounds", 1))


def test_train_speed(run: Runner) -> None:
    printed = run("train_speed.py", "--networks", "widedeep", "--rows", 500, "--rounds", 1, "--passes", 1)
    assert re.search(r"recsys_assets +\d", printed)


def test_two_ranks(run: Runner, movielens: Path) -> None:
    few = ("--source", movielens, "--epochs", 2, "--seeds", 1)
    figures = json.loads(run("two_ranks.py", *few, "--json").splitlines()[-1])
    assert {model: [*rows] for model, rows in figures.items()} == {"widedeep": ["1", "2"], "dssm": ["1", "2"]}
    assert all(row[name] > 0 for rows in figures.values() for row in rows.values() for name in ("rows/s", "CPU s"))
    one, two = (figures["widedeep"][number]["value"] for number in ("1", "2"))
    assert one == pytest.approx(two, abs=0.05)  # the AUC of the same batches, with other random numbers in the second


def test_final_beside_fuxictr(run: Runner, rank_samples: Path) -> None:
    printed = run("final_fuxictr.py", "--source", rank_samples, "--seeds", 1)
    assert "without --fuxictr: only our side" in printed
    assert re.search(r"\n1 +0\.\d{5}", printed)


def test_an_environment_without_fuxictr_and_a_folder_without_movielens_are_named(
    run: Runner, rank_samples: Path
) -> None:
    with pytest.raises(SystemExit, match="says how to create its environment"):
        run("final_fuxictr.py", "--source", rank_samples, "--fuxictr", "/nowhere/python")
    with pytest.raises(SystemExit, match=r"--source: .*ratings.dat"):
        run("recall_ml1m.py", "--source", rank_samples)


def test_shop_log(run: Runner, tmp_path: Path) -> None:
    few = ("--users", 40, "--items", 30, "--visits", 900, "--days", 10)
    said = run("shop_log.py", tmp_path, *few)
    written = {name: (tmp_path / name).read_bytes() for name in ("events.csv", "items.csv")}
    assert run("shop_log.py", tmp_path, *few) == said == f"{len(written['events.csv'].splitlines()) - 1:,} events\n"
    assert written == {name: (tmp_path / name).read_bytes() for name in written}
    assert written["items.csv"].splitlines()[0] == b'"item_id","category","price"'


def test_mixed_reads(run: Runner) -> None:
    assert re.search(r"mixed +0$", run("mixed_reads.py", "--seconds", 1), flags=re.MULTILINE)


def test_durability(run: Runner) -> None:
    assert "not synced" in run("durability.py", "--rounds", 1, "--days", 2, "--assets", "interactions", "users")


def test_implicit_calibration(run: Runner) -> None:
    said = run("implicit_calibration.py", "--users", 150, "--items", 60, "--visits", 4000)
    assert len(re.findall(r"^ +[\d.]+ +[\d.]+ +\d+ +[+-]\d\.\d+ +\d\.\d+$", said, re.MULTILINE)) == 10
    assert "correction_slope" in said


def test_warm_start(run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RECSYS_DATA", "RECSYS_PROFILE"):  # the script sets them
        monkeypatch.setenv(name, "sample")
    few = ["--days", 1, "--seeds", 1, "--models", "widedeep", "--users", 150, "--items", 120, "--events", 7000]
    figures = last_line(run("warm_start.py", *few, "--plot", tmp_path / "days.png", "--json"))
    assert figures["widedeep"]["days"] == 1
    assert (tmp_path / "days.png").stat().st_size > 0


def test_refit(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RECSYS_DATA", "RECSYS_PROFILE"):  # the script sets them
        monkeypatch.setenv(name, "sample")
    few = ["--ages", 1, "--targets", 1, "--seeds", 1, "--users", 150, "--items", 120, "--events", 7000]
    figures = last_line(run("refit.py", *few, "--models", "lgbm", "ridge", "--json"))
    assert figures.keys() == {"lgbm", "ridge"}
    assert all(0 < row["new"] < 1 and 0 < abs(row["-1"]) < 0.2 and row["seconds"] > 0 for row in figures.values())


def test_told_events(run: Runner) -> None:
    printed = run("told_events.py", "--kills", 3, "--seconds", 0.1)
    assert re.search(r"3 kills: [1-9][\d,]* events acknowledged, .* 0 lost, 0 doubled", printed)
    assert "reading a user's events" in printed


def test_object_store(run: Runner) -> None:
    s3fs = pytest.importorskip("s3fs", reason="needs the extra: pip install 'recsys-assets[s3]'")
    s3fs.S3FileSystem.clear_instance_cache()  # of the addresses of other tests
    few = ("--kills", 3, "--rounds", 3, "--trips", 10, "--share", 0.1, "--partitions", 10)
    printed = run("object_store.py", *few)  # it ends with an error if a read was torn, or anything failed or was lost
    counts = [[int(number) for number in re.findall(rf" {name} +(\d+)$", printed, re.M)] for name in COUNTED]
    assert all(count > 0 for found in counts for count in found)
    assert [len(found) for found in counts] == [2, 1, 1]
    assert re.search(r" bizdates +10 +1 ", printed)  # one request, however many partitions


COUNTED = ("whole reads", "sent again by botocore", "publications")


def test_scale(run: Runner) -> None:
    printed = run("scale.py", "--sizes", 2000, "--steps", "ingest", "splits", "--json")
    assert re.search(r"^\| splits \|( \d+\.\d \|){2}", printed, re.MULTILINE)
    assert re.search(r"^\| 1e10 \| [\d,]+ \| ", printed, re.MULTILINE)
    figures = last_line(printed)
    assert figures.keys() == {"fixed", "2000", "users", "items"}
    assert all(found["lake"]["gb"] > 0 < found["splits"]["seconds"] for found in figures.values())  # type: ignore[index]


def test_user_memory(run: Runner) -> None:
    figures = last_line(run("user_memory.py", "--users", 200, "--items", 500, "--json"))
    assert figures.keys() == {f"{step}, 200 users" for step in ("lists", "vectors", "terms")}
    assert all(found["MB written"] > 0 for found in figures.values())


def test_sql_recall(run: Runner) -> None:
    printed = run("sql_recall.py", "--rows", 1500, "--dimensions", 8, "--queries", 3)
    assert re.findall(r"^\| (\d+) \| 200 \| 1.0000 ", printed, re.MULTILINE) == ["100", "200", "400", "1000"]


def test_engines_compared(run: Runner) -> None:
    """The way of one engine, twice; `engines/test_spark.py` and the test below compare two."""
    check_engines(run("engines.py", "--sizes", 3000, "--days", 8, "--engines", "duckdb", "duckdb"), 2)


@pytest.mark.engines
@needs_spark
def test_spark_compared_with_duckdb(run: Runner) -> None:
    check_engines(run("engines.py", "--sizes", 3000, "--days", 8, "--engines", "duckdb", "local[2]"), 2)


def check_engines(printed: str, engines: int) -> None:
    rows = re.findall(r"^ +[\d,]+  \S+(.*)$", printed, re.MULTILINE)
    assert len(rows) == engines
    for row in rows:
        start, described, snapshots, _, peak, differing = map(float, row.split())
        assert start < 600 and described > 0 and snapshots > 0 and peak > 0.01 and differing == 0


@pytest.mark.engines
def test_feast_history(run: Runner) -> None:
    pytest.importorskip("feast", reason="needs the extra: pip install 'recsys-assets[feast]'")
    figures = json.loads(run("feast_history.py", "--json").splitlines()[-1])
    assert (figures["events"], figures["rows differing"]) == (10_000, 0)
    assert any(each["rows"] for each in figures["rank_samples"])


def test_every_script_is_run_here() -> None:
    tested = set(re.findall(r'run\("(\w+\.py)"', Path(__file__).read_text(encoding="utf-8")))
    tested |= {"final_fuxictr.py", "funnel_merges.py", "tower_curves.py"}  # `test_funnel_report.py` runs the last two
    # Tests in `serving/` run these.
    tested |= {"serving_properties.py", "serving_latency.py", "large_catalogue.py", "serving_endurance.py"}
    # These need a release in a store, and minutes; the last one runs in a different environment.
    by_hand = {"open_loop.py", "serving_faults.py", "serving_fuzz.py", "serving_load.py", "fuxictr_side.py"}
    by_hand |= {"triton_service.py", "triton_faults.py"}  # these need a Triton server
    by_hand |= {"feast_serving.py", "fresh_clock.py", "fresh_rows.py"}
    assert {*SCRIPTS} - by_hand == tested


class Parsed(Exception):
    """Raised when the command line could be parsed."""


def test_planted_drifts_are_counted(run: Runner) -> None:
    sizes = ("--events", 300, "--users", 90, "--items", 100, "--quiet", 1, "--history", 6)
    printed = run("drift.py", *sizes)
    counted = json.loads(printed.splitlines()[-1])
    assert (counted["of"], counted["quiet_days"]) == (12, 1)
    assert printed.count(" found ") == counted["found"]


def commands() -> list[str]:
    """The commands in the documents and in the scripts' own descriptions."""
    texts = {
        page.name: page.read_text(encoding="utf-8") for page in (PROJECT / "README.md", *PROJECT.glob("docs/*.md"))
    }
    texts |= {name: (FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS}
    found = [each for text in texts.values() for each in re.findall(r"benchmarks/(\w+\.py[^`\n#;)]*)", text)]
    return sorted({re.sub(r"\[.*|…", "", each).strip() for each in found})


@pytest.mark.parametrize("command", commands())
def test_the_commands_of_the_documents_are_understood(
    run: Runner, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    script, *arguments = shlex.split(command)
    parse = argparse.ArgumentParser.parse_args

    def parsed(self: argparse.ArgumentParser) -> None:
        parse(self)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parsed)
    needed = [] if arguments or script not in NEEDY else NEEDY[script]
    with pytest.raises(Parsed):
        run(script, *arguments, *needed)


# Arguments that are implied where a document names only the script.
_SOURCE = ["--source", "FOLDER"]
NEEDY = {
    "publish_speed.py": ["--bizdate", "2003-02-28"],
    "funnel_merges.py": ["2003-02-28"],
    "shop_log.py": ["FOLDER"],
    "tower_curves.py": ["2003-02-28"],
    "serving_fuzz.py": ["http://127.0.0.1:8001", "20000"],
    "serving_latency.py": ["2003-02-28"],
    "triton_service.py": ["2003-02-28"],
    **dict.fromkeys(
        ("i2i_speed.py", "rank_ml1m.py", "final_fuxictr.py", "recall_ml1m.py", "sample_tastes.py", "two_ranks.py"),
        _SOURCE,
    ),
}
