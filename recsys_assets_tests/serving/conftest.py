"""One small served world for all tests of the service."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from recsys_assets.datasets.profile import load_profile
from recsys_assets.lake import Lake
from recsys_assets.serving.app import create_app
from recsys_assets.serving.engine import Engine
from recsys_assets.serving.scenes.book import Book
from recsys_assets.serving.service import Opened, Service
from recsys_assets.settings import settings
from recsys_assets_tests.helpers.funnel_world import funnel_world
from recsys_assets_tests.helpers.worlds import DAY, World


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with funnel_world(tmp_path_factory) as world:
        yield world


@pytest.fixture(scope="package")
def engine(world: World) -> Engine:  # noqa: ARG001 (it names the lake)
    profile = load_profile()
    return Engine(profile, Lake.of(settings().lake, profile), DAY)


@pytest.fixture(scope="package")
def service(engine: Engine) -> Service:
    return Service(Opened(7, engine, Book()))


@pytest.fixture(scope="package")
def client(service: Service) -> TestClient:
    return TestClient(create_app(service))
