"""A bridge in front of scripted servers, for tests of logins; and the answers that servers give to user binds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from bridge.authentication.memories import ThrottleRules
from bridge.demo import wire
from bridge.demo.server import Session
from bridge.events import Event
from bridge.ldap import messages
from bridge.ldap.directory import LdapDirectory
from bridge.ldap.settings import LdapSettings, ServerAddress
from bridge.mapping import AccountState, AttributeMap, parse_item
from bridge.model import Accepted, Rejection, Secret
from bridge.service import Bridge
from bridge.snapshots.memory_store import MemorySnapshotStore
from bridge.snapshots.policy import SnapshotPolicy
from bridge.sources.directory.source import DirectorySource
from bridge.syntax import ber
from bridge.syntax.filters import parse_filter, parse_filter_template
from tests.faults.server import FaultyServer, OnBind
from tests.support.binds import make_binds
from tests.support.manual_clock import ManualClock
from tests.support.slapd import PEOPLE, READER, READER_PASSWORD

STATES = (AccountState(Rejection.ACCOUNT_DISABLED, "pwdAccountLockedTime", equals="000001010000Z"),)


class Setting:
    """A bridge whose endpoint `/m` has all directories, named a, b, c."""

    def __init__(self, bridge: Bridge, events: list[Event], clock: ManualClock) -> None:
        self.bridge, self.events, self.clock = bridge, events, clock

    async def auth(self, user: str, password: str | bytes) -> Rejection | str:
        """The directory that accepts, or the reason of the rejection."""
        data = password.encode() if isinstance(password, str) else password
        verdict = await self.bridge.authenticate("/m", user, Secret(data))
        return verdict.directory if isinstance(verdict, Accepted) else verdict.reason


def source(
    servers: Sequence[FaultyServer], name: str, clock: ManualClock, *, bind_connection_count: int = 8, **options: object
) -> DirectorySource:
    """A directory with these servers, the first one preferred."""
    limits = {"request_timeout_s": 2.0, "connect_timeout_s": 2.0, "bind_connection_count": bind_connection_count}
    settings = LdapSettings(
        name,
        tuple(ServerAddress("ldap", "127.0.0.1", server.port) for server in servers),
        bind_dn=READER,
        bind_password=Secret(READER_PASSWORD.encode()),
        **limits,  # type: ignore[arg-type]
    )
    found: dict[str, object] = {
        "users_filter": parse_filter("(objectClass=inetOrgPerson)"),
        "attribute_map": AttributeMap(
            "entryUUID", (parse_item("uid"),), (parse_item("cn"),), (parse_item("mail"),), account_states=STATES
        ),
        "bases": (PEOPLE,),
        "login_template": parse_filter_template("(uid={user})"),
        "password_changed": ("pwdChangedTime",),
        **options,
    }
    directory = LdapDirectory(settings, lambda _event: None, clock)
    return DirectorySource(directory=directory, clock=clock, **found)  # type: ignore[arg-type]


@asynccontextmanager
async def setting(
    servers: Sequence[FaultyServer | Sequence[FaultyServer]],
    *,
    rules: ThrottleRules | None = None,
    fast_refusals: bool = True,
    endpoints: Sequence[str] = ("/m",),
    **options: object,
) -> AsyncIterator[Setting]:
    """A bridge with a directory for each server, or for each group of servers."""
    events, clock = list[Event](), ManualClock()
    groups = [[each] if isinstance(each, FaultyServer) else each for each in servers]
    sources = [source(group, name, clock, **options) for group, name in zip(groups, "abc", strict=False)]  # type: ignore[arg-type]
    names = tuple(found.name for found in sources)
    bridge = Bridge(
        dict.fromkeys(endpoints, names),
        [(each, SnapshotPolicy()) for each in sources],
        store=MemorySnapshotStore(),
        clock=clock,
        make_token=lambda: "token",
        observe=events.append,
        binds=make_binds(clock, rules, fast_refusals=fast_refusals),
    )
    try:
        yield Setting(bridge, events, clock)
    finally:
        await bridge.aclose()


def answers(code: int, text: str = "", controls: bytes = b"", tail: bytes = b"") -> OnBind:
    """User binds end in this way; the service account's are in order."""

    async def on_bind(session: Session, message: wire.Message, request: wire.ReceivedBind) -> bool:
        if request.dn == READER:
            return False
        found = wire.write_result(message.id, wire.BIND_RESPONSE, code, text, tail=tail, controls=controls)
        session._writer.write(found)
        return True

    return on_bind


def controls_of(*each: tuple[str, bytes]) -> bytes:
    found = [
        ber.write_element(ber.SEQUENCE, ber.write_octets(name.encode()), ber.write_octets(value))
        for name, value in each
    ]
    return ber.write_element(0xA0, *found)


def control(name: str, value: bytes) -> bytes:
    return controls_of((name, value))


def policy(*, error: int | None = None, grace: int | None = None, expires: int | None = None) -> bytes:
    parts = []
    if grace is not None:
        parts.append(ber.write_element(0xA0, ber.write_integer(grace, 0x81)))
    if expires is not None:
        parts.append(ber.write_element(0xA0, ber.write_integer(expires, 0x80)))
    if error is not None:
        parts.append(ber.write_integer(error, 0x81))
    return control(messages.PASSWORD_POLICY, ber.write_element(ber.SEQUENCE, *parts))


def both_of_389(error: int) -> bytes:
    """The controls of 389 DS: the one of the policy draft, and Netscape's own."""
    value = ber.write_element(ber.SEQUENCE, ber.write_integer(error, 0x81))
    return controls_of((messages.PASSWORD_POLICY, value), (messages.PASSWORD_EXPIRED, b"0"))


EXPIRED_389, MUST_CHANGE_389 = both_of_389(0), both_of_389(2)
INACTIVATED = "Account inactivated. Contact system administrator."
AD = "80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error, data {}, v1db1\0"
