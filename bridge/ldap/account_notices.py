"""What servers say of the service account's password beside a success: it ends, or must be changed, or is outdated.

Told once when it begins, and kept for whoever asks how the program fares. Sends nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bridge.events import AccountWarned
from bridge.ldap.bind_causes import read_policy_rejection, read_policy_warning
from bridge.model import Problem

if TYPE_CHECKING:
    from bridge.clock import Clock
    from bridge.events import Observer
    from bridge.ldap.messages import Response

_SET_NEW = (
    "Set a new password for it in the directory, then write it into the file: nothing needs a restart. "
    "docs/operations.md has the steps."
)
_LONGEST = timedelta(days=36_500)


class AccountNotices:
    """What is known of one service account, by server."""

    def __init__(self, directory: str, clock: Clock, observe: Observer) -> None:
        self._directory = directory
        self._clock = clock
        self._observe = observe
        self._problems: dict[str, Problem] = {}
        """By the server that said so last, one for each."""
        self._key: bytes | None = None
        """What stands for the secret that they are about."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What an administrator should know; the same of several servers once."""
        return tuple({problem.code: problem for problem in self._problems.values()}.values())

    def of(self, server: str) -> Problem | None:
        """What one server said last."""
        return self._problems.get(server)

    def note_accepted(self, key: bytes, server: str, response: Response) -> None:
        """Note what a server adds to a success; another secret than before begins anew everywhere."""
        if key != self._key:
            self._key = key
            self._problems = {
                name: problem for name, problem in self._problems.items() if problem.code == "service_password_refused"
            }
        found = _read(response, self._clock.now_s())
        if found is None:
            self._problems.pop(server, None)
        else:
            self._note(server, *found)

    def note_outdated(self, server: str) -> None:
        """Note that a server refuses the secret as it is now, and takes the one from before."""
        message = f"{server} refuses the password of the service account as it is now, and takes the one from before."
        remedy = "Set it in the directory, too, or put the file right: the bridge goes on by itself then."
        self._note(server, "service_password_refused", message, remedy)

    def _note(self, server: str, code: str, message: str, remedy: str) -> None:
        known_since_s = [problem.since_s for problem in self._problems.values() if problem.code == code]
        since_s = min(known_since_s, default=self._clock.now_s())
        self._problems[server] = Problem(code, self._directory, message, remedy, since_s)
        if not known_since_s:
            self._observe(AccountWarned(self._directory, server, code, message, remedy))


def _read(response: Response, now_s: float) -> tuple[str, str, str] | None:
    """The code, the message and the remedy for what the controls of a success say."""
    if read_policy_rejection(response) is not None:
        message = "The password of the service account was reset and must be changed: servers refuse its searches."
        remedy = f"{_SET_NEW} Where an administrator sets it, take back the order to change it (OpenLDAP: pwdReset)."
        return "service_password_must_change", message, remedy
    warning = read_policy_warning(response)
    if warning is None:
        return None
    if warning.grace_count is not None:
        message = (
            "The password of the service account has expired; binds that are let through all the same: "
            f"{warning.grace_count}."
        )
        return "service_password_expired", message, f"{_SET_NEW} Each new connection uses one of them up."
    left = min(timedelta(seconds=max(0, warning.expires_in_s or 0)), _LONGEST)
    ends = datetime.fromtimestamp(now_s, UTC) + left
    message = f"The password of the service account ends at {ends:%Y-%m-%d %H:%M} UTC."
    return "service_password_ends", message, _SET_NEW
