"""Events as Prometheus series: base units, closed label sets, never a user name."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram, Info
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from bridge import __version__
from bridge.events import OperationEnded, Refreshed, RefreshFailed, RequestAnswered, UserAuthenticated
from bridge.model import Accepted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prometheus_client import CollectorRegistry

    from bridge.events import Event, Observer
    from bridge.snapshots import DirectorySnapshots

_PREFIX = "mailstore_bridge"


def metrics_observer(registry: CollectorRegistry) -> Observer:
    """An observer that counts each event in `registry`."""
    requests = Counter(
        f"{_PREFIX}_requests", "HTTP requests answered", ["endpoint", "command", "status"], registry=registry
    )
    durations = Histogram(
        f"{_PREFIX}_request_duration_seconds", "Time to answer a request", ["command"], registry=registry
    )
    logins = Counter(f"{_PREFIX}_logins", "Logins decided", ["directory", "outcome"], registry=registry)
    operations = Counter(
        f"{_PREFIX}_directory_operations",
        "LDAP operations ended",
        ["directory", "server", "operation", "outcome"],
        registry=registry,
    )
    operation_durations = Histogram(
        f"{_PREFIX}_directory_operation_duration_seconds",
        "Time of an LDAP operation",
        ["directory", "operation"],
        registry=registry,
    )
    refreshes = Counter(f"{_PREFIX}_refreshes", "Listings taken", ["directory", "outcome"], registry=registry)
    skipped = Gauge(
        f"{_PREFIX}_snapshot_skipped", "Entries and values left out", ["directory", "reason"], registry=registry
    )
    # Finding the series of some labels takes four times as long as counting; there is a closed set of them.
    request_series, duration_series, login_series = (
        cache(requests.labels),
        cache(durations.labels),
        cache(logins.labels),
    )
    operation_series, operation_duration_series = cache(operations.labels), cache(operation_durations.labels)
    Info(f"{_PREFIX}_build", "What runs", registry=registry).info({"version": __version__})

    def observe(event: Event) -> None:
        match event:
            case RequestAnswered(challenge=False):
                request_series(event.endpoint, event.command, event.status).inc()
                duration_series(event.command).observe(event.duration_s)
            case UserAuthenticated(verdict=verdict):
                outcome = "accepted" if isinstance(verdict, Accepted) else verdict.reason.value
                login_series(verdict.directory or "", outcome).inc()
            case OperationEnded():
                operation_series(event.directory, event.server, event.operation, event.outcome).inc()
                operation_duration_series(event.directory, event.operation).observe(event.duration_s)
            case Refreshed(report):
                refreshes.labels(report.directory, "ok").inc()
                for reason in report.skipped:
                    skipped.labels(report.directory, reason.reason).set(reason.count)
            case RefreshFailed():
                refreshes.labels(event.directory, event.error.code).inc()

    return observe


def watch_snapshots(
    registry: CollectorRegistry, directories: Mapping[str, DirectorySnapshots], clock: Callable[[], float]
) -> None:
    """The age and the size of each directory's snapshot, read when they are asked for; -1 where there is none."""
    ages = Gauge(f"{_PREFIX}_snapshot_age_seconds", "Age of the listing", ["directory"], registry=registry)
    users = Gauge(f"{_PREFIX}_snapshot_users", "Users in the listing", ["directory"], registry=registry)

    def age_of(snapshots: DirectorySnapshots) -> Callable[[], float]:
        return lambda: clock() - snapshots.last_good.taken_at_s if snapshots.last_good else -1.0

    def users_of(snapshots: DirectorySnapshots) -> Callable[[], float]:
        return lambda: float(len(snapshots.last_good.roster)) if snapshots.last_good else -1.0

    withheld = Gauge(
        f"{_PREFIX}_snapshot_withheld", "Removals kept out of the answer", ["directory"], registry=registry
    )

    def withheld_of(snapshots: DirectorySnapshots) -> Callable[[], float]:
        return lambda: float(len(snapshots.last_good.guard.withheld)) if snapshots.last_good else 0.0

    for name, snapshots in directories.items():
        withheld.labels(name).set_function(withheld_of(snapshots))
        ages.labels(name).set_function(age_of(snapshots))
        users.labels(name).set_function(users_of(snapshots))


def render_metrics(registry: CollectorRegistry) -> tuple[bytes, str]:
    """The series as Prometheus reads them, and their content type."""
    return generate_latest(registry), CONTENT_TYPE_LATEST
