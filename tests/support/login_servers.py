"""Real servers for tests of logins, each with a policy that locks accounts, behind one set of words.

A person of a server has a state, which begins when the person is added and ends by `end`. `failures` is the server's own
count, read from its database or as its administrator.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from tests.support.slapd import require

LONG_AGO, LATER = "20200101000000Z", "20990101000000Z"
MORE = "cache: {refresh_ahead: false}\nauth: {fast_refusals: true}"
"""max_failures is auto, the default."""


def right(uid: str) -> str:
    return f"Pass-{uid}-1"


def renewed(uid: str) -> str:
    """The password that an administrator sets."""
    return f"Pass-{uid}-2"


class LoginServer(Protocol):
    """One server with its policy."""

    kind: str
    threshold_count: int
    budget_count: int
    """How many binds with wrong passwords `max_failures: auto` makes of that."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port without TLS."""

    def configure(self, folder: Path, url: str | None = None, directory: str = "") -> Path:
        """A configuration of a bridge in front of it, or of the proxy that `url` leads to; `directory`: lines of YAML."""

    def dn(self, uid: str) -> str: ...

    def add(self, people: Iterable[tuple[str, str]]) -> None:
        """Adds people, each with a state; "" is an account in order."""

    def begin(self, uid: str, state: str) -> None:
        """Has another program lock the account where that is the state; other states are there from the beginning."""

    def end(self, uid: str, state: str) -> None:
        """Ends the state as an administrator, or by time."""

    def set_password(self, uid: str, password: str) -> None:
        """As an administrator."""

    def failures(self, uid: str) -> int: ...

    def takes(self, uid: str, password: str) -> bool:
        """Whether a program other than ours can bind."""


def fail(server: LoginServer, uid: str, count: int) -> None:
    """Has another program try so many wrong passwords."""
    for number in range(count):
        assert not server.takes(uid, f"another program's {number}")


def can_bind(*options: str, authority: Path | None = None) -> bool:
    """Whether a program other than ours can, with these options."""
    environment = {"LDAPTLS_CACERT": str(authority)} if authority is not None else {}
    command = [require("ldapsearch"), *options, "-b", "", "-s", "base", "1.1"]
    return subprocess.run(command, capture_output=True, check=False, env=environment).returncode == 0
