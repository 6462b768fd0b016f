"""Puts a secret into every setting that holds a URL, and searches everything that a command leaves behind for it.

`python -m recsys_assets_tests.canaries BASE [PART…]` runs every command with each setting in each form, on copies of
BASE (`data/` with a landed and built sample of 2026-06-30, `own.yaml`, `home/dagster.yaml`), and prints where a canary
was found; with PARTs it runs only the cells that have one of them in their names. The whole run takes half an hour on
an idle machine; `test_canaries.py` has the short version.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

CANARY = "Kanari7Vogel"  # also searched for in lower case: some libraries change the case of a host
DAY = "2026-06-30"
AWAY = "127.0.0.1:1"
QUICK = "serverSelectionTimeoutMS=500&connectTimeoutMS=500"
FORMS = ("well-formed", "malformed", "no scheme", "unreachable")
SETTINGS: dict[str, tuple[str, ...]] = {
    "RECSYS_LANDING": (
        f"file://me:{CANARY}@host/landing",
        f"s3:/me:{CANARY}@host/lan ding",
        f"{CANARY}:pw@host/landing",
        f"s3://{CANARY}@{AWAY}/landing",
    ),
    "RECSYS_LAKE": (
        f"memory://me:{CANARY}@host/lake",
        f"s3://me:p/#@{CANARY}@bucket/lake?x",
        f"me:{CANARY}@host/lake",
        f"ftp://me:{CANARY}@{AWAY}/lake",
    ),
    "MLFLOW_TRACKING_URI": (
        f"http://me:{CANARY}@127.0.0.1:{{http}}",
        f"postgresql://me:p/#@{CANARY}@127.0.0.1:x/db",
        f"me:{CANARY}@127.0.0.1/runs",
        f"http://me:{CANARY}@{AWAY}",
    ),
    "MONGO_URI": (
        f"mongodb://me:{CANARY}@127.0.0.1:{{http}}/?authSource=admin&{QUICK}",
        f"mongodb://me:p/#@{CANARY}?@{AWAY}/?{QUICK}",
        f"me:{CANARY}@127.0.0.1:27017",
        f"mongodb://{CANARY}:pw@{AWAY}/?{QUICK}",
    ),
    "RECSYS_REDIS_URI": (
        f"redis://:{CANARY}@127.0.0.1:{{http}}/0",
        f"redis://:p/#@{CANARY}@{AWAY}",
        f":{CANARY}@127.0.0.1:6379",
        f"redis://{CANARY}/x:pw@{AWAY}",
    ),
    "RECSYS_MILVUS_URI": (
        f"http://me:{CANARY}@127.0.0.1:{{http}}",
        f"http://me:p/#@{CANARY}@{AWAY}",
        f"me:{CANARY}@127.0.0.1:19530",
        f"http://{CANARY}:pw@{AWAY}",
    ),
    "RECSYS_LANCE_URI": (
        f"memory://me:{CANARY}@host/lance",
        f"s3://me:p/#@{CANARY}@bucket/lance",
        f"me:{CANARY}@host/lance",
        f"s3://me:{CANARY}@{AWAY}/lance",
    ),
    "RECSYS_SOURCE": (
        f"http://me:{CANARY}@127.0.0.1:{{http}}/ml-1m.zip?token={CANARY}",
        f"http://me:p/#@{CANARY}@{AWAY}/ml-1m.zip",
        f"me:{CANARY}@127.0.0.1/ml-1m.zip",
        f"http://me:{CANARY}@{AWAY}/ml-1m.zip?X-Amz-Signature={CANARY}",
    ),
}
# Settings that one run can read together, and the assets that read them: each asset fails or succeeds on its own.
TOGETHER = {
    ("RECSYS_LANDING",): "users",
    ("RECSYS_LAKE",): "users",
    ("MLFLOW_TRACKING_URI", "MONGO_URI", "RECSYS_REDIS_URI", "RECSYS_MILVUS_URI", "RECSYS_LANCE_URI"): (
        "rank_lgbm,mongo_item,redis_user,milvus_sasrec_item,lance_item"
    ),
}
CHEAP = (
    ["land", "sample", "--from", DAY, "--to", DAY],
    ["land", "movielens-1m"],
    ["land", "criteo"],
    ["bizdate"],
    ["show", "splits", DAY],
    ["show", "items"],
    ["doctor", "--verify"],
    ["published"],
    ["rollback", "--all"],
    ["recommend", "1"],
)
# Short timeouts in seconds: otherwise MLflow would retry for four minutes, and S3 for one.
IMPATIENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "3",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def sings(content: bytes) -> bool:
    """Whether some bytes contain a canary, in upper or lower case."""
    return CANARY.lower().encode() in content.lower()


def found_in(folder: Path) -> list[str]:
    """The files of a folder that contain a canary, in their content or their names."""
    files = (path for path in folder.rglob("*") if path.is_file())
    found = [path for path in files if sings(path.read_bytes())]
    named = [path for path in folder.rglob("*") if sings(path.name.encode())]
    return [str(path.relative_to(folder)) for path in (*found, *named)]


@contextlib.contextmanager
def watched_arguments(heard: list[str]) -> Iterator[None]:
    """Check the arguments of all processes of the machine again and again while the block runs."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            for process in psutil.process_iter(["cmdline"]):
                line = " ".join(process.info["cmdline"] or [])
                if sings(line.encode()):
                    heard.append(f"arguments: {line}")

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def heard_from(command: list[str], folder: Path, environment: Mapping[str, str], seconds: float) -> list[str]:
    """Where a canary was found after a command: in its output, in arguments of processes, in the files of a folder."""
    heard: list[str] = []
    with watched_arguments(heard), (folder.parent / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=dict(environment), cwd=folder)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
    said = (folder.parent / "output").read_bytes()
    lines = [f"output: {line.decode(errors='replace')[:200]}" for line in said.splitlines() if sings(line)]
    return [*dict.fromkeys(heard), *lines, *(f"file: {name}" for name in found_in(folder))]


def _drive(port: str) -> None:
    """Run the quick commands with every setting in every form in this process, which saves starting others.

    The process that started this one searches their output.
    """
    from recsys_assets.cli import main

    for name, forms in SETTINGS.items():
        for form, uri in zip(FORMS, forms, strict=True):
            os.environ[name] = uri.format(http=port)
            for arguments in CHEAP:
                print(f"{name} {form}: recsys {' '.join(arguments)}", flush=True)  # noqa: T201
                with contextlib.suppress(SystemExit):
                    main(arguments, prog_name="recsys")
            del os.environ[name]


def _runs(assets: str) -> dict[str, tuple[list[str], float]]:
    """The commands that start further processes, and the seconds that they may take."""
    python = [sys.executable, "-W", "ignore", "-m"]
    made = ["-m", "recsys_assets.definitions", "--select", assets, "--partition", DAY]
    return {
        "recsys materialize": ([*python, "recsys_assets.cli", "materialize", assets, "--bizdate", DAY], 900),
        "dagster asset materialize": ([*python, "dagster", "asset", "materialize", *made], 900),
        "recsys.ui": ([*python, "recsys_assets.ui"], 60),
    }


def main() -> None:
    """Run the matrix and print one line per cell."""
    base = Path(sys.argv[1]).resolve()
    with _http() as port:
        quick = [sys.executable, "-W", "ignore", "-m", "recsys_assets_tests.canaries", "drive", port]
        _cell(base, "all settings, all forms, quick commands", {}, quick, 3600)
        uris = {name: [uri.format(http=port) for uri in forms] for name, forms in SETTINGS.items()}
        for number, form in enumerate(FORMS):
            for names, assets in TOGETHER.items():
                for what, (command, seconds) in _runs(assets).items():
                    chosen = {name: uris[name][number] for name in names}
                    _cell(base, f"{'+'.join(names)} {form}, {what}", chosen, command, seconds)


@contextlib.contextmanager
def _http() -> Iterator[str]:
    """The port of a server of an empty folder, so that well-formed URIs lead to a server that answers."""
    with tempfile.TemporaryDirectory() as empty:
        serve = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", empty]
        with subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
            assert server.stdout
            yield server.stdout.readline().split(b"port ")[1].split()[0].decode()
            server.terminate()


def _cell(base: Path, what: str, uris: Mapping[str, str], command: list[str], seconds: float) -> None:
    if sys.argv[2:] and not any(part in what for part in sys.argv[2:]):
        return
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "home"
        shutil.copytree(base, home, symlinks=True)
        places = {"RECSYS_DATA": home / "data", "DAGSTER_HOME": home / "home", "RECSYS_PROFILE": home / "own.yaml"}
        environment = {**os.environ, **IMPATIENT, **{key: str(path) for key, path in places.items()}, **uris}
        environment |= {"SERVE_PORT": "8199", "DAGSTER_PORT": "3199", "MLFLOW_PORT": "5199"}
        start = time.perf_counter()
        heard = heard_from(command, home, environment, seconds)
        found = "; ".join(heard)[:600] or "nothing"
        print(f"{what}: {found} ({time.perf_counter() - start:.0f} s)", flush=True)  # noqa: T201
        if "KEEP" in os.environ:
            said = Path(scratch, "output").read_text(errors="replace")
            print(said[-int(os.environ["KEEP"]) :], flush=True)  # noqa: T201


if __name__ == "__main__":
    _drive(sys.argv[2]) if sys.argv[1:2] == ["drive"] else main()
