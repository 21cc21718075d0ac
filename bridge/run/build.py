"""The composition root: from a configuration to a running service.

The only module that knows every other; it makes them, hands them to each other, and starts and stops them.
"""

from __future__ import annotations

import importlib.util
import secrets
import ssl
from functools import partial
from typing import TYPE_CHECKING

from bridge.authentication.budgets import Budgets
from bridge.authentication.login_health import LoginHealth
from bridge.authentication.memory_throttle import MemoryThrottle
from bridge.authentication.user_binds import UserBinds
from bridge.certificates.contexts import client_context
from bridge.clock import SystemClock
from bridge.directory import Scope
from bridge.errors import ConfigurationError
from bridge.ldap.directory import LdapDirectory
from bridge.ldap.service_secrets import RefusedSecrets
from bridge.ldap.settings import LdapSettings, SaslSettings, ServerAddress
from bridge.renewal import Renewed
from bridge.run.realms import find_realms
from bridge.service import Bridge
from bridge.sources.directory.source import DirectorySource
from bridge.web.addresses import UNIX, AllowedAddresses, Troublemakers
from bridge.web.callers import Callers

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from bridge.clock import Clock
    from bridge.config.directories import Configuration, DirectorySection, DirectoryTls
    from bridge.config.loading import Loaded
    from bridge.config.schema import AuthSection, EndpointSection
    from bridge.config.secret_files import SecretFile
    from bridge.config.yaml12 import Path
    from bridge.events import Observer
    from bridge.ldap.settings import DiscoverySettings
    from bridge.snapshots.policy import SnapshotPolicy
    from bridge.snapshots.store import SnapshotStore
    from bridge.web.limits import WebLimits

_SCOPES = {"subtree": Scope.SUBTREE, "one": Scope.ONE}


def ldap_settings(loaded: Loaded, position: int) -> LdapSettings:
    """How the directory at `position` is asked. No file is read yet."""
    section = loaded.configuration.directories[position]
    secret = loaded.secrets.get(("directories", position, "bind"))
    servers = tuple(
        ServerAddress(url.scheme, url.host, url.port, section.uses_starttls(url), is_absolute=url.is_absolute)
        for url in section.servers
    )
    return LdapSettings(
        directory=section.name,
        servers=servers,
        discovery=_discovery(section),
        tls=_client_tls(loaded, position)
        if section.discover is not None or any(server.uses_tls for server in servers)
        else None,
        fingerprints=frozenset(map(bytes.fromhex, section.tls.fingerprint_sha256 or ())),
        ca_file=section.tls.ca_file,
        shows_certificate=section.tls.client_certificate_file is not None,
        minimum_tls_version=section.tls.minimum_version,
        bind_dn=section.bind.dn,
        bind_password=secret if section.bind.dn is not None else None,
        sasl=_sasl(section, position, secret),
        connect_timeout_s=section.timeouts.connect_s,
        request_timeout_s=section.timeouts.request_s,
        listing_timeout_s=section.timeouts.listing_s,
        bind_connection_count=section.pool.size,
        idle_s=section.pool.idle_s,
        max_age_s=section.pool.max_age_s,
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
    return found.build(start_tls=section.starttls != "off", timeout_s=section.timeouts.connect_s)


def _sasl(section: DirectorySection, position: int, key: SecretFile | None) -> SaslSettings | None:
    bind = section.bind
    if bind.method == "gssapi":
        if importlib.util.find_spec("gssapi") is None:
            remedy = "install it with `pip install 'mailstore-ldap-bridge[gssapi]'`"
            place = f"directories[{position}].bind.method"
            raise ConfigurationError((f"{place}: gssapi needs a package that is not installed; {remedy}",))
        return SaslSettings("GSSAPI", bind.principal or "", bind.keytab or "", key)
    return SaslSettings("EXTERNAL") if bind.method == "external" else None


def _client_tls(loaded: Loaded, position: int) -> Renewed[ssl.SSLContext]:
    """The context for a directory's servers, made when the first one is reached, and anew when its files change."""
    path: Path = ("directories", position, "tls")
    if path not in loaded.contexts:
        tls = loaded.configuration.directories[position].tls
        place = f"directories[{position}].tls"
        loaded.contexts[path] = ClientTls(place, _tls_files(tls), partial(_make_client_context, tls))
    return loaded.contexts[path]


def _tls_files(tls: DirectoryTls) -> list[str]:
    """The files that a context is made of; the system's authorities change, too."""
    authorities = tls.ca_file if tls.ca_file is not None else ssl.get_default_verify_paths().cafile
    return [file for file in (authorities, tls.client_certificate_file, tls.client_key_file) if file is not None]


class ClientTls(Renewed[ssl.SSLContext]):
    """The context for the servers of a directory."""

    def read(self) -> ssl.SSLContext:
        """The context as the files are now, or the last good one. Raises `ConfigurationError` if there was none."""
        try:
            return super().read()
        except (OSError, ValueError) as error:
            raise ConfigurationError((f"{self.place}: {error}",)) from error


def _make_client_context(tls: DirectoryTls, _contents: tuple[bytes, ...]) -> ssl.SSLContext:
    return client_context(
        tls.ca_file,
        tls.client_certificate_file,
        tls.client_key_file,
        minimum_version=tls.minimum_version,
        # Security: the very certificate is compared before anything is sent, which says more than who signed it.
        trusts_any=tls.fingerprint_sha256 is not None and tls.ca_file is None,
    )


def make_source(
    loaded: Loaded,
    position: int,
    observe: Observer,
    *,
    clock: Clock | None = None,
    refused: RefusedSecrets | None = None,
) -> DirectorySource:
    """The directory at `position`, ready to be asked; `refused` is shared by whatever binds as the same accounts."""
    clock = clock or SystemClock()
    configuration = loaded.configuration
    section = configuration.directories[position]
    return DirectorySource(
        directory=LdapDirectory(ldap_settings(loaded, position), observe, clock, refused=refused),
        users_filter=section.users_filter,
        attribute_map=section.attribute_map,
        bases=section.users.bases,
        container=section.users_container,
        scope=_SCOPES[section.users.scope],
        login_template=section.login_template,
        list_disabled=section.disabled_accounts == "list",
        groups=section.group_rules,
        password_changed=section.password_changed,
        lockout=section.lockout_rules,
        failure_marks=section.failure_marks,
        groups_ttl_s=configuration.cache.ttl_s,
        min_user_count=configuration.removals_of(section).min_users,
        clock=clock,
    )


def require_directories(loaded: Loaded, names: Collection[str]) -> None:
    """Raise `ConfigurationError` where a secret, a certificate or a key can't be had that these directories need."""
    positions = [at for at, section in enumerate(loaded.configuration.directories) if section.name in names]
    loaded.require(*(("directories", position) for position in positions))
    read_contexts(loaded, positions)


def read_contexts(loaded: Loaded, positions: Iterable[int]) -> None:
    """Make what these directories begin TLS with. Raises `ConfigurationError`."""
    for position in positions:
        if isinstance(tls := ldap_settings(loaded, position).tls, Renewed):
            tls.read()


def require_endpoint(loaded: Loaded, path: str) -> None:
    """Raise `ConfigurationError` where the directories of an endpoint need what can't be had."""
    configuration = loaded.configuration
    for endpoint in configuration.endpoints:
        if endpoint.path == path:
            require_directories(loaded, configuration.directories_of(endpoint))


def snapshot_policy(configuration: Configuration, position: int) -> SnapshotPolicy:
    """For how long the directory at `position` is answered from a listing, and what may be missing from the next."""
    return configuration.cache.build(configuration.removals_of(configuration.directories[position]))


def make_bridge(loaded: Loaded, observe: Observer, store: SnapshotStore, clock: Clock | None = None) -> Bridge:
    """The bridge of a configuration, over a store that the caller closes; nothing is connected yet."""
    configuration = loaded.configuration
    endpoints = {endpoint.path: configuration.directories_of(endpoint) for endpoint in configuration.endpoints}
    clock = clock or SystemClock()
    refused = RefusedSecrets(clock)
    sources = [
        (make_source(loaded, position, observe, clock=clock, refused=refused), snapshot_policy(configuration, position))
        for position in range(len(configuration.directories))
    ]
    return Bridge(
        endpoints,
        sources,
        store=store,
        clock=clock,
        make_token=lambda: f"mailstore-bridge-{secrets.token_hex(16)}",
        observe=observe,
        binds=make_binds(configuration.auth, clock, find_realms(configuration.directories)),
    )


def make_binds(auth: AuthSection, clock: Clock, realms: Mapping[str, str]) -> UserBinds:
    """What guards the user binds of every directory."""
    throttle = MemoryThrottle(auth.build(), secrets.token_bytes(32), clock, realms)
    budgets = Budgets(throttle, clock, max_failure_count=auth.max_failures, window_s=auth.window_s)
    return UserBinds(throttle, LoginHealth(clock), budgets, fast_refusals=auth.fast_refusals)


def make_callers(loaded: Loaded, limits: WebLimits) -> dict[str, Callers]:
    """Who may ask at each endpoint; the key is new with every configuration. Their passwords must be there."""
    key, troublemakers = secrets.token_bytes(32), Troublemakers()
    found = {}
    for position, endpoint in enumerate(loaded.configuration.endpoints):
        passwords: dict[str, SecretFile | str] = {}
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
