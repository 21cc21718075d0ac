"""What an entry shows that matters to a login beside the user: bars, counted failures, when the password was set."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bridge.model import Rejection


class Bar(NamedTuple):
    """A state of the account in which no password is accepted."""

    rejection: Rejection
    attribute: str
    values: tuple[bytes, ...]
    is_uncompared: bool = False
    """Whether a refusal for it says by itself that nothing was counted."""


class LoginState(NamedTuple):  # made for each login
    """One entry at one moment, as one server shows it."""

    bars: tuple[Bar, ...] = ()
    failure_marks: tuple[tuple[bytes, ...], ...] = ()
    """What changes when the server counts a failed bind; empty where it shows nothing of it."""
    password_mark: tuple[bytes, ...] = ()
    """What changes when the password is set; empty where the server shows nothing of it."""

    @property
    def is_reset(self) -> bool:
        """Whether the entry shows no failures that count: there are none, or none any more."""
        return not self.failure_marks or self.failure_marks[0] == (b"0",)
