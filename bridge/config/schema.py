"""The keys of the configuration as frozen types; a key stands here when it works.

Sections check themselves; `bridge.config.loading` turns what they find into messages with lines.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)

from bridge.authentication.memories import ThrottleRules
from bridge.config.values import ListenAddress, parse_duration_s, parse_listen_address
from bridge.removals.model import RemovalPolicy
from bridge.snapshots.policy import SnapshotPolicy
from bridge.sources.directory.lockout import budget_of

_SNAPSHOTS, _THROTTLE, _REMOVALS = SnapshotPolicy(), ThrottleRules(), RemovalPolicy()
"""Where the defaults are said."""


class FaultError(ValueError):
    """A fault of one key inside the section that found it."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


class Section(BaseModel):
    """A mapping of the configuration file: strict, frozen, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)


def as_tuple(value: Any) -> Any:
    """One item or a list of items, as a tuple."""
    if isinstance(value, list):
        return tuple(value)
    return value if value is None or isinstance(value, dict | tuple) else (value,)


def as_listed(value: Any) -> Any:
    """A list as a tuple."""
    return tuple(value) if isinstance(value, list) else value


Words = Annotated[tuple[str, ...], BeforeValidator(as_tuple)]
"""One word or a list of words."""

DurationS = Annotated[
    float,
    BeforeValidator(parse_duration_s),
    PlainSerializer(lambda seconds: f"{seconds:g}s"),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?(ms|s|m|h|d)$", "examples": ["90s", "5m", "24h"]}),
]

Listen = Annotated[
    ListenAddress,
    BeforeValidator(parse_listen_address),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "examples": ["127.0.0.1:8080", "[::1]:8080", "unix:/run/bridge.sock"]}),
]


class ListenerTls(Section):
    """HTTPS of the listener."""

    certificate_file: str = Field(description="The certificate with its chain, in PEM.")
    key_file: str = Field(description="The private key, in PEM.")
    minimum_version: Literal["1.2", "1.3"] = Field("1.2", description="The oldest TLS version that is spoken.")


class ServerSection(Section):
    """Where MailStore reaches the bridge."""

    listen: Annotated[tuple[Listen, ...], BeforeValidator(as_tuple), Field(min_length=1)] = Field(
        (ListenAddress("127.0.0.1", 8080),), description="host:port, [v6]:port or unix:/path; several in a list."
    )
    tls: ListenerTls | None = Field(None, description="Serve HTTPS; taken anew when the files change.")
    answer_content_type: Literal["application/json", "text/json"] = Field(
        "application/json", description="The content type of answers to MailStore."
    )


def _parse_admin_listen(value: object) -> object:
    return None if value == "off" else parse_listen_address(value)


class AdminSection(Section):
    """Health and metrics, for this machine."""

    listen: Annotated[
        ListenAddress | None,
        BeforeValidator(_parse_admin_listen),
        WithJsonSchema({"type": "string", "examples": ["127.0.0.1:9080", "off"]}),
    ] = Field(ListenAddress("127.0.0.1", 9080), description="Where /healthz, /readyz and /metrics are; off: nowhere.")
    socket: str | None = Field(
        None,
        min_length=1,
        description="For the command line; default: control.sock in $RUNTIME_DIRECTORY, or in the state directory.",
    )


class LogSection(Section):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least that is logged.")
    format: Literal["auto", "json", "text"] = Field("auto", description="auto: JSON unless on a terminal.")
    usernames: bool = Field(True, description="Whether people may be named in the log, and servers quoted.")


class CallerSection(Section):
    """Who may ask: the credentials that are entered in MailStore."""

    username: str = Field(min_length=1, description="The user name of MailStore's requests.")
    password_hash: str | None = Field(None, description="An argon2id hash; `mailstore-bridge hash-password` makes it.")
    password_file: str | None = Field(None, description="A file that holds the password.")
    password_credential: str | None = Field(None, description="The name of a systemd credential.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [self.password_hash, self.password_file, self.password_credential]
        if sum(value is not None for value in given) != 1:
            raise ValueError("needs exactly one of password_hash, password_file and password_credential")
        if self.password_hash is not None and not self.password_hash.startswith("$argon2id$"):
            raise FaultError("password_hash", "must be an argon2id hash; `mailstore-bridge hash-password` makes one")
        if ":" in self.username:
            raise FaultError("username", "can't hold a colon, which ends the user name in HTTP Basic (RFC 7617 §2)")
        return self


def _check_path(text: str) -> str:
    if re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", text) is None:
        raise ValueError("must begin with a slash, end without one, and hold letters, digits and .~_- between slashes")
    return text


def _parse_network(value: object) -> object:
    if value == "unix":
        return value
    try:
        return ipaddress.ip_network(value if isinstance(value, str) else "")
    except ValueError as error:
        inside = "has bits beyond its length" if "host bits" in str(error) else "is none"
        raise ValueError(f"must be a network such as 192.0.2.0/24, an address, or unix; it {inside}") from error


Network = Annotated[
    ipaddress.IPv4Network | ipaddress.IPv6Network | Literal["unix"],
    BeforeValidator(_parse_network),
    WithJsonSchema({"type": "string", "examples": ["192.0.2.0/24", "2001:db8::/32", "unix"]}),
]
Networks = Annotated[tuple[Network, ...], BeforeValidator(as_tuple), Field(min_length=1)]


class EndpointSection(Section):
    """One address for one MailStore instance."""

    path: Annotated[str, AfterValidator(_check_path)] = Field(
        description="The path of the address, such as /mailstore."
    )
    callers: Annotated[tuple[CallerSection, ...], BeforeValidator(as_listed), Field(min_length=1)] = Field(
        description="Who may ask."
    )
    allow_from: Networks | None = Field(
        None, description="From where: networks and addresses, and `unix` for a Unix socket; default: everywhere."
    )
    directories: Words | None = Field(None, description="Names of directories, the first ones first; default: all.")


class CacheSection(Section):
    """How long a listing is good for."""

    ttl_s: DurationS = Field(_SNAPSHOTS.ttl_s, alias="ttl", description="A younger listing is answered from memory.")
    stale_if_error_s: DurationS = Field(
        _SNAPSHOTS.stale_if_error_s,
        alias="stale_if_error",
        description="A younger listing is answered while the directory fails.",
    )
    refresh_ahead: bool = Field(True, description="Renew listings before they expire, so that nobody waits.")

    def build(self, removals: RemovalsSection) -> SnapshotPolicy:
        """Return the rules for the snapshots of a directory that has these rules for removals."""
        return SnapshotPolicy(self.ttl_s, self.stale_if_error_s, removals=removals.build())


def _parse_failures(value: object) -> object:
    if value is None or (isinstance(value, str) and value != "auto"):
        raise ValueError("must be auto, or a whole number")
    return None if value == "auto" else value


MaxFailures = Annotated[
    int | None,
    Field(ge=1, le=100),
    BeforeValidator(_parse_failures),
    PlainSerializer(lambda count: "auto" if count is None else count),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 100}]}),
]
"""None is `auto`."""


class AuthSection(Section):
    """How wrong passwords are kept from locking accounts."""

    remember_failures_s: DurationS = Field(
        _THROTTLE.remember_failures_s,
        alias="remember_failures",
        description="A wrong password is refused again without a bind; 0s: never.",
    )
    max_failures: MaxFailures = Field(
        None,
        description="Different wrong passwords of one user; after that many there are no binds. "
        "auto: one below what locks accounts in the directory, at most 4.",
        json_schema_extra={"default": "auto"},
    )
    window_s: DurationS = Field(
        _THROTTLE.window_s, alias="window", description="How long after the last wrong one they count."
    )
    remember_successes_s: DurationS = Field(
        _THROTTLE.remember_successes_s,
        alias="remember_successes",
        description="A right password is accepted again without a bind; 0s: never.",
    )
    fast_refusals: bool = Field(
        False, description="Refuse without waiting as long as a bind takes; time then tells who exists."
    )

    def build(self) -> ThrottleRules:
        """Return what counts until a directory has shown its own rules."""
        return ThrottleRules(
            remember_failures_s=self.remember_failures_s,
            max_failure_count=budget_of(self.max_failures, None),
            window_s=self.window_s,
            remember_successes_s=self.remember_successes_s,
        )


class RemovalsSection(Section):
    """When a listing that lacks users is not believed."""

    max_percent: float = Field(
        _REMOVALS.max_percent, ge=0, le=100, description="More removals than this part of the users are withheld, …"
    )
    max_count: int = Field(_REMOVALS.max_count, ge=0, description="… if they are more than this in number, too.")
    window_s: DurationS = Field(
        _REMOVALS.window_s, alias="window", description="Removals within this time count together."
    )
    on_trip: Literal["withhold", "refuse"] = Field(
        "refuse" if _REMOVALS.refuse else "withhold",
        description="withhold: the removals don't happen, the rest does; refuse: 503.",
    )
    grace_s: DurationS = Field(
        _REMOVALS.grace_s, alias="grace", description="How long a missing user stays in the answer anyway."
    )
    min_users: int = Field(0, ge=0, description="Fewer users than this are never right.")
    allow_empty: bool = Field(_REMOVALS.allow_empty, description="Whether no users at all may be right.")
    keep_user_names: bool = Field(
        _REMOVALS.keep_user_names, description="Whether users keep the name under which they were first listed."
    )

    def build(self) -> RemovalPolicy:
        """Return how much may be lost without asking."""
        return RemovalPolicy(
            max_percent=self.max_percent,
            max_count=self.max_count,
            window_s=self.window_s,
            refuse=self.on_trip == "refuse",
            grace_s=self.grace_s,
            allow_empty=self.allow_empty,
            keep_user_names=self.keep_user_names,
        )


class StateSection(Section):
    """Where the last accepted listings are kept."""

    directory: str = Field(
        "/var/lib/mailstore-bridge", min_length=1, description="$STATE_DIRECTORY of systemd wins over this."
    )
