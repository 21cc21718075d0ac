"""Messages that break the Basic Encoding Rules or the protocol, made of right ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bridge.demo import wire
from bridge.syntax import ber
from tests.faults.turns import Action, Turn, changing, message, result

Change = Callable[[bytes], bytes]
"""Makes a faulty message of a right one."""


def _content(data: bytes) -> bytes:
    _, start, stop = ber.read_header(data, 0, len(data))
    return data[start:stop]


def _parts(data: bytes) -> tuple[bytes, bytes]:
    """The message id and what stands behind it, as they are encoded."""
    content = _content(data)
    _, _, stop = ber.read_header(content, 0, len(content))
    return content[:stop], content[stop:]


def _with_id(element: bytes) -> Change:
    return lambda data: ber.write_element(ber.SEQUENCE, element, _parts(data)[1])


def _with_length(octets: bytes) -> Change:
    return lambda data: data[:1] + octets + _content(data)


def _with_operation(change: Callable[[int, bytes], bytes]) -> Change:
    """Changes the operation, by its tag and its content."""

    def changed(data: bytes) -> bytes:
        message_id, rest = _parts(data)
        tag, start, stop = ber.read_header(rest, 0, len(rest))
        return ber.write_element(ber.SEQUENCE, message_id, change(tag, rest[start:stop]), rest[stop:])

    return changed


def _long_form(data: bytes) -> bytes:
    """The same message with a length in more octets than it needs, which is allowed."""
    content = _content(data)
    return data[:1] + b"\x84" + len(content).to_bytes(4, "big") + content


BROKEN: dict[str, Change] = {
    "indefinite-length": lambda data: data[:1] + b"\x80" + _content(data) + b"\0\0",
    "length-long-form": _long_form,
    "length-of-five-octets": _with_length(b"\x85\0\0\0\0\x20"),
    "length-two-gigabytes": _with_length(b"\x84\x7f\xff\xff\xff"),
    "length-beyond-the-limit": _with_length(b"\x84\x01\x00\x00\x01"),
    "length-too-short": lambda data: data[:1] + ber.write_length(max(0, len(_content(data)) - 3)) + _content(data),
    "length-too-long": lambda data: data[:1] + ber.write_length(len(_content(data)) + 5) + _content(data),
    "length-reserved": _with_length(b"\xff"),
    "set-for-sequence": lambda data: b"\x31" + data[1:],
    "empty-sequence": lambda _data: b"\x30\x00",
    "id-as-octets": _with_id(ber.write_octets(b"\x01")),
    "id-empty": _with_id(b"\x02\x00"),
    "id-negative": _with_id(b"\x02\x01\xff"),
    "id-of-nine-octets": _with_id(b"\x02\x09" + bytes(9)),
    "operation-missing": lambda data: ber.write_element(ber.SEQUENCE, _parts(data)[0]),
    "operation-empty": _with_operation(lambda tag, _content: bytes((tag, 0))),
    "operation-too-long": _with_operation(lambda tag, content: bytes((tag, 0x82, 0x7F, 0xFF)) + content),
    "operation-cut": _with_operation(lambda tag, content: ber.write_element(tag, content[: len(content) // 2])),
    "operation-with-more": _with_operation(lambda tag, content: ber.write_element(tag, content, b"\x04\x02no")),
    "operation-unknown": _with_operation(lambda _tag, content: ber.write_element(0x7F, content)),
    "operation-request": _with_operation(lambda _tag, content: ber.write_element(0x63, content)),
    "operation-add-response": _with_operation(lambda _tag, content: ber.write_element(0x69, content)),
    "operation-intermediate": _with_operation(lambda _tag, content: ber.write_element(0x79, content)),
    "controls-broken": lambda data: ber.write_element(ber.SEQUENCE, _content(data), b"\xa0\x05\x30\x09\x04\x01x"),
    "bytes-behind": lambda data: ber.write_element(ber.SEQUENCE, _content(data), b"\0\0\0"),
}


def _of_first(change: Change) -> Action:
    return changing(lambda _turn, right: [change(right[0]), *right[1:]])


def _of_last(change: Change) -> Action:
    return changing(lambda _turn, right: [*right[:-1], change(right[-1])])


def _raw_result(*parts: bytes) -> Callable[[Turn, list[bytes]], Sequence[bytes]]:
    return lambda turn, right: [*right[:-1], message(turn, ber.write_element(turn.response_tag, *parts))]


_SUCCESS, _EMPTY = ber.write_integer(0, ber.ENUMERATED), ber.write_octets(b"")
_RAW_RESULTS: dict[str, tuple[bytes, ...]] = {
    "result-negative": (b"\x0a\x01\xff", _EMPTY, _EMPTY),
    "result-empty": (b"\x0a\x00", _EMPTY, _EMPTY),
    "result-of-nine-octets": (b"\x0a\x09" + bytes(9), _EMPTY, _EMPTY),
    "result-as-integer": (b"\x02\x01\x00", _EMPTY, _EMPTY),
    "result-without-message": (_SUCCESS, _EMPTY),
    "result-alone": (_SUCCESS,),
    "result-not-utf8": (ber.write_integer(80, ber.ENUMERATED), _EMPTY, ber.write_octets(b"\xff\xfe\xc3")),
    "result-matched-dn-not-utf8": (ber.write_integer(80, ber.ENUMERATED), ber.write_octets(b"\xff\xc3"), _EMPTY),
    "result-of-200-kilobytes": (
        ber.write_integer(80, ber.ENUMERATED),
        _EMPTY,
        ber.write_octets(b"NDS error: " * 20_000),
    ),
}

RESPONSES: dict[str, Action] = {
    **{f"ber-{name}": _of_last(change) for name, change in BROKEN.items()},
    **{f"ber-{name}": changing(_raw_result(*parts)) for name, parts in _RAW_RESULTS.items()},
    "id-next": _of_last(lambda data: _with_id(ber.write_integer(_id_of(data) + 1))(data)),
    "id-zero": _of_last(_with_id(ber.write_integer(0))),
    "id-largest": _of_last(_with_id(ber.write_integer(2**31 - 1))),
    "id-earlier": _of_last(lambda data: _with_id(ber.write_integer(max(1, _id_of(data) - 1)))(data)),
    "id-never-sent-before": changing(lambda turn, right: [_with_id(ber.write_integer(999))(right[-1]), *right]),
    "answered-twice": changing(lambda _turn, right: [*right, *right]),
    "end-before-all": changing(lambda turn, right: [result(turn, 52), *right]),
    "entry-to-anything": changing(
        lambda turn, right: [
            wire.write_entry(turn.id, "uid=x,dc=x", (("uid", (b"x",)),)),
            *right,
        ]
    ),
    "intermediate-before": changing(lambda turn, right: [message(turn, ber.write_element(0x79)), *right]),
    "notice-before": changing(lambda _turn, right: [wire.write_notice(52, "bye"), *right]),
    "bind-response": changing(lambda turn, _right: [wire.write_result(turn.id, wire.BIND_RESPONSE, 0)]),
    "search-done": changing(lambda turn, _right: [wire.write_result(turn.id, wire.SEARCH_DONE, 0)]),
    "extended-response": changing(lambda turn, _right: [wire.write_result(turn.id, wire.EXTENDED_RESPONSE, 0)]),
}
"""At any request."""

_LEAVES_OUT = "operation-intermediate"
"""An entry less is nothing that anybody could notice."""
ENTRIES: dict[str, Action] = {
    f"entry-ber-{name}": _of_first(change) for name, change in BROKEN.items() if name != _LEAVES_OUT
}
"""At a search that brings entries."""


def _id_of(data: bytes) -> int:
    return ber.Reader(data).read_inner().read_integer()
