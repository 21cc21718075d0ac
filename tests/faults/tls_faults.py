"""How TLS fails, at once or after StartTLS."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bridge.demo import wire
from tests.faults.connection_faults import close, cut, half_close, reset, say, stay_silent
from tests.faults.result_faults import end_with
from tests.faults.turns import Action, Turn, changing, result
from tests.support.authorities import issue

CERTIFICATES = ("other-authority", "other-name", "expired", "not-yet-valid", "self-signed", "for-clients")
"""Certificates that are not to be trusted."""


@dataclass(frozen=True)
class Contexts:
    """What servers begin TLS with, by the name of the certificate; `good` is the one to be trusted."""

    folder: Path

    @cached_property
    def ca_file(self) -> Path:
        """The authority that the bridge trusts."""
        return self._authority[1]

    @cached_property
    def _authority(self) -> tuple[object, Path]:
        authority = issue("authority", is_authority=True)
        file = self.folder / "ca.pem"
        file.write_bytes(authority.pem)
        return authority, file

    @cached_property
    def by_name(self) -> dict[str, ssl.SSLContext]:
        """Made once for all cases."""
        authority = self._authority[0]
        assert isinstance(authority, type(issue("x")))
        other = issue("authority", is_authority=True)
        issued = {
            "good": issue("server", authority),
            "other-authority": issue("server", other),
            "other-name": issue("server", authority, names=("ldap.example.com", "127.0.0.2")),
            "expired": issue("server", authority, days=(-9, -1)),
            "not-yet-valid": issue("server", authority, days=(1, 9)),
            "self-signed": issue("server"),
            "for-clients": issue("server", authority, usage="CLIENT_AUTH"),
        }
        found = {}
        for name, certificate in issued.items():
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate.write(self.folder / name))
            found[name] = context
        return found


HANDSHAKES: dict[str, Action] = {
    "closed": close,
    "reset": reset,
    "half-closed": half_close,
    "silent": stay_silent,
    "no-tls-ldap": say(wire.write_notice(2, "no TLS here")),
    "no-tls-http": say(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "alert": say(bytes.fromhex("15030300020228"), close),
    "record-too-long": say(bytes.fromhex("160303ffff") + bytes(600)),
    "garbage": say(bytes(range(256))),
    "hello-cut": say(bytes.fromhex("160303007a020000760303") + bytes(20), close),
}
"""Where the handshake should begin."""


def _with_more(data: bytes) -> Action:
    """StartTLS is agreed to, with something in clear text behind it, in the same segment."""
    return changing(lambda _turn, right: [*right, data])


async def agree_and_close(turn: Turn) -> None:
    await turn.send(result(turn, 0))
    turn.close()


async def agree_and_reset(turn: Turn) -> None:
    await turn.send(result(turn, 0))
    turn.reset()


START_TLS: dict[str, Action] = {
    **{f"refused-{code}": end_with(code) for code in (1, 2, 8, 10, 12, 13, 49, 50, 51, 52, 53, 80, 4096)},
    "refused-other-tag": changing(lambda turn, _right: [wire.write_result(turn.id, wire.SEARCH_DONE, 0)]),
    "refused-other-id": changing(lambda turn, _right: [wire.write_result(turn.id + 1, wire.EXTENDED_RESPONSE, 0)]),
    "notice": changing(lambda _turn, _right: [wire.write_notice(52, "bye")]),
    "closed": close,
    "reset": reset,
    "half-closed": half_close,
    "silent": stay_silent,
    "cut": cut(0.5, close),
    "agreed-and-closed": agree_and_close,
    "agreed-and-reset": agree_and_reset,
    "agreed-and-silent": changing(lambda _turn, right: right),
    "agreed-and-entry": _with_more(wire.write_entry(2, "uid=x,dc=x", ())),
    "agreed-and-bind-response": _with_more(wire.write_result(2, wire.BIND_RESPONSE, 0)),
    "agreed-and-search-done": _with_more(wire.write_result(3, wire.SEARCH_DONE, 0)),
    "agreed-and-half-a-message": _with_more(b"\x30\x20\x02"),
    "agreed-and-garbage": _with_more(b"\xff" * 40),
    "agreed-twice": changing(lambda _turn, right: [*right, *right]),
}
"""In answer to StartTLS."""
