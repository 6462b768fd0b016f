"""The code location whose sensors tick every 10 seconds instead of 30; loaded by the `dagster dev` of the tests."""

from recsys_assets.definitions import defs

SECONDS = 10

for sensor in defs.sensors or ():
    sensor._min_interval = SECONDS  # noqa: SLF001 -- a copy by `with_attributes` cannot change it
