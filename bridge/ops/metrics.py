"""Events as Prometheus series: base units, closed label sets, never a user name."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Info
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from bridge import __version__
from bridge.events import (
    CertificateSeen,
    ConnectionDropped,
    OperationEnded,
    Refreshed,
    RefreshFailed,
    RequestAnswered,
    ServerRestored,
    ServerSetAside,
    ServersKnown,
    UserAuthenticated,
)
from bridge.model import Accepted
from bridge.ops.tallies import Counts, Durations

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prometheus_client import CollectorRegistry

    from bridge.events import Event, Observer
    from bridge.snapshots.directory_snapshots import DirectorySnapshots

_PREFIX = "mailstore_bridge"


def metrics_observer(registry: CollectorRegistry) -> Observer:
    """An observer that counts each event in `registry`."""
    requests = Counts(f"{_PREFIX}_requests", "HTTP requests answered", ("endpoint", "command", "status"), registry)
    durations = Durations(f"{_PREFIX}_request_duration_seconds", "Time to answer a request", ("command",), registry)
    logins = Counts(f"{_PREFIX}_logins", "Logins decided", ("directory", "outcome"), registry)
    operations = Counts(
        f"{_PREFIX}_directory_operations",
        "LDAP operations ended",
        ("directory", "server", "operation", "outcome"),
        registry,
    )
    operation_durations = Durations(
        f"{_PREFIX}_directory_operation_duration_seconds",
        "Time of an LDAP operation",
        ("directory", "operation"),
        registry,
    )
    refreshes = Counter(f"{_PREFIX}_refreshes", "Listings taken", ["directory", "outcome"], registry=registry)
    changes = Counter(
        f"{_PREFIX}_listing_server_changes",
        "Listings that came from another server than the one before",
        ["directory"],
        registry=registry,
    )
    skipped = Gauge(
        f"{_PREFIX}_snapshot_skipped", "Entries and values left out", ["directory", "reason"], registry=registry
    )
    dropped = Counts(
        f"{_PREFIX}_connections_dropped",
        "Connections that were refused, or came to nothing",
        ("listener", "reason"),
        registry,
    )
    count_servers = _server_gauges(registry)
    Info(f"{_PREFIX}_build", "What runs", registry=registry).info({"version": __version__})

    def observe(event: Event) -> None:
        if isinstance(event, OperationEnded):  # two of the four events of a login
            operations.count(event.directory, event.server, event.operation, event.outcome)
            operation_durations.observe(event.duration_s, event.directory, event.operation)
            return
        match event:
            case RequestAnswered(challenge=False):
                requests.count(event.endpoint, event.command, str(event.status))
                durations.observe(event.duration_s, event.command)
            case UserAuthenticated(verdict=verdict):
                outcome = "accepted" if isinstance(verdict, Accepted) else verdict.reason.value
                logins.count(verdict.directory or "", outcome)
            case Refreshed(report):
                refreshes.labels(report.directory, "ok").inc()
                changes.labels(report.directory).inc(report.server_before is not None)
                for reason in report.skipped:
                    skipped.labels(report.directory, reason.reason).set(reason.count)
            case RefreshFailed():
                refreshes.labels(event.directory, event.error.code).inc()
            case ConnectionDropped(listener, reason):
                dropped.count(listener, reason)
            case _:
                count_servers(event)

    return observe


def _server_gauges(registry: CollectorRegistry) -> Observer:
    """Which servers are asked, and until when their certificates are good."""
    up = Gauge(f"{_PREFIX}_server_up", "0 while the server is set aside", ["directory", "server"], registry=registry)
    expiries = Gauge(
        f"{_PREFIX}_server_certificate_expiry_timestamp_seconds",
        "When the server's certificate expires",
        ["directory", "server"],
        registry=registry,
    )
    known: dict[str, tuple[str, ...]] = {}

    def observe(event: Event) -> None:
        match event:
            case ServersKnown(directory, servers):
                for gone in set(known.get(directory, ())).difference(servers):
                    for gauge in (up, expiries):
                        gauge.remove(directory, gone)
                for new in set(servers).difference(known.get(directory, ())):
                    up.labels(directory, new).set(1)
                known[directory] = servers
            case ServerSetAside(directory, server):
                up.labels(directory, server).set(0)
            case ServerRestored(directory, server):
                up.labels(directory, server).set(1)
            case CertificateSeen(directory, server, expires_at_s):
                expiries.labels(directory, server).set(expires_at_s)

    return observe


def watch_snapshots(registry: CollectorRegistry, directories: Mapping[str, DirectorySnapshots]) -> None:
    """The age and the size of each directory's snapshot, read when they are asked for; -1 where there is none."""
    ages = Gauge(f"{_PREFIX}_snapshot_age_seconds", "Age of the listing", ["directory"], registry=registry)
    users = Gauge(f"{_PREFIX}_snapshot_users", "Users in the listing", ["directory"], registry=registry)

    def age_of(snapshots: DirectorySnapshots) -> Callable[[], float]:
        return lambda: -1.0 if snapshots.age_s is None else snapshots.age_s

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


def watch_tasks(registry: CollectorRegistry) -> None:
    """The tasks of the event loop in which the metrics are asked for."""
    tasks = Gauge(f"{_PREFIX}_tasks", "Tasks of the event loop", registry=registry)
    tasks.set_function(lambda: float(len(asyncio.all_tasks())))


def render_metrics(registry: CollectorRegistry) -> tuple[bytes, str]:
    """The series as Prometheus reads them, and their content type."""
    return generate_latest(registry), CONTENT_TYPE_LATEST
