"""The running program: listeners, refreshes, the watchdog, started and stopped together."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import resource
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from bridge.certificates.contexts import CertificateError
from bridge.errors import BridgeError, ConfigurationError
from bridge.operations import Operations
from bridge.ops.logs import log_observer, make_logger, route_library_logs
from bridge.ops.metrics import metrics_observer, render_metrics, watch_snapshots, watch_tasks
from bridge.ops.systemd import Notifier, describe_health
from bridge.ops.tls import ServerCertificate
from bridge.run.build import make_bridge, make_callers, read_contexts
from bridge.run.files_in_use import FilesInUse
from bridge.run.paths import control_socket, state_folder
from bridge.state.sqlite_store import SqliteSnapshotStore
from bridge.web.admin import AdminHandler
from bridge.web.control import ControlHandler
from bridge.web.handlers import MailStoreHandler
from bridge.web.limits import WebLimits
from bridge.web.places import Places
from bridge.web.server import Listener, SocketAddress

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence
    from typing import TextIO

    from structlog.typing import FilteringBoundLogger

    from bridge.clock import Clock
    from bridge.config.directories import Configuration
    from bridge.config.loading import Loaded
    from bridge.config.values import ListenAddress
    from bridge.events import Event, Observer

_FILES_LOOK_S = 60.0
_HEALTH_CHECK_S = 0.5
ABOUT_STRANGERS = (
    "A listing of it is kept, and the configuration doesn't have it any more. If it was renamed, the first listing "
    "under the new name has none to be compared with; `mailstore-bridge removals reset --directory NAME` forgets it."
)


class Service:
    """The running program."""

    def __init__(
        self, loaded: Loaded, stderr: TextIO, environment: Mapping[str, str], clock: Clock | None = None
    ) -> None:
        """Raises `ConfigurationError` where a secret, a certificate or a key can't be had."""
        loaded.require(())
        configuration = loaded.configuration
        self.configuration = configuration
        log = configuration.log
        self.logger: FilteringBoundLogger = make_logger(
            log.level, log.format, stderr, environment, usernames=log.usernames
        )
        route_library_logs(self.logger, log.level)
        self._registry = CollectorRegistry()
        observers = (
            log_observer(self.logger, usernames=configuration.log.usernames),
            metrics_observer(self._registry),
        )
        self._certificate = _server_certificate(configuration)
        read_contexts(loaded, range(len(configuration.directories)))
        self.files = FilesInUse(loaded, self._certificate, _to_all(observers))
        self._store = SqliteSnapshotStore.open(state_folder(loaded, environment))
        self.bridge = make_bridge(loaded, _to_all(observers), self._store, clock)
        self.bridge.problems_of = self.files.problems_of
        watch_snapshots(self._registry, self.bridge.directories)
        watch_tasks(self._registry)
        limits = WebLimits()
        self._places = Places(limits, _to_all(observers), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        request_ids = random.Random()  # noqa: S311 - they tell requests apart and keep no secret
        handler = MailStoreHandler(
            self.bridge,
            make_callers(loaded, limits),
            limits,
            content_type=configuration.server.answer_content_type,
            make_id=lambda: f"{request_ids.getrandbits(64):016x}",
            observe=_to_all(observers),
            report_bug=self._report_bug,
        )
        self.listener = Listener(handler, limits, self._places.make_pool("server"), handler.refuse)
        watched = AdminHandler(self.bridge.health, lambda: render_metrics(self._registry))
        self.admin = Listener(watched, limits, self._places.make_pool("admin", is_reserved=True))
        commands = ControlHandler(Operations(self.bridge), self._report_bug, self.files.describe)
        self.control = Listener(commands, limits, self._places.make_pool("control", is_reserved=True))
        self._socket = control_socket(loaded, environment)
        self._notifier = Notifier(environment)
        self._tasks: list[asyncio.Task[None]] = []
        self.ready = asyncio.Event()
        """Set once requests are taken."""

    async def start(self) -> None:
        """Requests are taken, and the directories are being listed.

        Raises `ConfigurationError` where an address can't be had.
        """
        server, admin = self.configuration.server, self.configuration.admin
        tls = self._certificate.read() if self._certificate else None
        await _listen(self.listener, "server.listen", server.listen, tls)
        if admin.listen is not None:
            await _listen(self.admin, "admin.listen", (admin.listen,))
        await self._listen_for_commands()
        self._tasks.append(asyncio.create_task(self._look_at_state()))
        keep = self.bridge.keep_fresh if self.configuration.cache.refresh_ahead else self.bridge.keep_answerable
        self._tasks += [asyncio.create_task(keep(name, asyncio.sleep)) for name in self.bridge.directories]
        self._tasks.append(asyncio.create_task(self._watch_files()))
        if self._notifier.watchdog_s is not None:
            self._tasks.append(asyncio.create_task(self._feed_watchdog(self._notifier.watchdog_s / 2)))
        self.logger.info("service.started", listen=[str(address) for address in self.listener.addresses])
        self.ready.set()
        told = describe_health(self.bridge.health())
        self._notifier.send("READY=1", f"STATUS={told}")
        self._tasks.append(asyncio.create_task(self._tell_health(told)))

    async def stop(self) -> None:
        """What runs has ended, within 10 s, and every connection is closed."""
        self._notifier.send("STOPPING=1", "STATUS=Finishing what runs")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._store.aclose)
            stack.push_async_callback(self.bridge.aclose)
            stack.callback(self._places.drops.flush)
            for listener in (self.control, self.admin, self.listener):
                stack.push_async_callback(listener.aclose)
        self.logger.info("service.stopped")

    async def run(self) -> None:
        """Serves until SIGTERM or SIGINT."""
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        try:
            await self.start()
            await stopping.wait()
        finally:
            await self.stop()

    async def _listen_for_commands(self) -> None:
        """The control socket is there for this user alone; where it can't be made, the service runs without it."""
        old_mask = os.umask(0o177)
        try:
            await self.control.start((SocketAddress(path=str(self._socket)),))
        except OSError as error:
            remedy = "Set admin.socket to a path that the service may make; commands reach it through that."
            self.logger.warning("control.unavailable", socket=str(self._socket), error=str(error), remedy=remedy)
        finally:
            os.umask(old_mask)

    async def _look_at_state(self) -> None:
        """What an earlier run has left is read, and told where it fits no directory."""
        await self.bridge.load()
        try:
            strangers = await self.bridge.strangers()
        except BridgeError as error:
            self.logger.error("state.unavailable", code=error.code, error=error.message)  # noqa: TRY400 - it is no bug
            return
        for name in strangers:
            self.logger.warning("state.unknown_directory", directory=name, remedy=ABOUT_STRANGERS)

    def _report_bug(self, request_id: str, error: BaseException) -> None:
        self.logger.error("request.failed", request_id=request_id, exc_info=error)

    def reload(self) -> None:
        """Take secrets and certificates anew from their files at once, and go on with what can't be read."""
        self.files.reload(self.logger)

    async def _watch_files(self) -> None:
        """Look at the files now and then: a listener's certificate is used without being asked for."""
        while True:
            await asyncio.sleep(_FILES_LOOK_S)
            self.files.look()

    async def _tell_health(self, told: str) -> None:
        """Tell systemd of each change."""
        while True:
            await asyncio.sleep(_HEALTH_CHECK_S)
            words = describe_health(self.bridge.health())
            if words != told:
                told = words
                self._notifier.send(f"STATUS={told}")

    async def _feed_watchdog(self, pause_s: float) -> None:
        while True:
            self._notifier.send("WATCHDOG=1")
            await asyncio.sleep(pause_s)


def _server_certificate(configuration: Configuration) -> ServerCertificate | None:
    tls = configuration.server.tls
    if tls is None:
        return None
    try:
        return ServerCertificate(tls.certificate_file, tls.key_file, tls.minimum_version)
    except CertificateError as error:
        raise ConfigurationError((f"server.tls: {error}",)) from error


async def _listen(
    listener: Listener, key: str, addresses: Sequence[ListenAddress], tls: ssl.SSLContext | None = None
) -> None:
    try:
        await listener.start(tuple(map(_socket_address, addresses)), tls)
    except OSError as error:
        remedy = _explain_address(error, str(error.filename))
        problem = f"{key}: {error.filename} can't be listened at: {error.strerror}; {remedy}"
        raise ConfigurationError((problem,)) from error


def _explain_address(error: OSError, address: str) -> str:
    """What to do where an address can't be listened at."""
    if address.startswith("unix:"):
        return "name a path in a folder where the service's user may write"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "ports below 1024 are not for the service's user: name a higher one, such as 8443"
    return "name an address of this machine that is free"


def _socket_address(address: ListenAddress) -> SocketAddress:
    return SocketAddress(address.host, address.port, address.path)


def _to_all(observers: tuple[Observer, ...]) -> Observer:
    def observe(event: Event) -> None:
        for each in observers:
            each(event)

    return observe
