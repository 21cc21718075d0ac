"""Values that the configuration writes as words: durations, addresses to listen on, servers."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import idna

from bridge.syntax.hosts import join_host_port

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DEFAULT_PORTS = {"ldap": 389, "ldaps": 636}
_PORT_MAX = 65535
_DNS_PORT = 53
_DOMAIN_LENGTH = 253
_LABEL = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?")
_HOST_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_DOTS = ".\u3002\uff0e\uff61"
"""What stands for a dot in names (UTS #46 §4)."""


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """A server of a directory as it is configured; `host` is a path for `ldapi`."""

    scheme: str
    host: str
    port: int
    is_absolute: bool = False
    """Whether the name of the host has a dot at its end, which `host` leaves out."""

    def __str__(self) -> str:
        if self.scheme == "ldapi":
            return f"ldapi://{self.host}"
        return f"{self.scheme}://{join_host_port(self.host, self.port)}"

    @property
    def is_local(self) -> bool:
        """Whether what is sent stays on this machine."""
        return self.scheme == "ldapi" or is_loopback(self.host)


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where HTTP is served: a host and a port, or the path of a socket."""

    host: str
    port: int
    path: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.path is not None or is_loopback(self.host)

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return join_host_port(self.host, self.port)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine (RFC 6761 §6.3, RFC 1122 §3.2.1.3)."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")


def parse_duration_s(value: object) -> float:
    """Seconds. Raises `ValueError`."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("must be a number with a unit, such as 90s, 5m, 24h or 7d")
    return float(found[1]) * _SECONDS[found[2]]


def parse_server_url(value: object) -> ServerUrl:
    """A server such as `ldaps://dc1.example.com`. Raises `ValueError`."""
    if not isinstance(value, str) or "://" not in value:
        raise ValueError("must be an address such as ldaps://ldap.example.com")
    if value.startswith("ldapi://"):
        path = unquote(value.removeprefix("ldapi://"))
        if not path.startswith("/"):
            raise ValueError("must name a socket, such as ldapi:///run/slapd/ldapi")
        return ServerUrl("ldapi", path, 0)
    try:
        parts = urlsplit(value)
    except ValueError as error:  # brackets that don't match, and letters that stand for / or :
        raise ValueError("must hold a host and a port and nothing else") from error
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError("scheme must be ldap, ldaps or ldapi")
    if parts.username is not None or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("must hold a host and a port and nothing else")
    if not parts.hostname:
        raise ValueError("must name a host")
    try:
        port = parts.port
    except ValueError as error:
        raise ValueError(f"port must be a number up to {_PORT_MAX}") from error
    host = parse_host(parts.hostname)
    is_absolute = parts.hostname.endswith(tuple(_DOTS))
    return ServerUrl(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme], is_absolute)


def parse_host(text: str) -> str:
    """The name of a host as DNS and TLS have it, or an address in its usual form. Raises `ValueError`.

    Names are in lower case, in A-labels (IDNA 2008, RFC 5890 §2.3.2.1) and without the dot at their end.
    """
    if ":" in text:
        return _parse_ipv6(text)
    name = _to_ascii(text).removesuffix(".")
    try:
        return str(ipaddress.IPv4Address(name))
    except ValueError:
        pass
    if name.rpartition(".")[2].isdigit():
        raise ValueError("must name a host, or an address such as 192.0.2.1 or [2001:db8::1]")
    if len(name) > _DOMAIN_LENGTH or not all(_HOST_LABEL.fullmatch(label) for label in name.split(".")):
        raise ValueError("must name a host: letters, digits, - and _, at most 63 between two dots and 253 in all")
    return name


def _parse_ipv6(text: str) -> str:
    address, percent, interface = text.partition("%")
    try:
        found = ipaddress.IPv6Address(address).compressed
    except ValueError as error:
        raise ValueError("must name a host, or an address such as 192.0.2.1 or [2001:db8::1]") from error
    if len(interface) > len("25") and interface.startswith("25"):  # RFC 6874 §2
        interface = interface.removeprefix("25")
    return f"{found}{percent}{interface}"


def _to_ascii(name: str) -> str:
    """A name with its labels beyond ASCII as A-labels, in lower case. Raises `ValueError`."""
    if name.isascii() and "xn--" not in name.lower():
        return name.lower()
    try:
        mapped = idna.uts46_remap(name, std3_rules=False)
        labels = [
            label if label.isascii() and not label.startswith("xn--") else idna.alabel(label).decode("ascii")
            for label in mapped.split(".")
        ]
    except UnicodeError as error:
        raise ValueError(f"is no name of a host by IDNA 2008: {error}") from error
    return ".".join(labels)


def parse_domain(value: object) -> str:
    """A domain name in lower case, without the dot at its end. Raises `ValueError`."""
    name = _to_ascii(value).removesuffix(".") if isinstance(value, str) else ""
    if len(name) > _DOMAIN_LENGTH or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise ValueError("must be a domain such as example.com, letters beyond ASCII as xn--…")
    return name


def parse_name_server(value: object) -> tuple[str, int]:
    """The address and the port of a name server. Raises `ValueError`."""
    found = re.fullmatch(r"\[(.+)\]:(\d{1,5})|([^:]+):(\d{1,5})|(.+)", value) if isinstance(value, str) else None
    host, port = (found[1] or found[3] or found[5], int(found[2] or found[4] or _DNS_PORT)) if found else ("", 0)
    try:
        ipaddress.ip_address(host)
    except ValueError as error:
        raise ValueError(
            "must be an address, with a port or without: 192.0.2.53, 192.0.2.53:5353, [v6]:5353"
        ) from error
    if port > _PORT_MAX:
        raise ValueError(f"port must be a number up to {_PORT_MAX}")
    return host, port


def parse_fingerprint(value: object) -> str:
    """The SHA-256 of a certificate as 64 hexadecimal digits in lower case, colons left out. Raises `ValueError`."""
    digits = value.replace(":", "").lower() if isinstance(value, str) else ""
    if re.fullmatch(r"[0-9a-f]{64}", digits) is None:
        raise ValueError(
            "must be 64 hexadecimal digits, with colons or without; "
            "`openssl x509 -in FILE -noout -fingerprint -sha256` shows them"
        )
    return digits


def parse_listen_address(value: object) -> ListenAddress:
    """An address such as `127.0.0.1:8080`, `[::1]:8080` or `unix:/run/bridge.sock`. Raises `ValueError`."""
    wanted = "must be host:port, [v6]:port or unix:/path"
    if not isinstance(value, str):
        raise ValueError(wanted)  # noqa: TRY004 - a wrong value like any other, for whoever wrote it
    if value.startswith("unix:/"):
        return ListenAddress("", 0, value.removeprefix("unix:"))
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]/\s]+)):(\d{1,5})", value)
    if found is None or int(found[3]) > _PORT_MAX:
        raise ValueError(wanted)
    return ListenAddress(found[1] or found[2], int(found[3]))
