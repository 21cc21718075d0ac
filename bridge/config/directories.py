"""The keys of one directory, and what its preset adds to them."""

from __future__ import annotations

import difflib
import re
from dataclasses import fields
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, SecretStr, WithJsonSchema, model_validator

from bridge.config.presets import Preset, load_preset, preset_names
from bridge.config.schema import (
    AdminSection,
    AuthSection,
    CacheSection,
    DurationS,
    EndpointSection,
    FaultError,
    LogSection,
    RemovalsSection,
    Section,
    ServerSection,
    StateSection,
    Words,
    as_listed,
    as_tuple,
)
from bridge.config.values import ServerUrl, parse_domain, parse_fingerprint, parse_name_server, parse_server_url
from bridge.deadlines import LIST_ANSWER_S, LOGIN_S
from bridge.ldap.settings import DiscoverySettings, LdapSettings
from bridge.mapping import AddressRules, AttributeMap, IdForm, MappingError, parse_item
from bridge.mapping.addresses import fold_domain
from bridge.sources.directory.groups import GroupRules, GroupWay
from bridge.syntax.attributes import is_attribute_description
from bridge.syntax.dn import DNError, dn_key, parse_dn
from bridge.syntax.filters import And, Filter, FilterError, FilterTemplate, parse_filter, parse_filter_template

if TYPE_CHECKING:
    from bridge.sources.directory.lockout import LockoutRule

Server = Annotated[
    ServerUrl,
    BeforeValidator(parse_server_url),
    PlainSerializer(lambda url: f"{url.scheme}://{url.host}:{url.port}"),
    WithJsonSchema({"type": "string", "examples": ["ldaps://ldap.example.com", "ldapi:///run/slapd/ldapi"]}),
]


def _check_item(text: str) -> str:
    try:
        parse_item(text)
    except MappingError as error:
        raise ValueError(f"is no item of the mapping: {error}") from error
    return text


def _check_dn(text: str) -> str:
    try:
        parse_dn(text)
    except DNError as error:
        raise ValueError(f"is no distinguished name: {error}") from error
    return text


def _check_group(text: str) -> str:
    if len(parse_dn(_check_dn(text))) == 1:
        raise ValueError("must be the whole DN of a group, in quotation marks, as commas separate what is in a list")
    return text


def _check_filter(text: str) -> str:
    try:
        parse_filter(text)
    except FilterError as error:
        raise ValueError(f"is no filter: {error}") from error
    return text


def _check_template(text: str) -> str:
    try:
        parse_filter_template(text)
    except FilterError as error:
        raise ValueError(f"is no filter for one user, such as (uid={{user}}): {error}") from error
    return text


def _check_preset(name: str) -> str:
    if name not in preset_names():
        near = difflib.get_close_matches(name, preset_names(), n=1)
        meant = f' (did you mean "{near[0]}"?)' if near else ""
        raise ValueError(f"must be one of {', '.join(preset_names())}{meant}")
    return name


def _check_name(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", text) is None:
        raise ValueError("must hold letters, digits, _ and - only, and begin with a letter or digit")
    return text


def _check_attribute(text: str) -> str:
    if not is_attribute_description(text):
        raise ValueError("must be the name of an attribute")
    return text


Items = Annotated[
    tuple[Annotated[str, AfterValidator(_check_item)], ...], BeforeValidator(as_tuple), Field(min_length=1)
]
Fingerprint = Annotated[
    str,
    BeforeValidator(parse_fingerprint),
    WithJsonSchema({"type": "string", "pattern": r"^([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$"}),
]
DistinguishedName = Annotated[str, AfterValidator(_check_dn)]
GroupName = Annotated[str, Field(min_length=1), AfterValidator(_check_group)]


def _check_site(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_-]{1,63}", text) is None:
        raise ValueError("must hold letters, digits, _ and - only")
    return text


DomainName = Annotated[str, BeforeValidator(parse_domain)]
NameServer = Annotated[
    tuple[str, int],
    BeforeValidator(parse_name_server),
    WithJsonSchema({"type": "string", "examples": ["192.0.2.53", "[2001:db8::53]:5353"]}),
]


class DiscoverSection(Section):
    """Where the servers are, by the DNS."""

    domain: DomainName = Field(description="The domain with the records _ldaps._tcp or _ldap._tcp.")
    scheme: Literal["ldaps", "ldap"] | None = Field(
        None, description="Which records count; default: ldaps where there are some, otherwise ldap with StartTLS."
    )
    site: Annotated[str, AfterValidator(_check_site)] | None = Field(
        None, description="A site of Active Directory, whose servers come first."
    )
    allow_domains: Annotated[tuple[DomainName, ...], BeforeValidator(as_tuple)] = Field(
        (), description="Other domains in which servers may lie."
    )
    nameservers: Annotated[tuple[NameServer, ...], BeforeValidator(as_tuple)] = Field(
        (), description="Who is asked; default: the name servers of the system."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.site is not None and self.scheme == "ldaps":
            raise FaultError("scheme", "ldaps has no records of sites; remove it, and StartTLS is used")
        return self

    def build(self, *, start_tls: bool, timeout_s: float) -> DiscoverySettings:
        """Return how the servers are found; `timeout_s` is for one question."""
        return DiscoverySettings(
            domain=self.domain,
            scheme=self.scheme,
            start_tls=start_tls,
            site=self.site,
            allowed_domains=self.allow_domains,
            nameservers=self.nameservers,
            timeout_s=timeout_s,
        )


class DirectoryTls(Section):
    """How the certificates of the servers are checked."""

    ca_file: str | None = Field(None, description="The authorities that are trusted; default: those of the system.")
    fingerprint_sha256: Annotated[tuple[Fingerprint, ...], BeforeValidator(as_tuple)] | None = Field(
        None,
        min_length=1,
        description="The servers' own certificates; without ca_file, nothing else of them is checked then.",
    )
    client_certificate_file: str | None = Field(None, description="A certificate to show to the servers.")
    client_key_file: str | None = Field(None, description="Its private key.")
    minimum_version: Literal["1.2", "1.3"] = Field("1.2", description="The oldest TLS version that is spoken.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.client_certificate_file is None) != (self.client_key_file is None):
            raise ValueError("needs client_certificate_file and client_key_file together, or neither")
        return self


class BindSection(Section):
    """The service account, which searches."""

    method: Literal["simple", "anonymous", "external", "gssapi"] = Field(
        "simple", description="How the service account binds."
    )
    dn: str | None = Field(None, min_length=1, description="Its DN; Active Directory takes user@domain, too.")
    password_file: str | None = Field(None, description="A file that holds its password.")
    password_credential: str | None = Field(None, description="The name of a systemd credential.")
    password: SecretStr | None = Field(None, min_length=1, description="The password itself.")
    principal: str | None = Field(None, min_length=1, description="For gssapi: its Kerberos principal.")
    keytab: str | None = Field(None, min_length=1, description="For gssapi: the file with the principal's key.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [self.password_file, self.password_credential, self.password]
        count = sum(value is not None for value in given)
        kerberos = (self.principal, self.keytab)
        if self.method != "gssapi" and kerberos != (None, None):
            raise FaultError("method", f"{self.method} takes neither principal nor keytab; they are for gssapi")
        if self.method == "gssapi" and None in kerberos:
            raise ValueError("needs principal and keytab for gssapi")
        if self.method != "simple":
            if count or self.dn is not None:
                raise FaultError("method", f"{self.method} takes neither dn nor password; remove them, or bind simple")
        elif self.dn is None or count != 1:
            raise ValueError("needs dn and exactly one of password_file, password_credential and password")
        return self


def _default(name: str) -> Any:
    """The default of a field of `LdapSettings`."""
    return next(each.default for each in fields(LdapSettings) if each.name == name)


class TimeoutsSection(Section):
    """How long is waited. Each is a total, and ends before the one around it: so the message says what was slow."""

    connect_s: DurationS = Field(
        _default("connect_timeout_s"), alias="connect", description="For a connection with TLS and bind."
    )
    request_s: DurationS = Field(
        _default("request_timeout_s"), alias="request", description="For a look-up, and for a user bind."
    )
    listing_s: DurationS = Field(
        _default("listing_timeout_s"), alias="listing", description="For a listing of all users."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.connect_s >= self.request_s:
            raise FaultError("connect", "must be shorter than request, inside of which it is waited")
        if 2 * self.request_s >= LOGIN_S:
            sentence = f"must be shorter than {LOGIN_S / 2:g}s: a login is a look-up and a bind, and has {LOGIN_S:g} s"
            raise FaultError("request", sentence)
        if not self.request_s < self.listing_s < LIST_ANSWER_S:
            sentence = f"must be longer than request and shorter than {LIST_ANSWER_S:g}s, for which a list is waited"
            raise FaultError("listing", sentence)
        return self


class PoolSection(Section):
    """Connections for look-ups and user binds."""

    size: int = Field(_default("bind_connection_count"), ge=1, le=1000, description="User binds at once.")
    idle_s: DurationS = Field(_default("idle_s"), alias="idle", description="How long an unused connection is kept.")
    max_age_s: DurationS = Field(
        _default("max_age_s"), alias="max_age", description="How old a connection may become, a fifth more or less."
    )
    queue: int = Field(
        _default("queue_limit_count"), ge=0, le=100_000, description="Requests that may wait; more are turned away."
    )
    reuse_binds: bool = Field(
        _default("reuse_bind_connections"), description="Whether a connection is bound again for the next user."
    )


class GroupsSection(Section):
    """Groups by which users are chosen."""

    include: Annotated[tuple[GroupName, ...], BeforeValidator(as_tuple)] = Field(
        (), description="DNs of groups; users are in at least one of them. Default: everybody."
    )
    exclude: Annotated[tuple[GroupName, ...], BeforeValidator(as_tuple)] = Field(
        (), description="DNs of groups; users are in none of them."
    )
    nested: bool = Field(True, description="Whether members of groups inside of these groups are in them.")
    way: Literal["member_of", "in_chain", "members"] | None = Field(
        None, description="How members are found: by memberOf, by the matching rule IN_CHAIN, by reading the groups."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.include or self.exclude):
            raise ValueError("needs include or exclude, with the DN of a group")
        included = {dn_key(dn) for dn in self.include}
        for dn in self.exclude:
            if dn_key(dn) in included:
                raise FaultError("exclude", f"has {dn}, which is in include, too; remove it from one of them")
        if self.way == "in_chain" and not self.nested:
            raise FaultError("way", "in_chain follows groups in groups; take another way, or set nested: true")
        return self


class UsersSection(Section):
    """Which entries are users."""

    bases: Annotated[tuple[DistinguishedName, ...], BeforeValidator(as_tuple)] = Field(
        (), description="Where they are; default: the directory's naming context."
    )
    scope: Literal["subtree", "one"] = Field("subtree", description="subtree: however deep; one: directly below.")
    filter: Annotated[str, AfterValidator(_check_filter)] | None = Field(
        None, description="A filter that counts beside the preset's."
    )
    groups: GroupsSection | None = Field(None, description="Only members of these groups, or all but them.")


class AttributesSection(Section):
    """What users are made of; anything stated replaces the preset's value."""

    id: Annotated[str, AfterValidator(_check_attribute)] | None = Field(None, description="What never changes.")
    user_name: Items | None = Field(None, alias="userName", description="The first that is not empty counts.")
    full_name: Items | None = Field(None, alias="fullName", description="The first that is not empty counts.")
    email_addresses: Items | None = Field(None, alias="emailAddresses", description="All of them, in order.")


_ADDRESSES = AddressRules()


class EmailsSection(Section):
    """Which addresses are taken."""

    domains: Words = Field((), description="Only addresses in these domains; default: all.")
    lowercase: bool = Field(_ADDRESSES.lowercase, description="Whether addresses are written in lower case.")
    require: bool = Field(_ADDRESSES.require, description="Whether somebody without an address is left out.")

    def build(self) -> AddressRules:
        """Return which addresses are taken."""
        return AddressRules(frozenset(map(fold_domain, self.domains)), self.lowercase, self.require)


def _let_be_a_word(schema: dict[str, Any]) -> None:
    schema["anyOf"].insert(0, {"type": "string"})


def _as_domain(value: object) -> object:
    return {"domain": value} if isinstance(value, str) else value


class DirectorySection(Section):
    """One directory: its servers, its users."""

    name: Annotated[str, AfterValidator(_check_name)] = Field(description="What it is called in logs and messages.")
    preset: Annotated[str, AfterValidator(_check_preset)] = Field(description="The vendor, such as openldap.")
    servers: Annotated[tuple[Server, ...], BeforeValidator(as_listed), Field(min_length=1)] = Field(
        (), description="In order of preference."
    )
    discover: Annotated[DiscoverSection | None, BeforeValidator(_as_domain)] = Field(
        None,
        description="Instead of servers: the domain whose DNS names them.",
        json_schema_extra=_let_be_a_word,
    )
    starttls: Literal["required", "off"] | None = Field(
        None, description="For ldap://; default: required, except on loopback and ldapi."
    )
    allow_plaintext: bool = Field(False, description="Whether passwords may cross the network unencrypted.")
    tls: DirectoryTls = Field(DirectoryTls(), description="How certificates are checked.")
    bind: BindSection = Field(description="The service account.")
    timeouts: TimeoutsSection = Field(TimeoutsSection(), description="How long is waited.")
    pool: PoolSection = Field(PoolSection(), description="Connections for look-ups and user binds.")
    page_size: int = Field(
        _default("page_size_count"), ge=1, le=100_000, description="Entries that are asked for at once."
    )
    referrals: Literal["error", "ignore"] = Field(
        "error", description="Never followed. ignore leaves out what they lead to; error refuses such a list."
    )
    users: UsersSection = Field(UsersSection(), description="Which entries are users.")
    attributes: AttributesSection = Field(AttributesSection(), description="What users are made of.")
    emails: EmailsSection = Field(EmailsSection(), description="Which addresses are taken.")
    login_filter: Annotated[str, AfterValidator(_check_template)] | None = Field(
        None, description="Who is meant by {user}; default: made from userName."
    )
    disabled_accounts: Literal["exclude", "list"] = Field("exclude", description="list: listed, but can't log in.")
    removals: RemovalsSection | None = Field(None, description="Instead of the removals for all.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.servers) == (self.discover is not None):
            sentence = (
                "stands beside discover; remove one of them" if self.servers else "is missing: In order of preference"
            )
            raise FaultError("servers", sentence)
        in_clear = [server for server in self.possible_servers if not self.uses_tls(server)]
        crosses_network = self.discover is not None or not all(server.is_local for server in in_clear)
        if not self.allow_plaintext and in_clear and crosses_network:
            raise FaultError(
                "starttls", "off would send passwords in clear text; use TLS, or set allow_plaintext: true"
            )
        if self.starttls == "required" and all(server.scheme != "ldap" for server in self.possible_servers):
            raise FaultError("starttls", "is for ldap:// and no server has that scheme; remove it")
        if self.tls.fingerprint_sha256 is not None and in_clear:
            raise FaultError("tls", f"has fingerprint_sha256, which nothing checks at {in_clear[0]} without TLS")
        self._check_method()
        if self.preset == "custom" and self.users.filter is None:
            raise FaultError("users", "needs filter, as the preset custom knows none")
        groups = self.users.groups
        if groups is not None and groups.way == "member_of" and groups.nested and not self._member_of_is_nested:
            raise FaultError(
                "users",
                f"has groups.way member_of, which holds no groups in groups with the preset {self.preset}; "
                "set groups.nested: false, or take another way",
            )
        if not self.items("user_name"):
            raise FaultError("attributes", f"needs userName, as the preset {self.preset} knows none")
        return self

    def _check_method(self) -> None:
        kinds = [(server.scheme == "ldapi", self.uses_tls(server)) for server in self.possible_servers]
        has_certificate = self.tls.client_certificate_file is not None
        if self.bind.method == "external" and not all(
            is_socket or (uses_tls and has_certificate) for is_socket, uses_tls in kinds
        ):
            raise FaultError("bind", "external needs tls.client_certificate_file and TLS, or ldapi:// servers alone")
        if self.bind.method == "gssapi" and any(is_socket for is_socket, _ in kinds):
            raise FaultError("bind", "gssapi needs servers with a host name, as Kerberos knows them; ldapi:// has none")

    @property
    def possible_servers(self) -> tuple[ServerUrl, ...]:
        """The configured servers, or one of each kind that the DNS may name."""
        if self.discover is None:
            return self.servers
        schemes = ("ldaps", "ldap") if self.discover.scheme is None else (self.discover.scheme,)
        if self.discover.site is not None:
            schemes = ("ldap",)
        return tuple(ServerUrl(scheme, self.discover.domain, 0) for scheme in schemes)

    def uses_tls(self, server: ServerUrl) -> bool:
        """Whether what is sent to this server is encrypted, or stays in this machine's kernel."""
        return server.scheme != "ldap" or self.uses_starttls(server)

    def uses_starttls(self, server: ServerUrl) -> bool:
        """Whether TLS is begun by StartTLS on this server."""
        if server.scheme != "ldap" or self.starttls == "off":
            return False
        return self.starttls == "required" or self.discover is not None or not server.is_local

    @cached_property
    def _preset(self) -> Preset:
        return load_preset(self.preset)

    @property
    def _member_of_is_nested(self) -> bool:
        """Whether memberOf holds groups in groups; with the preset custom the administrator has to know."""
        return self.preset == "custom" or self._preset.groups.nested is GroupWay.MEMBER_OF

    @property
    def group_rules(self) -> GroupRules | None:
        """The groups that choose users, and the way to find their members."""
        groups, preset = self.users.groups, self._preset.groups
        if groups is None:
            return None
        way = GroupWay(groups.way) if groups.way else preset.nested if groups.nested else preset.direct
        return preset.build(groups.include, groups.exclude, way, nested=groups.nested)

    @property
    def users_filter(self) -> Filter:
        """The preset's filter and the configured one."""
        own = parse_filter(self._preset.users_filter)
        return And((own, parse_filter(self.users.filter))) if self.users.filter else own

    def items(self, name: Literal["user_name", "full_name", "email_addresses"]) -> tuple[str, ...]:
        """The items of one mapping: the configured ones, or the preset's."""
        configured: tuple[str, ...] | None = getattr(self.attributes, name)
        preset: tuple[str, ...] = getattr(self._preset.attributes, name)
        return preset if configured is None else configured

    @property
    def attribute_map(self) -> AttributeMap:
        """The mapping, parsed."""
        return AttributeMap(
            id_attribute=self.attributes.id or self._preset.id,
            id_form=self._id_form,
            user_name=tuple(map(parse_item, self.items("user_name"))),
            full_name=tuple(map(parse_item, self.items("full_name"))),
            email_addresses=tuple(map(parse_item, self.items("email_addresses"))),
            addresses=self.emails.build(),
            account_states=tuple(state.build() for state in self._preset.account_states),
        )

    @property
    def _id_form(self) -> IdForm:
        own, preset = self.attributes.id, self._preset
        is_presets = own is None or preset.id is None or own.lower() == preset.id.lower()
        return preset.id_form if is_presets else IdForm.TEXT

    @property
    def password_changed(self) -> tuple[str, ...]:
        """The attributes that take another value when a password is set."""
        return self._preset.password_changed

    @property
    def lockout_rules(self) -> tuple[LockoutRule, ...]:
        """Where the directory shows when it locks accounts."""
        return tuple(rule.build() for rule in self._preset.lockout)

    @property
    def failure_marks(self) -> tuple[str, ...]:
        """The attributes that take another value when the server counts a failed bind."""
        return self._preset.failure_marks

    @property
    def users_container(self) -> str | None:
        """Where users are below the naming context, if no base is configured."""
        return self._preset.users_container

    @property
    def ignored_references(self) -> tuple[str, ...]:
        """The first RDNs of partitions in which nobody is a person."""
        return self._preset.ignored_references

    @property
    def repeats_cookies(self) -> bool:
        """Whether the server hands out one cookie for all pages."""
        return self._preset.repeats_cookies

    @property
    def login_template(self) -> FilterTemplate | None:
        """The filter that finds one user, or None where userName is composed."""
        text = self.login_filter or self._preset.login_filter
        if text is None:
            attribute = self.attribute_map.user_name_attribute
            if attribute is None:
                return None
            text = f"({attribute}={{user}})"
        return parse_filter_template(text)


class Configuration(Section):
    """The whole file."""

    server: ServerSection = Field(ServerSection(), description="Where MailStore reaches the bridge.")
    admin: AdminSection = Field(AdminSection(), description="Health and metrics.")
    state: StateSection = Field(StateSection(), description="What outlives the process.")
    log: LogSection = Field(LogSection(), description="What is logged.")
    endpoints: Annotated[tuple[EndpointSection, ...], BeforeValidator(as_listed), Field(min_length=1)] = Field(
        description="One for each MailStore instance."
    )
    directories: Annotated[tuple[DirectorySection, ...], BeforeValidator(as_listed), Field(min_length=1)] = Field(
        description="Where users come from."
    )
    cache: CacheSection = Field(CacheSection(), description="How long a listing is good for.")
    removals: RemovalsSection = Field(RemovalsSection(), description="When a listing is not believed.")
    auth: AuthSection = Field(AuthSection(), description="How wrong passwords are kept from locking accounts.")

    def removals_of(self, directory: DirectorySection) -> RemovalsSection:
        """The directory's own rules for removals, or those of all."""
        return directory.removals or self.removals

    def directories_of(self, endpoint: EndpointSection) -> tuple[str, ...]:
        """The names of an endpoint's directories, the first ones first."""
        if endpoint.directories is None:
            return tuple(directory.name for directory in self.directories)
        return endpoint.directories
