"""Entries that no directory should send, beside the right ones; and floods."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bridge.demo import wire
from bridge.syntax import ber
from tests.faults.turns import Action, Attributes, Turn, changing, message, result
from tests.support.slapd import PEOPLE

MEBIBYTE = 1024 * 1024


def _person(uid: bytes = b"hostile", /, **attributes: list[bytes]) -> list[tuple[str, list[bytes]]]:
    found = {"entryUUID": [b"hostile-id"], "uid": [uid], "cn": [uid], "mail": [uid + b"@example.com"], **attributes}
    return [(name, values) for name, values in found.items() if values]


def _entry(attributes: Attributes, dn: bytes | None = None) -> Callable[[Turn], bytes]:
    """The message; its DN may be no text."""
    name = dn if dn is not None else f"uid=hostile,{PEOPLE}".encode()

    def write(turn: Turn) -> bytes:
        plain = ber.Reader(wire.write_entry(turn.id, "", attributes)).read_inner()
        plain.read_integer()
        content = plain.read_inner(wire.SEARCH_ENTRY)
        content.read_octets()
        _, start, stop = content.read()
        values = ber.write_element(ber.SEQUENCE, content.data[start:stop])
        return message(turn, ber.write_element(wire.SEARCH_ENTRY, ber.write_octets(name), values))

    return write


HOSTILE: dict[str, Callable[[Turn], bytes]] = {
    "dn-empty": _entry(_person(), b""),
    "dn-no-dn": _entry(_person(), b"hostile"),
    "dn-not-utf8": _entry(_person(), b"uid=\xff\xc3,ou=people"),
    "dn-of-9000-bytes": _entry(_person(), b"uid=" + b"x" * 9000),
    "dn-with-controls": _entry(_person(), b"uid=\x1b[31m\x07\r\n,ou=people"),
    "no-attributes": _entry(()),
    "no-id": _entry(_person(entryUUID=[])),
    "no-user-name": _entry(_person(uid=[])),
    "id-empty": _entry(_person(entryUUID=[b""])),
    "id-twice": _entry(_person(entryUUID=[b"one", b"two"])),
    "id-not-utf8": _entry(_person(entryUUID=[b"\xff\xfe"])),
    "id-with-controls": _entry(_person(entryUUID=[b"a\x07b\n"])),
    "id-of-a-mebibyte": _entry(_person(entryUUID=[b"i" * MEBIBYTE])),
    "user-name-empty": _entry(_person(b"")),
    "user-name-blank": _entry(_person(b"   ")),
    "user-name-nul": _entry(_person(b"hos\0tile")),
    "user-name-controls": _entry(_person(b"\x1b]52;c;aG9zdGlsZQ==\x07")),
    "user-name-not-utf8": _entry(_person(b"\xff\xfe\xc3\x28")),
    "user-name-surrogate": _entry(_person(b"\xed\xa0\x80")),
    "user-name-of-a-mebibyte": _entry(_person(b"u" * MEBIBYTE)),
    "user-name-json": _entry(_person(b'"}],"x":[{"')),
    "full-name-not-utf8": _entry(_person(cn=[b"\xff\xfe"])),
    "full-name-controls": _entry(_person(cn=[b"a\x00\x1b[2J\xe2\x80\xae"])),
    "address-none": _entry(_person(mail=[b"no address", b"", b"@", b"a@b@c", b"\xff@x"])),
    "addresses-10000": _entry(_person(mail=[b"m%d@example.com" % number for number in range(10_000)])),
    "value-of-a-mebibyte": _entry(_person(cn=[b"c" * MEBIBYTE])),
    "attribute-twice": _entry([*_person(), ("uid", [b"other"])]),
    "attribute-without-values": _entry([*_person(), ("displayName", [])]),
    "attribute-unasked": _entry([*_person(), ("userPassword", [b"secret"])]),
    "attribute-of-10000-letters": _entry([*_person(), ("a" * 10_000, [b"x"])]),
    "attributes-5000": _entry([*_person(), *((f"attribute{number}", [b"x"]) for number in range(5000))]),
    "account-control-of-5000-digits": _entry([*_person(), ("userAccountControl", [b"5" * 5000])]),
    "lock-no-time": _entry([*_person(), ("pwdAccountLockedTime", [b"yesterday"])]),
    "end-no-time": _entry([*_person(), ("pwdEndTime", [b"\xff" * 20])]),
}
"""One entry more."""


def _beside(write: Callable[[Turn], bytes]) -> Action:
    return changing(lambda turn, right: [write(turn), *right])


ENTRIES: dict[str, Action] = {
    **{f"entry-{name}": _beside(write) for name, write in HOSTILE.items()},
    "entry-twice": changing(lambda _turn, right: [*right[:-1], *right[:-1], right[-1]]),
    "entry-under-two-names": _beside(_entry(_person(b"other"), f"uid=other,{PEOPLE}".encode())),
    "entries-in-reverse": changing(lambda _turn, right: [*right[-2::-1], right[-1]]),
}


def _flood(pieces: Callable[[Turn], Iterator[bytes]]) -> Action:
    """Sends until the client has gone, or nothing is left; then ends the search as it should."""

    async def action(turn: Turn) -> None:
        right = await turn.right_answer()
        await turn.send(*right[:-1])
        for piece in pieces(turn):
            if turn.session.writer.is_closing():
                return
            await turn.send(piece)
        await turn.send(right[-1])

    return action


def _large_entries(turn: Turn) -> Iterator[bytes]:
    large = _entry(_person(cn=[b"c" * MEBIBYTE]))(turn)
    return (large for _ in range(200))


def _small_entries(turn: Turn) -> Iterator[bytes]:
    return (
        b"".join(
            _entry(_person(entryUUID=[b"flood %d" % number]), b"uid=%d,ou=flood" % number)(turn)
            for number in range(start, start + 200)
        )
        for start in range(0, 20_000, 200)
    )


def _references(turn: Turn) -> Iterator[bytes]:
    one = message(turn, ber.write_element(wire.SEARCH_REFERENCE, ber.write_octets(turn.referral_uri.encode())))
    return (one * 1000 for _ in range(200))


def _intermediates(turn: Turn) -> Iterator[bytes]:
    one = message(turn, ber.write_element(0x79, ber.write_octets(b"x" * 10_000, 0x81)))
    return (one * 50 for _ in range(200))


def _many_values(turn: Turn) -> Iterator[bytes]:
    """One entry with half a million addresses, which is as much as a message may hold."""
    return iter([_entry(_person(mail=[b"%07d@example.com" % number for number in range(500_000)]))(turn)])


def _one_long_message(_turn: Turn) -> Iterator[bytes]:
    return iter([b"\x30\x84\x00\xff\xff\xff", *(bytes(MEBIBYTE) for _ in range(16))])


def _strangers_answers(turn: Turn) -> Iterator[bytes]:
    """Answers to a message that was abandoned, or answered."""
    one = result(turn, 0).replace(ber.write_integer(turn.id), ber.write_integer(1), 1)
    return (one * 1000 for _ in range(200))


FLOODS: dict[str, Action] = {
    "flood-large-entries": _flood(_large_entries),
    "flood-small-entries": _flood(_small_entries),
    "flood-references": _flood(_references),
    "flood-intermediates": _flood(_intermediates),
    "flood-values": _flood(_many_values),
    "flood-long-message": _flood(_one_long_message),
    "flood-answers-to-nobody": _flood(_strangers_answers),
}
