"""Commands on a terminal of a given width, and commands with streams that are closed, full or left."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping, Sequence

BRIDGE = (sys.executable, "-m", "bridge")


def inherit() -> dict[str, str]:
    """The environment without what has coverage measured: it makes each start half as long again, and there are many."""
    return {name: value for name, value in os.environ.items() if name != "COVERAGE_PROCESS_CONFIG"}


class Terminal:
    """A pseudo-terminal, whose other end keeps what is written to it."""

    def __init__(self, width: int = 80) -> None:
        self._near, self.descriptor = pty.openpty()
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
        attributes = termios.tcgetattr(self.descriptor)
        attributes[1] &= ~termios.OPOST  # a line ends as the program has ended it
        termios.tcsetattr(self.descriptor, termios.TCSANOW, attributes)
        self._parts: list[bytes] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def type(self, text: str) -> None:
        os.write(self._near, text.encode())

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self._near, 65536)
            except OSError:  # nobody has the terminal open any more
                return
            if not part:
                return
            self._parts.append(part)

    def close(self) -> str:
        """What was written to the terminal."""
        os.close(self.descriptor)
        self._reader.join(timeout=20)
        os.close(self._near)
        return b"".join(self._parts).decode("utf-8")


def on_terminal(
    arguments: Sequence[str],
    *,
    width: int = 80,
    environment: Mapping[str, str] | None = None,
    typed: str = "",
    piped: str | None = None,
    stderr: bool = False,
) -> tuple[int, str]:
    """The exit code of a command, and what its output is on a terminal of so many columns.

    With `stderr`, errors go there, too, and the progress of a listing, which moves the cursor. `piped` comes by a pipe,
    as a password must that is there before it is asked for.
    """
    terminal = Terminal(width)
    inherited = {name: value for name, value in inherit().items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    terminal.type(typed)
    done = subprocess.run(
        [*BRIDGE, *arguments],
        **({"stdin": terminal.descriptor} if piped is None else {"input": piped.encode()}),
        stdout=terminal.descriptor,
        stderr=terminal.descriptor if stderr else subprocess.DEVNULL,
        env={**inherited, "TERM": "xterm", **(environment or {})},
        check=False,
    )
    return done.returncode, terminal.close()


def with_shell(
    arguments: Sequence[str], redirection: str, *, environment: Mapping[str, str] | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """The command, started by a shell with a redirection such as `> /dev/full` or `2>&-`."""
    return subprocess.run(
        ["sh", "-c", f'"$@" {redirection}', "sh", *BRIDGE, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        env={**inherit(), **(environment or {})},
        check=False,
    )
