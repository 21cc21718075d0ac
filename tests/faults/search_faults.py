"""Searches that end in a wrong way: paging, controls, references, ranges of values."""

from __future__ import annotations

from collections.abc import Callable

from bridge.demo import wire
from bridge.ldap import messages
from bridge.syntax import ber
from tests.faults.result_faults import controls_of, referral_to
from tests.faults.turns import Action, Turn, changing, message, read_entry, result

UNKNOWN_CONTROL = "1.3.6.1.4.1.55555.1"


def control(name: str, value: bytes | None = b"", *, is_critical: bool = False) -> bytes:
    """One control (RFC 4511 §4.1.11), without those around it."""
    criticality = ber.write_boolean(True) if is_critical else b""
    content = b"" if value is None else ber.write_octets(value)
    return ber.write_element(ber.SEQUENCE, ber.write_octets(name.encode()), criticality, content)


def _together(*each: bytes) -> bytes:
    return ber.write_element(0xA0, *each)


def _end(controls: Callable[[bytes], bytes], *, with_entries: bool = True) -> Action:
    """The right entries, and an end with other controls, made of the right ones."""
    return changing(
        lambda turn, right: [*(right[:-1] if with_entries else ()), result(turn, 0, controls=controls(right[-1]))]
    )


def _paging(value: bytes | None) -> Callable[[bytes], bytes]:
    return lambda _right: _together(control(wire.PAGED_RESULTS, value))


def _beside(other: bytes) -> Callable[[bytes], bytes]:
    """Another control before the right ones."""
    return lambda right: _together(other, *([controls_of(right)[2:]] if controls_of(right) else []))


def _cookie(cookie: bytes) -> bytes:
    return ber.write_element(ber.SEQUENCE, ber.write_integer(0), ber.write_octets(cookie))


def _ever_new() -> Action:
    """Pages without end, each with the same entries and a cookie of its own."""
    count = iter(range(10**9))

    async def action(turn: Turn) -> None:
        right = await turn.right_answer()
        cookie = f"cookie {next(count)}".encode()
        await turn.send(*right[:-1], result(turn, 0, controls=wire.write_paging(cookie)))

    return action


PAGING: dict[str, Action] = {
    "control-missing": _end(lambda _right: b""),
    "control-missing-and-entries": _end(lambda _right: b"", with_entries=False),
    "control-without-value": _end(_paging(None)),
    "control-empty": _end(_paging(b"")),
    "control-of-zeros": _end(_paging(bytes(8))),
    "control-cut": _end(_paging(_cookie(b"abc")[:-2])),
    "control-without-cookie": _end(_paging(ber.write_element(ber.SEQUENCE, ber.write_integer(0)))),
    "control-with-cookie-alone": _end(_paging(ber.write_element(ber.SEQUENCE, ber.write_octets(b"x")))),
    "control-with-more": _end(_paging(_cookie(b"x") + b"\0")),
    "control-as-text": _end(_paging(b"cookie")),
    "control-twice": _end(lambda _right: _together(*2 * [control(wire.PAGED_RESULTS, _cookie(b"x"))])),
    "control-twice-other": _end(
        lambda _right: _together(
            control(wire.PAGED_RESULTS, _cookie(b"x")),
            control(wire.PAGED_RESULTS, _cookie(b"")),
        )
    ),
    "cookie-always-the-same": _end(_paging(_cookie(b"same"))),
    "cookie-unknown-to-the-server": _end(_paging(_cookie(b"forgotten"))),
    "cookie-of-100-kilobytes": _end(_paging(_cookie(b"c" * 100_000))),
    "cookie-without-entries": _end(_paging(_cookie(b"next")), with_entries=False),
    "cookies-without-end": _ever_new(),
}
"""At a page."""

CONTROLS: dict[str, Action] = {
    "control-unknown": _end(_beside(control(UNKNOWN_CONTROL, b"?"))),
    "control-unknown-critical": _end(_beside(control(UNKNOWN_CONTROL, b"?", is_critical=True))),
    "control-name-not-utf8": _end(_beside(ber.write_element(ber.SEQUENCE, ber.write_octets(b"\xff")))),
    "control-is-empty": _end(_beside(b"\x30\x00")),
    "controls-1000": _end(_beside(control(UNKNOWN_CONTROL, b"?") * 1000)),
}
"""At any search."""

BIND_CONTROLS: dict[str, bytes] = {
    "control-unknown-critical": control(UNKNOWN_CONTROL, b"?", is_critical=True),
    "control-unknown": control(UNKNOWN_CONTROL, b"?"),
    "policy-empty": control(messages.PASSWORD_POLICY, b""),
    "policy-cut": control(messages.PASSWORD_POLICY, b"\x30\x05\xa0"),
    "policy-as-text": control(messages.PASSWORD_POLICY, b"locked"),
    "expiring-in-5000-digits": control(messages.PASSWORD_EXPIRING, b"9" * 5000),
    "expiring-in-words": control(messages.PASSWORD_EXPIRING, b"soon"),
    "is-empty": b"\x30\x00",
    "name-not-utf8": ber.write_element(ber.SEQUENCE, ber.write_octets(b"\xff")),
}


def bind_with(one: bytes) -> Action:
    """The right result of a bind, with a control beside it."""

    def change(_turn: Turn, right: list[bytes]) -> list[bytes]:
        content = ber.read_header(right[-1], 0, len(right[-1]))
        return [ber.write_element(ber.SEQUENCE, right[-1][content[1] : content[2]], _together(one))]

    return changing(change)


def _reference(*uris: bytes) -> Callable[[Turn], bytes]:
    return lambda turn: message(turn, ber.write_element(wire.SEARCH_REFERENCE, *map(ber.write_octets, uris)))


def _to_target(turn: Turn) -> bytes:
    return _reference(turn.referral_uri.encode())(turn)


def _with_reference(write: Callable[[Turn], bytes], *, is_first: bool = False) -> Action:
    return changing(lambda turn, right: [write(turn), *right] if is_first else [*right[:-1], write(turn), right[-1]])


REFERENCES: dict[str, Action] = {
    "reference": _with_reference(_to_target),
    "reference-first": _with_reference(_to_target, is_first=True),
    "reference-instead-of-entries": changing(lambda turn, right: [_to_target(turn), right[-1]]),
    "reference-empty": _with_reference(_reference()),
    "reference-to-nothing": _with_reference(_reference(b"")),
    "reference-no-uri": _with_reference(_reference(b"somewhere else")),
    "reference-not-utf8": _with_reference(_reference(b"ldap://\xff\xfe/")),
    "reference-of-180-kilobytes": _with_reference(_reference(b"ldap://h/uid=x" + b"%20" * 60_000)),
    "references-1500": _with_reference(lambda turn: _to_target(turn) * 1500),
    "referral-beside-success": changing(
        lambda turn, right: [
            *right[:-1],
            result(turn, 0, tail=referral_to(turn.referral_uri), controls=controls_of(right[-1])),
        ]
    ),
    "referral-without-uri": changing(lambda turn, _right: [result(turn, 10)]),
}


def _renamed(change: Callable[[str, list[bytes]], list[tuple[str, list[bytes]]]], attribute: str) -> Action:
    """One attribute of the first entry comes in another way."""

    def changed(turn: Turn, right: list[bytes]) -> list[bytes]:
        found = read_entry(right[0])
        if found is None:
            return right
        dn, attributes = found
        new = [
            each
            for name, values in attributes
            for each in (change(name, values) if name == attribute else [(name, values)])
        ]
        return [wire.write_entry(turn.id, dn, new), *right[1:]]

    return changing(changed)


_RANGES: dict[str, Callable[[str, list[bytes]], list[tuple[str, list[bytes]]]]] = {
    "whole": lambda name, values: [(f"{name};range=0-*", values)],
    "begins-late": lambda name, values: [(f"{name};range=5-*", values)],
    "has-less": lambda name, values: [(f"{name};range=0-{len(values) + 4}", values)],
    "has-more": lambda name, values: [(f"{name};range=0-0", [*values, b"x@example.com"])],
    "goes-on": lambda name, values: [(f"{name};range=0-{len(values) - 1}", values)],
    "empty": lambda name, _values: [(f"{name};range=0-*", [])],
    "empty-and-goes-on": lambda name, _values: [(f"{name};range=0-0", [])],
    "twice": lambda name, values: [(f"{name};range=0-*", values), (f"{name};range=1-*", values)],
    "beside-values": lambda name, values: [(name, values), (f"{name};range=0-*", values)],
    "backwards": lambda name, values: [(f"{name};range=3-1", values)],
    "in-words": lambda name, values: [(f"{name};range=all", values)],
    "without-end": lambda name, values: [(f"{name};range=0-", values)],
    "of-5000-digits": lambda name, values: [(f"{name};range=0-{'9' * 5000}", values)],
    "negative": lambda name, values: [(f"{name};range=-1-*", values)],
}


def ranges_of(attribute: str) -> dict[str, Action]:
    """Faulty ranges of one attribute."""
    return {f"range-{name}": _renamed(change, attribute) for name, change in _RANGES.items()}
