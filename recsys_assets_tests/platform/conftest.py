"""The servers that all tests of this folder use."""

from collections.abc import Iterator

import pytest

from recsys_assets_tests.helpers.dagster_dev import Backfilled, DagsterDev, backfilled


@pytest.fixture(scope="package")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backfilled]:
    """`dagster dev` on a landed sample with two backfilled days; built once, in about three minutes."""
    dev = DagsterDev(tmp_path_factory.mktemp("platform"))
    with dev.running():
        yield backfilled(dev)
