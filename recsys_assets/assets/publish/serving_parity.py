"""The check `serving_parity`: a service that is started on the release answers as `funnel_report` judged it."""

import contextlib
import http.client
import json
import secrets
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_assets.arrays import hashes
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.guard import LOCAL
from recsys_assets.manifest import GateNotPassed, PartitionDamaged, PartitionMissing, PartitionOutdated
from recsys_assets.parallel import map_blocks, threads
from recsys_assets.resources import LakeStore, Stores
from recsys_assets.stores.live_sets import current_release

NAME, REPORT, RECOMMENDATIONS = "serving_parity", "funnel_report", "recommendations.parquet"
MOST_USERS = 2_000
MOST_SECONDS = 6.0  # of asking; users are asked in an order that does not depend on it
SAME_PLACE, SAME_SCORE = 1e-6, 1e-5  # items whose scores are closer may change places; scores may differ by as much
SHOWN = 3  # differences
TEXT = (
    "a service that is started on the release gives the users of funnel_report the same lists over HTTP: the same "
    f"items in the same order, but for scores closer than {SAME_PLACE:g}, and scores within {SAME_SCORE:g}; and in the "
    "live state no item of the user's online rows, unless lists hold what was seen (`recall.filter_seen: false`)"
)
UNFIT = (PartitionMissing, PartitionDamaged, PartitionOutdated, GateNotPassed)
Row = Mapping[str, Any]


class ServiceFailed(RuntimeError):
    """The service refuses what it is asked."""


@dataclass
class Findings:
    """Findings about a service: how many users were asked, the differences, and the seconds of each answer."""

    users: int = 0
    different: int = 0
    seen: int = 0
    examples: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, user: object, difference: str, seen: int) -> None:
        """Count one user."""
        self.users += 1
        self.different += bool(difference)
        self.seen += seen
        if difference:
            self.examples.append(f"user {user}: {difference}")

    def add_all(self, others: "Findings") -> None:
        """Count the users of other findings."""
        self.users += others.users
        self.different += others.different
        self.seen += others.seen
        self.examples += others.examples
        self.seconds += others.seconds

    def metadata(self) -> dict[str, Any]:
        """The figures, as Dagster shows them."""
        quantiles = (50, 99) if self.seconds else ()
        at = {f"answer ms p{q}": round(1000 * float(np.percentile(self.seconds, q)), 2) for q in quantiles}
        figures = {"users": self.users, "lists that differ": self.different, "seen items": self.seen, **at}
        return figures | ({"examples": "; ".join(self.examples[:SHOWN])} if self.examples else {})


@dataclass(frozen=True)
class Running:
    """A service that runs on a port of this machine, and the token that it asks for."""

    port: int
    token: str

    @contextlib.contextmanager
    def connect(self) -> Iterator[http.client.HTTPConnection]:
        """A connection to it."""
        with contextlib.closing(http.client.HTTPConnection(LOCAL[0], self.port, timeout=30)) as connection:
            yield connection

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a request."""
        return {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}


def serving_parity(store: str, bizdate: dg.PartitionsDefinition, reads: Sequence[str]) -> dg.AssetChecksDefinition:
    """The check on the releases of a store; it waits for the assets that it reads if they are made in the same run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)  # of partitions_def, as in `lake_asset.py`

        @dg.asset_check(
            name=NAME, asset=f"{store}_release", description=TEXT, partitions_def=bizdate, additional_deps=reads
        )
        def check(context: dg.AssetCheckExecutionContext, lake: LakeStore, stores: Stores) -> dg.AssetCheckResult:
            day = context.partition_key
            try:
                report, splits = (lake.read(asset, day) for asset in (REPORT, "splits"))
            except UNFIT as error:
                return _passed(f"there is no report to compare with: {error}")
            if report.manifest.why_not:
                return _passed(f"there is no report to compare with: {report.manifest.why_not}")
            with stores.open(store) as opened:
                live = current_release(opened)
            if live is None or live["bizdate"] != day:
                return _passed(f"a service does not answer from this release: {live and live['bizdate']} is live")
            listed = pq.read_table(report.path(RECOMMENDATIONS))
            with running_service(lake.profile) as service:
                hidden = hidden_items(load_profile(lake.profile), splits.path(ROWS))
                found = ask_users(service, drawn(listed), hidden)
            metadata = {"users of the report": len(listed), **found.metadata()}
            return dg.AssetCheckResult(passed=not found.different and not found.seen, metadata=metadata)

    return check


def _passed(reason: str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True, metadata={"not compared": reason})


def drawn(listed: pa.Table) -> list[Row]:
    """The rows of at most `MOST_USERS` users, those whose ids have the lowest hashes first."""
    order = np.argsort(hashes(listed["user_id"].to_numpy()), kind="stable")[:MOST_USERS]
    rows: list[Row] = listed.take(pa.array(order)).to_pylist()
    return rows


def hidden_items(profile: Profile, splits: Path) -> dict[object, set[object]]:
    """The items that each user's live list must not hold: those of the online rows; none where people come back."""
    return online_items(splits) if profile.recall.filter_seen else {}


def online_items(splits: Path) -> dict[object, set[object]]:
    """The items of each user's online rows."""
    rows = pq.read_table(splits, columns=["user_id", "item_id", "part"])
    rows = rows.filter(pc.equal(rows["part"], "online")).group_by("user_id").aggregate([("item_id", "distinct")])
    columns = (rows[name].to_pylist() for name in ("user_id", "item_id_distinct"))
    return {user: set(items) for user, items in zip(*columns, strict=True)}


def ask_users(service: Running, rows: Sequence[Row], hidden: Mapping[object, set[object]]) -> Findings:
    """Ask for each user's list in the judged and in the live state, for up to `MOST_SECONDS`.

    There is a connection for each core, as the service has a process for each.
    """
    end, found = time.monotonic() + MOST_SECONDS, Findings()

    def ask_share(first: int) -> Findings:
        with service.connect() as connection:
            return _ask_some(connection, service.headers, rows[first :: threads()], hidden, end)

    for part in map_blocks(ask_share, range(threads())):
        found.add_all(part)
    return found


def _ask_some(
    connection: http.client.HTTPConnection,
    headers: Mapping[str, str],
    rows: Sequence[Row],
    hidden: Mapping[object, set[object]],
    end: float,
) -> Findings:
    """Ask for the users of some rows, over one connection and up to a moment of the monotonic clock."""
    found = Findings()
    for row in rows:
        if time.monotonic() > end:
            break
        judged, live = (
            _ask(connection, headers, {"user_id": row["user_id"], "judged": judged}, found.seconds)
            for judged in (True, False)
        )
        shown = {each["item_id"] for each in live} & hidden.get(row["user_id"], set())
        found.add(row["user_id"], difference(row["items"], judged), len(shown))
    return found


def _ask(
    connection: http.client.HTTPConnection, headers: Mapping[str, str], asked: Row, seconds: list[float]
) -> list[Row]:
    """The list that the service gives for a request; adds how long it took.

    Raises:
        ServiceFailed: it refuses.
    """
    begun = time.perf_counter()
    connection.request("POST", "/recommend", json.dumps(asked), dict(headers))
    answer = connection.getresponse()
    body = answer.read()
    seconds.append(time.perf_counter() - begun)
    if answer.status != 200:
        raise ServiceFailed(f"the service answers {asked} with status {answer.status}: {body.decode()[:300]}")
    items: list[Row] = json.loads(body)["items"]
    return items


def difference(before: Sequence[Row], after: Sequence[Row]) -> str:
    """Where the list of the service is not that of the report; empty if it is the same.

    An item may have the place of another one whose score in the report is as good as the same.
    """
    if len(before) != len(after) or len({each["item_id"] for each in after}) != len(after):
        return f"{len({each['item_id'] for each in after})} items instead of {len(before)}"
    scores = {each["item_id"]: each["score"] for each in before}
    for place, (old, new) in enumerate(zip(before, after, strict=True), 1):
        if (known := scores.get(new["item_id"])) is None or abs(known - old["score"]) > SAME_PLACE:
            return f"place {place} has item {new['item_id']} instead of {old['item_id']}"
        if abs(known - new["score"]) > SAME_SCORE:
            return f"item {new['item_id']} has the score {new['score']} instead of {known}"
    return ""


@contextlib.contextmanager
def running_service(profile: str) -> Iterator[Running]:
    """A service of the current release, as long as the block runs; without scenes and without a log.

    Raises:
        NotServed: it is not ready in time; the message has the last line of its output.
    """
    from recsys_assets.own_service import TOKEN, service_running  # loads httpx, which the definitions do not need

    token = secrets.token_hex()
    with tempfile.TemporaryDirectory() as folder:
        quiet = {"RECSYS_SCENES": f"{folder}/none", "RECSYS_SERVE_LOG_SHARE": "0"}
        with service_running({"RECSYS_PROFILE": profile, TOKEN: token, **quiet}, threads()) as address:
            yield Running(int(address.rpartition(":")[2]), token)
