"""The gate before publishing, on a lake of small partitions whose manifests name their inputs."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from recsys_assets.lake import Lake
from recsys_assets.manifest import GateNotPassed, Manifest, json_text
from recsys_assets.ranking.champion import CHAMPION_FILE, Candidate, record
from recsys_assets.stores.gate import pass_gate

YESTERDAY, DAY = "2026-01-05", "2026-01-06"


class World:
    """A lake with `splits` -> `user_features` and `onnx_widedeep` -> `rank_champion` for one day."""

    def __init__(self, folder: Path) -> None:
        self.lake = Lake(str(folder), "sample")
        self.write("interactions", YESTERDAY)
        self.write("splits", DAY, f"interactions/{YESTERDAY}")
        self.write("user_features", YESTERDAY, failed="unique_keys")
        self.write("user_features", DAY, f"splits/{DAY}", f"user_features/{YESTERDAY}")
        self.write("rank_widedeep", DAY)
        self.write("onnx_widedeep", DAY, f"rank_widedeep/{DAY}")
        self.choose(DAY)

    def write(self, asset: str, day: str, *upstream: str, failed: str = "", text: str = "") -> None:
        with self.lake.draft(asset, day) as draft:
            draft.path("rows").write_text(text)
            made_of = {each: self.lake.manifest(*each.split("/")).fingerprint for each in upstream}
            checks = [failed] if failed else []
            draft.manifest = dataclasses.replace(draft.manifest, upstream=made_of, failed_checks=checks)

    def write_from_an_earlier_state(self, asset: str, upstream: str) -> None:
        """Write an input of `user_features` that was built from a different state than `user_features` was."""
        with self.lake.draft(asset, DAY) as draft:
            draft.manifest.upstream = {upstream: "0" * 64}
        self.write("user_features", DAY, f"splits/{DAY}", f"{asset}/{DAY}")

    def choose(self, day: str, failed: str = "") -> None:
        """Write the champion of `DAY`: Wide & Deep of a day; DeepFM failed and was not chosen."""
        onnx = self.lake.manifest("onnx_widedeep", day)
        chosen = Candidate("widedeep", day, 0.8, path="x", sha256="y", fingerprint=onnx.fingerprint)
        self.write("rank_deepfm", DAY, failed="auc_floor")
        with self.lake.draft("rank_champion", DAY) as draft:
            draft.path(CHAMPION_FILE).write_text(json_text(dataclasses.asdict(record(chosen, "best", [chosen]))))
            draft.manifest.failed_checks = [failed] if failed else []
            draft.manifest.upstream = {f"rank_deepfm/{DAY}": self.lake.manifest("rank_deepfm", DAY).fingerprint}

    def sources(self) -> list[Manifest]:
        return [self.lake.manifest("user_features", DAY)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_gate_is_open_whatever_failed_on_other_days_or_was_not_chosen(world: World) -> None:
    chosen = pass_gate(world.lake, DAY, world.sources())
    assert chosen and chosen.model == "widedeep"


def test_a_partition_that_was_extended_counts_with_itself_alone(world: World) -> None:
    """Its rows were compared with those of the day that extends it, so nothing depends on their own inputs any more."""
    world.write("splits", YESTERDAY)
    world.write("event_features", YESTERDAY, f"splits/{YESTERDAY}")
    world.write("event_features", DAY, f"splits/{DAY}", f"event_features/{YESTERDAY}")
    world.write("user_features", DAY, f"event_features/{DAY}")
    world.write("splits", YESTERDAY, text="other parts", failed="no_nulls")
    assert pass_gate(world.lake, DAY, world.sources())
    world.write("event_features", YESTERDAY, text="other rows")
    with pytest.raises(GateNotPassed, match=f"event_features {YESTERDAY} was materialized again since"):
        pass_gate(world.lake, DAY, world.sources())


CLOSED: dict[str, tuple[Callable[[World], None], str]] = {
    "a source failed": (
        lambda world: world.write("user_features", DAY, failed="unique_keys"),
        "user_features 2026-01-06 failed unique_keys: nothing",
    ),
    "a day of events was corrected": (
        lambda world: world.write("interactions", YESTERDAY, text="other rows"),
        "interactions 2026-01-05 was materialized again since",
    ),
    "a day of events failed": (
        lambda world: world.write("interactions", YESTERDAY, failed="no_nulls"),
        "interactions 2026-01-05 failed no_nulls: nothing",
    ),
    "two sources were built from two states of a third": (
        lambda world: world.write_from_an_earlier_state("item_features", f"splits/{DAY}"),
        "splits 2026-01-06 was materialized again since",
    ),
    "an input of a source failed": (
        lambda world: world.write("splits", DAY, f"interactions/{YESTERDAY}", failed="no_nulls"),
        "splits 2026-01-06 failed no_nulls: nothing",
    ),
    "an input of a source was materialized again": (
        lambda world: world.write("splits", DAY, text="other rows"),
        "splits 2026-01-06 was materialized again since",
    ),
    "the champion failed": (
        lambda world: world.choose(DAY, failed="champion_is_sound"),
        "rank_champion 2026-01-06 failed champion_is_sound",
    ),
    "the champion's model has changed": (
        lambda world: world.write("onnx_widedeep", DAY, text="other weights"),
        "onnx_widedeep 2026-01-06 was materialized again since",
    ),
    "parity of the champion's model failed": (
        lambda world: world.write("onnx_widedeep", DAY, f"rank_widedeep/{DAY}", failed="onnx_matches_model"),
        "onnx_widedeep 2026-01-06 failed onnx_matches_model",
    ),
}


@pytest.mark.parametrize(("happens", "says"), CLOSED.values(), ids=CLOSED)
def test_the_gate_is_closed_when(world: World, happens: Callable[[World], None], says: str) -> None:
    happens(world)
    with pytest.raises(GateNotPassed, match=says):
        pass_gate(world.lake, DAY, world.sources())


@pytest.mark.parametrize(
    ("failed", "says"), [("", "was materialized again since"), ("unique_keys", "failed unique_keys")]
)
def test_the_gate_looks_at_the_sources_as_they_are_now(world: World, failed: str, says: str) -> None:
    read = world.sources()
    world.write("user_features", DAY, f"splits/{DAY}", failed=failed, text="other rows")
    with pytest.raises(GateNotPassed, match=f"user_features {DAY} {says}"):
        pass_gate(world.lake, DAY, read)


def test_the_gate_is_closed_without_a_champion(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path), "sample")
    with pytest.raises(GateNotPassed, match="rank_champion has no partition for 2026-01-06"):
        pass_gate(lake, DAY, [])


def test_the_champion_of_an_earlier_day_is_looked_at_on_its_own_day(world: World) -> None:
    world.write("rank_samples", YESTERDAY)
    world.write("rank_widedeep", YESTERDAY, f"rank_samples/{YESTERDAY}")
    world.write("onnx_widedeep", YESTERDAY, f"rank_widedeep/{YESTERDAY}")
    world.choose(YESTERDAY)
    world.write("rank_samples", YESTERDAY, text="a taken-over model does not depend on its old rows any more")
    kept = pass_gate(world.lake, DAY, world.sources())
    assert kept and kept.bizdate == YESTERDAY
    world.write("rank_widedeep", YESTERDAY, failed="auc_floor")
    with pytest.raises(GateNotPassed, match="rank_widedeep 2026-01-05 failed auc_floor"):
        pass_gate(world.lake, DAY, world.sources())
