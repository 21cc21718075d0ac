"""Every result code at every stage, and what it means where it answers a user bind."""

from __future__ import annotations

from bridge.syntax import ber
from tests.faults.stages import Stage
from tests.faults.turns import Action, Turn, result

SUCCESS, REFERRAL = 0, 10
RESULT_CODES = (
    *range(9),  # RFC 4511 §4.1.9, Appendix A
    *range(10, 15),
    *range(16, 22),
    *(32, 33, 34, 36),
    *range(48, 55),
    *range(64, 70),
    71,
    80,
    *range(113, 118),  # RFC 3928 §4.1
    *range(118, 122),  # RFC 3909 §3
    122,  # RFC 4528 §4
    123,  # RFC 4370 §4
    4096,  # RFC 4533 §2.6
    *(9, 15, 35, 76, 90, 112, 255, 4095, 16_654, 65_536, 2**31 - 1),  # reserved, unassigned, or a draft's
)
_WITH_ENTRIES = frozenset((0, 3, 4, 9, 10, 11))
"""Limits and their kin end a search that has brought something."""

ACCEPTS, REFUSES = frozenset((SUCCESS,)), frozenset((19, 32, 34, 48, 49))
"""What a result without any words says of a password (docs/logins.md); all others say nothing."""


def referral_to(uri: str) -> bytes:
    """The part of a result that names other servers (RFC 4511 §4.1.10)."""
    return ber.write_element(0xA3, ber.write_octets(uri.encode()))


def end_with(code: int) -> Action:
    """The request ends with this result."""

    async def action(turn: Turn) -> None:
        right = await turn.right_answer()
        if code == SUCCESS and turn.stage is not Stage.USER_BIND:
            await turn.send(*right)
            return
        tail = referral_to(turn.referral_uri) if code == REFERRAL else b""
        before = right[:-1] if code in _WITH_ENTRIES else []
        await turn.send(*before, result(turn, code, tail=tail, controls=controls_of(right[-1])))

    return action


def controls_of(data: bytes) -> bytes:
    """The controls of a message, as they stand in it."""
    outer = ber.Reader(data).read_inner()
    outer.read_integer()
    _, _, stop = outer.read()
    return data[stop:]


def meaning_of(code: int) -> bool | None:
    """What a user bind that ends so says of the password; None where it says nothing."""
    if code in ACCEPTS:
        return True
    return False if code in REFUSES else None


RESULTS: dict[str, tuple[Action, int]] = {f"result-{code}": (end_with(code), code) for code in RESULT_CODES}
