"""What eDirectory says to a bind that it refuses, which no test asks for real."""

from __future__ import annotations

import pytest

from bridge.ldap import messages
from bridge.ldap.connection import Peer
from bridge.ldap.messages import Response
from bridge.ldap.results import judge_user_bind
from bridge.model import Rejection


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (49, "NDS error: failed authentication (-669)", Rejection.WRONG_PASSWORD),
        (49, "NDS error: bad password (-222)", Rejection.PASSWORD_EXPIRED),
        (53, "NDS error: login lockout (-197)", Rejection.ACCOUNT_LOCKED),
        (53, "NDS error: log account expired (-220)", Rejection.ACCOUNT_DISABLED),
        (53, "NDS error: bad login time or Q halted (-218)", Rejection.NOT_AT_THIS_TIME),
        (49, "NDS error: something new (-999)", Rejection.WRONG_PASSWORD),
        (53, "NDS error: something new (-999)", Rejection.ACCOUNT_DISABLED),
        (0, "NDS error: password expired (-223)", None),
    ],
)
def test_edirectory_names_the_cause_in_brackets(code: int, message: str, expected: Rejection | None) -> None:
    """The number decides; -223 comes with success, as a grace login is left."""
    response = Response(messages.BIND_RESPONSE, code, message)
    assert judge_user_bind(response, Peer("company", "ldaps://ldap.example.com")).rejection is expected
