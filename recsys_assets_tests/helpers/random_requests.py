"""Random requests for lists, and what must not be in the answers: judged from the rows of a release alone."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from recsys_assets.arrays import Ids
from recsys_assets.serving.requests import RecommendBody
from recsys_assets.serving.service import Service

UNKNOWN = 10**9  # an id of no user and no item, where ids are numbers
SCENES = ("home", "cart", None)


def write_scenes(path: Path, item_ids: Ids) -> dict[str | None, set[object]]:
    """Write a file of scenes with blocked and pinned items; returns the blocked items of each scene."""
    blocked, pinned = (
        item_ids[6::7].tolist(),
        [{"item": item, "place": n + 1} for n, item in enumerate(item_ids[:6].tolist())],
    )
    home = {"blocked": blocked, "pinned": pinned, "new_items": {"share": 0.3, "days": 30}}
    cart = {"size": 12, "order": "merged", "blocked": item_ids[:9].tolist()}
    path.write_text(json.dumps({"scenes": {"home": home, "cart": cart}}), encoding="utf-8")  # JSON is YAML
    return {"home": set(blocked), "cart": set(cart["blocked"]), None: set()}


def read_seen(splits: Path) -> dict[object, dict[bool, set[object]]]:
    """The items of each user: of all rows (False), and of those before the online ones (True: the judged state)."""
    found: dict[object, dict[bool, set[object]]] = {}
    table = pq.read_table(splits, columns=["user_id", "item_id", "part"])
    for user, item, part in zip(*(table[name].to_pylist() for name in table.column_names), strict=True):
        theirs = found.setdefault(user, {True: set(), False: set()})
        theirs[False].add(item)
        if part != "online":
            theirs[True].add(item)
    return found


@dataclass
class Trial:
    """Asks a service for random lists, and counts what is wrong with the answers.

    Attributes:
        service: with the scenes of `write_scenes`.
        seen: from `read_seen`.
        blocked: from `write_scenes`.
        counts: answers by how they were made, empty ones, and faults.
    """

    service: Service
    seen: dict[object, dict[bool, set[object]]]
    blocked: dict[str | None, set[object]]
    rng: np.random.Generator
    counts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def run(self, requests: int) -> None:
        """Ask so many times."""
        engine = self.service.opened.engine
        users, items = engine.log.user_ids.tolist(), engine.log.item_ids.tolist()
        for _ in range(requests):
            asked = self.draw(users, items)
            answer = self.service.answer(RecommendBody(**asked)).content
            listed = [row["item_id"] for row in answer["items"]]
            self.counts[answer["served_by"]] += 1
            self.counts["empty"] += not listed
            for fault in self.faults(asked, listed):
                self.counts[fault] += 1
                self.examples.append(f"{fault}: {asked}")

    def draw(self, users: list[Any], items: list[Any]) -> dict[str, Any]:
        """A request: of a known user in most cases, with any of the limits in half of them."""
        rng = self.rng

        def some(most: int) -> list[Any]:
            return [items[each] for each in rng.integers(len(items), size=int(rng.integers(most + 1)))]

        asked: dict[str, Any] = {"size": int(rng.integers(1, 201)), "judged": bool(rng.random() < 0.2)}
        kind = rng.random()
        if kind < 0.85:
            asked["user_id"] = users[rng.integers(len(users))] if kind < 0.7 else UNKNOWN
        if rng.random() < 0.5:
            asked["history"] = [{"item_id": item, "label": int(rng.integers(2))} for item in [*some(30), UNKNOWN]]
        if rng.random() < 0.5:
            asked["exclude"] = some(len(items))
        if rng.random() < 0.5:
            asked["restrict"] = some(len(items))
        asked["scene"] = SCENES[rng.integers(len(SCENES))]
        asked["explain"] = bool(rng.random() < 0.1)
        return asked

    def faults(self, asked: dict[str, Any], listed: list[object]) -> list[str]:
        """The rules that a list breaks."""
        shown = set(listed)
        told = {event["item_id"] for event in asked.get("history", ())}
        theirs = self.seen.get(asked.get("user_id"), {}).get(asked["judged"], set())
        broken = {
            "twice": len(shown) < len(listed),
            "more than asked": len(listed) > asked["size"],
            "seen": bool(shown & theirs),
            "told": bool(shown & told),
            "excluded": bool(shown & set(asked.get("exclude", ()))),
            "outside of restrict": "restrict" in asked and not shown <= set(asked["restrict"]),
            "blocked": bool(shown & self.blocked[asked["scene"]]),
        }
        return [fault for fault, is_so in broken.items() if is_so]
