"""Everything that may go wrong with one person's entry, each with a name of theirs where a server can put it.

The names all hold one word, so that one search finds whatever is left of them anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from bridge.demo import wire
from bridge.demo.people import BASE
from bridge.demo.server import Session
from bridge.demo.store import Store, StoredEntry
from bridge.syntax import ber
from tests.faults.server import FaultyServer, OnBind, OnSearch, small_directory
from tests.support.logins import answers
from tests.support.slapd import PEOPLE, READER

WORD = "kanarie"
UID, FULL_NAME, MAIL, ID = f"{WORD}-uid", f"{WORD} full", f"{WORD}-mail@example.com", f"{WORD}-id"
DN = f"cn={WORD} rdn,{PEOPLE}"
PASSWORD = "right-password"
SAID = f'the entry "{DN}" of {UID} <{MAIL}> is in trouble'
URI = f"ldap://other.example.com/{DN}"
GROUP = f"cn=barred,{BASE}"
INNER_GROUP = f"cn={WORD} own,{BASE}"


def directory_with(*uids: str) -> Store:
    """A few people and the person, who is in two groups, one of which has only their own name."""
    store = small_directory(*uids)
    person: dict[str, Sequence[str | bytes]] = {
        "objectClass": ["inetOrgPerson"],
        "uid": [UID],
        "cn": [f"{WORD} rdn"],
        "displayName": [FULL_NAME],
        "mail": [MAIL],
        "entryUUID": [ID],
        "userPassword": [PASSWORD],
    }
    store.add(DN, person)
    store.add(GROUP, {"objectClass": ["groupOfNames"], "cn": ["barred"], "member": [INNER_GROUP]})
    store.add(INNER_GROUP, {"objectClass": ["groupOfNames"], "cn": [f"{WORD} own"], "member": [DN]})
    return store


class Fault(NamedTuple):
    """One kind of trouble."""

    attributes: Mapping[str, list[bytes]] = MappingProxyType({})
    """What the person's entry holds instead."""
    on_search: OnSearch | None = None
    on_bind: OnBind | None = None


def _people_only(script: OnSearch) -> OnSearch:
    async def on_search(session: Session, message: wire.Message, request: wire.ReceivedSearch) -> bool:
        return request.base != BASE and await script(session, message, request)

    return on_search


def ends(code: int, text: str = SAID, *, tail: bytes = b"") -> OnSearch:
    """Searches below the people end in this way."""

    async def on_search(session: Session, message: wire.Message, _request: wire.ReceivedSearch) -> bool:
        controls = wire.write_paging(b"") if wire.PAGED_RESULTS in message.controls else b""
        session._writer.write(wire.write_result(message.id, wire.SEARCH_DONE, code, text, tail=tail, controls=controls))
        return True

    return _people_only(on_search)


def sends(write: Callable[[int], bytes], then: OnSearch | None = None) -> OnSearch:
    """Searches below the people bring this first."""

    async def on_search(session: Session, message: wire.Message, request: wire.ReceivedSearch) -> bool:
        if request.scope == 0 and then is not None:
            return await then(session, message, request)
        session._writer.write(write(message.id))
        return then is not None and await ends(0, "")(session, message, request)

    return _people_only(on_search)


def _reference(message_id: int) -> bytes:
    content = ber.write_element(wire.SEARCH_REFERENCE, ber.write_octets(URI.encode()))
    return ber.write_element(ber.SEQUENCE, ber.write_integer(message_id), content)


def _piece(name: str, dn: str = DN) -> Callable[[int], bytes]:
    """An entry of which an attribute comes in a range."""
    found = (("uid", [UID.encode()]), ("entryUUID", [ID.encode()]), (name, [MAIL.encode()]))
    return lambda message_id: wire.write_entry(message_id, dn, found)


async def _disconnects(session: Session, _message: wire.Message, _request: object) -> bool:
    session._writer.write(wire.write_notice(52, SAID))
    session._writer.close()
    return True


async def _disconnects_users(session: Session, message: wire.Message, request: wire.ReceivedBind) -> bool:
    return request.dn != READER and await _disconnects(session, message, request)


async def refuses_service(session: Session, message: wire.Message, request: wire.ReceivedBind) -> bool:
    """The service account is refused, with somebody's name."""
    if request.dn == READER:
        session._writer.write(wire.write_result(message.id, wire.BIND_RESPONSE, 49, f"invalid credentials: {SAID}"))
    return request.dn == READER


def _ranges_that_end(then: OnSearch) -> OnSearch:
    return sends(_piece("mail;range=0-0"), then)


REFERRAL = ber.write_element(0xA3, ber.write_octets(URI.encode()))

_TOO_MANY_ADDRESSES = Fault({"mail": [f"{MAIL}{number}".encode() for number in range(10_001)]})

LISTING_FAULTS = {
    "too many addresses": _TOO_MANY_ADDRESSES,
    "no id": Fault({"entryuuid": []}),
    "several ids": Fault({"entryuuid": [ID.encode(), UID.encode()]}),
    "an id that is no text": Fault({"entryuuid": [b"\xff" + ID.encode()]}),
    "an id with control characters": Fault({"entryuuid": [ID.encode() + b"\x07"]}),
    **{f"result {code}": Fault(on_search=ends(code)) for code in (1, 2, 3, 4, 8, 11, 13, 32, 50, 51, 52, 53, 80, 4242)},
    "a message beside success": Fault(on_search=ends(0)),
    "a referral": Fault(on_search=ends(10, tail=REFERRAL)),
    "a reference": Fault(on_search=sends(_reference)),
    "the end of the connection": Fault(on_search=_people_only(_disconnects)),
    "a range that begins late": Fault(on_search=sends(_piece("mail;range=5-5"), ends(0, ""))),
    "a range that can't be read": Fault(on_search=sends(_piece(f"mail;range={WORD}"), ends(0, ""))),
    "the rest of a range refused": Fault(on_search=_ranges_that_end(ends(53))),
    "the rest of a range gone": Fault(on_search=_ranges_that_end(ends(32))),
    "the rest of a range elsewhere": Fault(on_search=_ranges_that_end(ends(10, tail=REFERRAL))),
    "the rest of another entry": Fault(
        on_search=_ranges_that_end(sends(_piece("mail;range=1-*", f"uid={WORD},{PEOPLE}")))
    ),
    "a DN that is too long": Fault(on_search=sends(_piece("mail", f"cn={WORD}{'x' * 9000},{PEOPLE}"), ends(0, ""))),
}
"""What makes a listing fail."""

BIND_FAULTS = {
    "too many addresses": _TOO_MANY_ADDRESSES,
    **{f"bind {code}": Fault(on_bind=answers(code, SAID)) for code in (1, 2, 3, 7, 8, 13, 50, 51, 52, 53, 80)},
    "bind by referral": Fault(on_bind=answers(10, SAID, tail=REFERRAL)),
    "bind undecided": Fault(on_bind=answers(49, f"80090308: LdapErr: DSID-0C0903A9, data 51f, {SAID}")),
    "bind and end": Fault(on_bind=_disconnects_users),
}
"""What leaves a login undecided."""

VERDICTS = {
    "wrong password": Fault(on_bind=answers(49, f"invalid credentials: {SAID}")),
    "account locked": Fault(on_bind=answers(19, f"account locked: {SAID}")),
    "no password": Fault(on_bind=answers(48, SAID)),
    "entry gone": Fault(on_bind=answers(32, SAID)),
    "an unusable name": Fault({"uid": [f" {UID}".encode(), UID.encode()]}),
}
"""What refuses a login."""


class Play:
    """The faults of one directory, one after the other."""

    def __init__(self, *servers: FaultyServer) -> None:
        self.servers = servers
        self._before = dict(_person_of(servers[0]).attributes)

    def begin(self, fault: Fault, *, at_first_alone: bool = False) -> None:
        """From now on the directory is in trouble, or its first server."""
        for server in self.servers[: 1 if at_first_alone else None]:
            server.on_search, server.on_bind = fault.on_search, fault.on_bind
            _change(server, {**self._before, **fault.attributes})

    def change(self, attributes: Mapping[str, list[bytes]]) -> None:
        """The person's entry holds this instead."""
        self.begin(Fault(attributes))

    def end(self) -> None:
        """The directory is well."""
        self.begin(Fault())


def _change(server: FaultyServer, attributes: Mapping[str, Sequence[bytes]]) -> None:
    found = _person_of(server).attributes
    assert isinstance(found, dict)
    found.clear()
    found.update(attributes)


def _person_of(server: FaultyServer) -> StoredEntry:
    found = server.store.find(DN)
    assert found is not None
    return found
