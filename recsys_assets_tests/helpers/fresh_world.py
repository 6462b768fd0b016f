"""A release with the towers of DropoutNet, and what tests tell and ask a service of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from recsys_assets.datasets.profile import load_profile
from recsys_assets.lake import Lake
from recsys_assets.serving.engine import Engine
from recsys_assets.settings import settings
from recsys_assets_tests.helpers.worlds import DAY, World, copy_of

TOWERS = [
    *("cold_start_samples", "feature_boundaries", "negative_items", "recall_dropoutnet"),
    *("emb_dropoutnet_user", "emb_dropoutnet_item", "onnx_dropoutnet", "funnel_model"),
]
NEW = 900_000  # the id of the first new item


@contextmanager
def fresh_engine(world: World, folders: pytest.TempPathFactory) -> Iterator[Engine]:
    """The release of a copy of the world, which the environment names until the block ends."""

    def build(home: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            world.copy(home, patch).run(TOWERS, config={"recall_dropoutnet": {"training": {"epochs": 1}}})

    home = copy_of("dropoutnet", build, folders)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECSYS_DATA", str(home))
        profile = load_profile()
        yield Engine(profile, Lake.of(settings().lake, profile), DAY)


def item(number: int, **changes: Any) -> dict[str, Any]:
    """A new item."""
    return {"item_id": number, "title": f"New {number}", "year": 2026, "genres": "Drama|War", **changes}


def tell(client: TestClient, *items: dict[str, Any]) -> dict[str, Any]:
    """Tell the service rows of items, which it must keep."""
    answer = client.post("/items", json={"items": items})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def listed(client: TestClient, user: int = 1, **body: Any) -> list[dict[str, Any]]:
    """The list of a user."""
    answer = client.post("/recommend", json={"user_id": user, "size": 50, **body})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])
