"""The composition root: from a configuration to a running service.

The only module that knows every other; it makes them, hands them to each other, and starts and stops them.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import importlib.util
import os
import random
import resource
import secrets
import signal
import ssl
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from bridge.directory import Scope
from bridge.errors import BridgeError, ConfigurationError
from bridge.guard import RemovalPolicy
from bridge.ldap.directory import LdapDirectory
from bridge.ldap.settings import DiscoverySettings, LdapSettings, SaslSettings, ServerAddress
from bridge.ops.logs import log_observer, make_logger, route_library_logs
from bridge.ops.metrics import metrics_observer, render_metrics, watch_snapshots
from bridge.ops.systemd import Notifier
from bridge.ops.tls import ServerCertificate
from bridge.service import Bridge
from bridge.source import DirectorySource
from bridge.state.sqlite_store import SqliteSnapshotStore
from bridge.throttle import MemoryThrottle, ThrottleRules
from bridge.web.addresses import UNIX, AllowedAddresses, Troublemakers
from bridge.web.admin import AdminHandler
from bridge.web.callers import Callers
from bridge.web.control import ControlHandler
from bridge.web.handlers import MailStoreHandler
from bridge.web.limits import WebLimits
from bridge.web.server import Bind, Listener

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

    from structlog.typing import FilteringBoundLogger

    from bridge.config.directories import Configuration, DirectorySection
    from bridge.config.loading import Loaded
    from bridge.config.schema import EndpointSection
    from bridge.config.values import ListenAddress
    from bridge.events import Event, Observer
    from bridge.storage import SnapshotStore

_TLS_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_CERTIFICATE_CHECK_S = 60.0
_GC_THRESHOLD_COUNT = 50_000
_SWITCH_INTERVAL_S = 0.0005
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
"""The numbers in <malloc.h>."""
_MMAP_THRESHOLD_BYTES = 1024 * 1024
_PR_SET_DUMPABLE = 4
"""The number in <linux/prctl.h>."""
ABOUT_STRANGERS = (
    "A listing of it is kept, and the configuration doesn't have it any more. If it was renamed, the first listing "
    "under the new name has none to be compared with; `mailstore-bridge removals reset --directory NAME` forgets it."
)
_CONTROL_SOCKET = "control.sock"
_UNIT_RUNTIME_FOLDER = Path("/run/mailstore-bridge")
"""What RuntimeDirectory= in systemd/mailstore-bridge.service makes."""
_SCOPES = {"subtree": Scope.SUBTREE, "one": Scope.ONE}


def ldap_settings(loaded: Loaded, position: int) -> LdapSettings:
    """How the directory at `position` is asked. Raises `ConfigurationError` where its TLS files are unusable."""
    section = loaded.configuration.directories[position]
    servers = tuple(
        ServerAddress(url.scheme, url.host, url.port, section.uses_starttls(url)) for url in section.servers
    )
    return LdapSettings(
        directory=section.name,
        servers=servers,
        discovery=_discovery(section),
        tls=_client_tls(section, position)
        if section.discover is not None or any(server.uses_tls for server in servers)
        else None,
        fingerprints=frozenset(map(bytes.fromhex, section.tls.fingerprint_sha256 or ())),
        bind_dn=section.bind.dn,
        bind_password=loaded.secrets.get(("directories", position, "bind")),
        sasl=_sasl(section, position),
        connect_timeout_s=section.timeouts.connect_s,
        request_timeout_s=section.timeouts.request_s,
        listing_timeout_s=section.timeouts.listing_s,
        bind_connection_count=section.pool.size,
        idle_s=section.pool.idle_s,
        queue_limit_count=section.pool.queue,
        reuse_bind_connections=section.pool.reuse_binds,
        page_size_count=section.page_size,
        ignore_references=section.referrals == "ignore",
        ignored_references=section.ignored_references,
        repeats_cookies=section.repeats_cookies,
    )


def _discovery(section: DirectorySection) -> DiscoverySettings | None:
    found = section.discover
    if found is None:
        return None
    return DiscoverySettings(
        domain=found.domain,
        scheme=found.scheme,
        start_tls=section.starttls != "off",
        site=found.site,
        allowed_domains=found.allow_domains,
        nameservers=found.nameservers,
        timeout_s=section.timeouts.connect_s,
    )


def _sasl(section: DirectorySection, position: int) -> SaslSettings | None:
    bind = section.bind
    if bind.method == "gssapi":
        if importlib.util.find_spec("gssapi") is None:
            remedy = "install it with `pip install 'mailstore-ldap-bridge[gssapi]'`"
            place = f"directories[{position}].bind.method"
            raise ConfigurationError((f"{place}: gssapi needs a package that is not installed; {remedy}",))
        return SaslSettings("GSSAPI", bind.principal or "", bind.keytab or "")
    return SaslSettings("EXTERNAL") if bind.method == "external" else None


def _client_tls(section: DirectorySection, position: int) -> ssl.SSLContext:
    """The context for a directory's servers, built once: reading the system's authorities takes its time."""
    tls = section.tls
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        context.minimum_version = _TLS_VERSIONS[tls.minimum_version]
        if tls.fingerprint_sha256 is not None and tls.ca_file is None:
            # Security: the very certificate is compared before anything is sent, which says more than who signed it.
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if tls.client_certificate_file is not None:
            context.load_cert_chain(tls.client_certificate_file, tls.client_key_file)
    except OSError as error:
        place = f"directories[{position}].tls"
        raise ConfigurationError((f"{place}: a certificate or key can't be used: {error}",)) from error
    return context


def make_source(loaded: Loaded, position: int, observe: Observer) -> DirectorySource:
    """The directory at `position`, ready to be asked."""
    configuration = loaded.configuration
    section = configuration.directories[position]
    removals = section.removals or configuration.removals
    return DirectorySource(
        directory=LdapDirectory(ldap_settings(loaded, position), observe),
        users_filter=section.users_filter,
        attribute_map=section.attribute_map,
        bases=section.users.bases,
        container=section.users_container,
        scope=_SCOPES[section.users.scope],
        login_template=section.login_template,
        list_disabled=section.disabled_accounts == "list",
        groups=section.group_rules,
        password_changed=section.password_changed,
        ttl_s=configuration.cache.ttl_s,
        stale_if_error_s=configuration.cache.stale_if_error_s,
        min_user_count=removals.min_users,
        removals=RemovalPolicy(
            max_percent=removals.max_percent,
            max_count=removals.max_count,
            window_s=removals.window_s,
            refuse=removals.on_trip == "refuse",
            grace_s=removals.grace_s,
            allow_empty=removals.allow_empty,
            keep_user_names=removals.keep_user_names,
        ),
    )


def state_folder(loaded: Loaded, environment: Mapping[str, str]) -> Path:
    """Where the last accepted listings are kept; what systemd has made for the service comes first."""
    given = environment.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(given or loaded.configuration.state.directory)


def control_socket(loaded: Loaded, environment: Mapping[str, str]) -> Path:
    """Where the running service listens for the command line."""
    configured = loaded.configuration.admin.socket
    if configured is not None:
        return Path(configured)
    runtime = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(runtime or state_folder(loaded, environment)) / _CONTROL_SOCKET


def find_control_socket(loaded: Loaded, environment: Mapping[str, str], unit: Path = _UNIT_RUNTIME_FOLDER) -> Path:
    """Where a running service listens, as seen by a command: systemd tells the service its folders, and nobody else."""
    expected = control_socket(loaded, environment)
    is_of_unit = loaded.configuration.admin.socket is None and not expected.exists()
    return unit / _CONTROL_SOCKET if is_of_unit and (unit / _CONTROL_SOCKET).exists() else expected


def make_bridge(loaded: Loaded, observe: Observer, store: SnapshotStore) -> Bridge:
    """The bridge of a configuration, which closes the store in the end; nothing is connected yet."""
    configuration = loaded.configuration
    endpoints = {endpoint.path: configuration.directories_of(endpoint) for endpoint in configuration.endpoints}
    sources = [make_source(loaded, position, observe) for position in range(len(configuration.directories))]
    auth = configuration.auth
    rules = ThrottleRules(auth.remember_failures_s, auth.max_failures, auth.window_s, auth.remember_successes_s)
    return Bridge(
        endpoints,
        sources,
        store=store,
        clock=time.time,
        make_token=lambda: f"mailstore-bridge-{secrets.token_hex(16)}",
        observe=observe,
        throttle=MemoryThrottle(rules, secrets.token_bytes(32), time.time),
        fast_refusals=auth.fast_refusals,
    )


def make_callers(loaded: Loaded, limits: WebLimits) -> dict[str, Callers]:
    """Who may ask at each endpoint; the key is new with every configuration."""
    key, troublemakers = secrets.token_bytes(32), Troublemakers()
    found = {}
    for position, endpoint in enumerate(loaded.configuration.endpoints):
        passwords = {}
        for number, caller in enumerate(endpoint.callers):
            secret = loaded.secrets.get(("endpoints", position, "callers", number))
            passwords[caller.username] = secret if secret is not None else caller.password_hash or ""
        found[endpoint.path] = Callers(passwords, key, limits, allowed=_allowed(endpoint), troublemakers=troublemakers)
    return found


def _allowed(endpoint: EndpointSection) -> AllowedAddresses | None:
    if endpoint.allow_from is None:
        return None
    networks = [network for network in endpoint.allow_from if not isinstance(network, str)]
    return AllowedAddresses(networks, unix=UNIX in endpoint.allow_from)


class Service:
    """The running program."""

    def __init__(self, loaded: Loaded, stderr: TextIO, environment: Mapping[str, str]) -> None:
        configuration = loaded.configuration
        self.configuration = configuration
        self.logger: FilteringBoundLogger = make_logger(
            configuration.log.level, configuration.log.format, stderr, environment
        )
        route_library_logs(self.logger, configuration.log.level)
        self._registry = CollectorRegistry()
        observers = (
            log_observer(self.logger, usernames=configuration.log.usernames),
            metrics_observer(self._registry),
        )
        store = SqliteSnapshotStore.open(state_folder(loaded, environment))
        self.bridge = make_bridge(loaded, _to_all(observers), store)
        watch_snapshots(self._registry, self.bridge.directories, time.time)
        limits = WebLimits()
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
        self.listener = Listener(handler, limits)
        self.admin = Listener(AdminHandler(self.bridge.health, lambda: render_metrics(self._registry)), limits)
        self.control = Listener(ControlHandler(self.bridge, self._report_bug), limits)
        self._socket = control_socket(loaded, environment)
        self._certificate = _server_certificate(configuration)
        self._notifier = Notifier(environment)
        self._tasks: list[asyncio.Task[None]] = []
        self.ready = asyncio.Event()
        """Set once requests are taken."""

    async def start(self) -> None:
        """Requests are taken, and the directories are being listed. Raises `OSError` where an address can't be had."""
        server, admin = self.configuration.server, self.configuration.admin
        await self.listener.start(
            tuple(map(_bind, server.listen)), self._certificate.context if self._certificate else None
        )
        if admin.listen is not None:
            await self.admin.start((_bind(admin.listen),))
        await self._listen_for_commands()
        self._tasks.append(asyncio.create_task(self._look_at_state()))
        if self.configuration.cache.refresh_ahead:
            for name in self.bridge.directories:
                self._tasks.append(asyncio.create_task(self.bridge.keep_fresh(name, asyncio.sleep)))
        if self._certificate is not None:
            self._tasks.append(asyncio.create_task(self._watch_certificate(self._certificate)))
        if self._notifier.watchdog_s is not None:
            self._tasks.append(asyncio.create_task(self._feed_watchdog(self._notifier.watchdog_s / 2)))
        self.logger.info("service.started", listen=[str(address) for address in self.listener.addresses])
        self.ready.set()
        self._notifier.send("READY=1", f"STATUS=Serving {len(self.configuration.endpoints)} endpoint(s)")

    async def stop(self) -> None:
        """What runs has ended, within 10 s, and every connection is closed."""
        self._notifier.send("STOPPING=1", "STATUS=Finishing what runs")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.listener.aclose()
        await self.admin.aclose()
        await self.control.aclose()
        await self.bridge.aclose()
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
            await self.control.start((Bind(path=str(self._socket)),))
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

    async def _watch_certificate(self, certificate: ServerCertificate) -> None:
        while True:
            await asyncio.sleep(_CERTIFICATE_CHECK_S)
            try:
                if await asyncio.to_thread(certificate.renew_if_changed):
                    self.logger.info("certificate.renewed")
            except OSError as error:
                self.logger.warning("certificate.unusable", error=str(error), remedy="The old one is still served.")

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
    except OSError as error:
        raise ConfigurationError((f"server.tls: the certificate or its key can't be used: {error}",)) from error


def _bind(address: ListenAddress) -> Bind:
    return Bind(address.host, address.port, address.path)


def _to_all(observers: tuple[Observer, ...]) -> Observer:
    def observe(event: Event) -> None:
        for each in observers:
            each(event)

    return observe


def tune_interpreter() -> None:
    """Sets memory and threads for a service that lists many users and answers logins meanwhile."""
    # What is loaded stays, and needn't be looked through. A listing makes a million small objects, none in a cycle:
    # with Python's own threshold of 700, a fourth of its time goes to looking for cycles among them.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD_COUNT, 20, 50)
    # glibc raises this by itself after the first large block was freed, and the next ones leave holes in the heap:
    # a service that has refreshed three times would hold a third more.
    with contextlib.suppress(AttributeError, OSError):  # musl has no mallopt(3)
        c_library = ctypes.CDLL(None)
        c_library.mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
        # Threads that work one after the other need no heap each, with holes of its own.
        c_library.mallopt(_M_ARENA_MAX, 1)
    # While a roster is sorted in its thread, the event loop waits for this long each time that it wakes up.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)


def protect_memory() -> None:
    """Keeps the memory through which passwords pass out of core dumps, and from other processes of the same user."""
    with contextlib.suppress(OSError, ValueError):  # a unit may forbid the call; ours has LimitCORE=0 then
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(AttributeError, OSError):  # Linux alone has prctl(2)
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


async def serve(loaded: Loaded, stderr: TextIO) -> None:
    """Runs the service until it is told to end."""
    protect_memory()
    tune_interpreter()
    await Service(loaded, stderr, os.environ).run()
