"""The sensor that reports failures."""

import time

import dagster as dg

from recsys_assets.alerts import failures
from recsys_assets.alerts.alert import Alert, Reported
from recsys_assets.alerts.channels import AlertNotDelivered, channels
from recsys_assets.assets.publish.deadline import due_assets
from recsys_assets.datasets.profile import Profile
from recsys_assets.io_managers import IN_TIME
from recsys_assets.resources import Dataset
from recsys_assets.settings import settings

# How far each look reaches back before the last one: an event may be stored some time after the moment that it names.
OVERLAP_SECONDS = 120.0


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Reports failed runs, checks and ticks, each once, to RECSYS_ALERT_WEBHOOK, _FILE and _SMTP.",
)
def alert_sensor(context: dg.SensorEvaluationContext, dataset: Dataset) -> dg.SensorResult:
    """Find failures since the last tick and send each to every channel; what is not delivered waits for the next tick.

    The first tick reports nothing: failures from before are no news. Without any channel, alerts are in the log.
    """
    now, reported = time.time(), Reported.read(context.cursor)
    since = reported.since(now, OVERLAP_SECONDS)
    found = _failures(context.instance, dataset.load(), since, reported)
    new = reported.take_new(found, now, OVERLAP_SECONDS)
    for alert in new:
        context.log.warning(f"{alert.title}: {alert.cause}")
    waiting = _deliver(context, [*reported.waiting, *((name, alert) for alert in new for name in settings().alerts)])
    reported.waiting = waiting
    said = f"{len(new)} new failures, {len(waiting)} alerts wait to be delivered"
    return dg.SensorResult(skip_reason=said, cursor=reported.text())


def _failures(instance: dg.DagsterInstance, profile: Profile, since: float, reported: Reported) -> list[Alert]:
    """All failures since a moment; some may have been reported."""
    ui = settings().dagster_ui
    due = due_assets(profile) if profile.daily.deadline else []
    checks = [dg.AssetCheckKey(dg.AssetKey(asset), IN_TIME) for asset in due]
    return [
        *failures.of_runs(instance, since, ui),
        *failures.of_checks(instance, checks, since, ui),
        *failures.of_ticks(instance, since, reported.failing, ui),
    ]


def _deliver(context: dg.SensorEvaluationContext, due: list[tuple[str, Alert]]) -> list[tuple[str, Alert]]:
    """Send alerts, and return those that are still due; a channel that fails once is not tried again in this tick."""
    ways, left, broken = channels(settings().alerts), list[tuple[str, Alert]](), set[str]()
    for name, alert in due:
        if name not in ways:  # it was taken out of the settings
            context.log.warning(f"{name} is no longer set: it does not get {alert.title}")
        elif name in broken:
            left.append((name, alert))
        else:
            try:
                ways[name](alert)
            except AlertNotDelivered as error:
                context.log.error(f"{error}; {alert.title} is sent again at the next tick")
                broken.add(name)
                left.append((name, alert))
    return left
