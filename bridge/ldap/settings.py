"""What the LDAP engine must be told of one directory, and the limits that it keeps whatever a server sends.

Values only; the composition root fills them from the configuration.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bridge.ldap.host_names import HostNames
from bridge.syntax.hosts import join_host_port

if TYPE_CHECKING:
    import ssl

    from bridge.model import Secret
    from bridge.renewal import Renewed


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """One server of a directory and how it is reached."""

    scheme: str
    """`ldap`, `ldaps` or `ldapi`."""
    host: str
    """A name in A-labels without a dot at its end, or an address; for `ldapi` the path of the socket."""
    port: int
    """0 for `ldapi`."""
    start_tls: bool = False
    """Whether TLS is begun by StartTLS (RFC 4511 §4.14) before anything else is said; for `ldap` only."""

    addresses: tuple[str, ...] = field(default=(), compare=False)
    """The host's addresses where they are known; otherwise the system is asked for them."""
    is_absolute: bool = field(default=False, compare=False)
    """Whether the name was written with a dot at its end: then it is asked for as it stands first."""
    url: str = field(init=False, compare=False)
    """The address as an administrator writes it."""

    def __post_init__(self) -> None:
        place = self.host if self.scheme == "ldapi" else join_host_port(self.host, self.port)
        object.__setattr__(self, "url", f"{self.scheme}://{place}")

    @property
    def is_address(self) -> bool:
        """Whether the host is an address and no name."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True

    @property
    def tls_name(self) -> str:
        """What the server's certificate must be made out to: the host, for an address without its interface."""
        return self.host.partition("%")[0]

    @property
    def uses_tls(self) -> bool:
        """Whether what is sent is encrypted."""
        return self.scheme == "ldaps" or self.start_tls


@dataclass(frozen=True, slots=True)
class SaslSettings:
    """How the service account binds by SASL."""

    mechanism: str
    """`EXTERNAL` or `GSSAPI`."""
    principal: str = ""
    """Whose key is in the key table, for GSSAPI."""
    keytab: str = ""
    key: Renewed[Secret] | None = None
    """What the key table holds: another key is another chance for an account that was refused."""


@dataclass(frozen=True, slots=True)
class DiscoverySettings:
    """How the servers of a directory are found by DNS."""

    domain: str
    """In lower case, like every name here, and without a dot at its end."""
    scheme: str | None = None
    """`ldaps` or `ldap`; None takes `ldaps` where the domain has such servers."""
    start_tls: bool = True
    """Whether TLS is begun at `ldap` servers."""
    site: str | None = None
    """A site of Active Directory, whose servers come first."""
    allowed_domains: tuple[str, ...] = ()
    """Other domains in which servers may lie."""
    nameservers: tuple[tuple[str, int], ...] = ()
    """Addresses and ports of the name servers; those of the system where it is empty."""
    timeout_s: float = 3.0
    """For one question."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a hostile or broken server can't exceed; reaching one ends the connection or the listing with an error."""

    message_bytes: int = 16 * 1024 * 1024
    """One message; a group of 100,000 members has some 8 MB."""
    in_flight_bytes: int = 128 * 1024 * 1024
    """What has come for all that is in flight on one connection: a page, or some look-ups."""
    listing_bytes: int = 4 * 1024 * 1024 * 1024
    """All pages of one listing."""
    entry_count: int = 5_000_000
    """Entries of one listing: above the largest directory that MailStore could archive."""
    page_count: int = 100_000
    """Pages of one search, so that pages of one entry each come to an end."""
    reference_count: int = 1_000
    """Continuation references of one search."""
    range_count: int = 1_000
    """Further ranges that are asked for, for one attribute of one entry (MS-ADTS §3.1.1.3.1.3.3)."""
    lookups_in_flight_count: int = 50
    """Look-ups that share one connection: slapd drops connections that have 100 requests pending."""


@dataclass(frozen=True, slots=True)
class LdapSettings:
    """How one directory is asked."""

    directory: str
    servers: tuple[ServerAddress, ...]
    """In order of preference; empty where the DNS names them."""
    discovery: DiscoverySettings | None = None
    tls: ssl.SSLContext | Renewed[ssl.SSLContext] | None = None
    """Needed where a server uses TLS."""
    fingerprints: frozenset[bytes] = frozenset()
    """The SHA-256 of the certificates that servers may have; empty for any that `tls` takes."""
    ca_file: str | None = None
    """The file with the authorities that `tls` was made of, for messages; None for those of the system."""
    shows_certificate: bool = False
    """Whether `tls` has a certificate of ours, for messages."""
    minimum_tls_version: str = "1.2"
    """What `tls` asks for at least, for messages."""
    names: HostNames = field(default_factory=HostNames, compare=False, repr=False)
    """Asks the system for addresses, for this directory alone."""
    bind_dn: str | None = None
    """None binds nobody: the service connections stay anonymous."""
    bind_password: Secret | Renewed[Secret] | None = None
    sasl: SaslSettings | None = None
    """How the service account binds instead of with a DN and a password."""
    connect_timeout_s: float = 3.0
    """To be connected, with TLS and the service bind."""
    request_timeout_s: float = 4.0
    """For a look-up or a user bind in all, over every server that is tried."""
    listing_timeout_s: float = 80.0
    """For a whole listing."""
    bind_connection_count: int = 8
    """User binds at once, each on a connection of its own."""
    idle_s: float = 60.0
    """How long an unused connection is kept: firewalls forget those that are silent."""
    max_age_s: float = 900.0
    """How old a connection may become, a fifth more or less: names in the DNS move, binds end by themselves."""
    queue_limit_count: int = 64
    """Requests that wait for a connection; one more is turned away."""
    reuse_bind_connections: bool = True
    page_size_count: int = 1000
    ignore_references: bool = False
    ignored_references: tuple[str, ...] = ()
    """What is ignored anyway: continuation references to partitions whose first RDN is one of these."""
    repeats_cookies: bool = False
    """Whether the server hands out one cookie for all pages of a listing."""
    limits: Limits = field(default_factory=Limits)
