"""Where the service keeps its state, and where it listens for the command line."""

from __future__ import annotations

import pwd
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.config.loading import Loaded


_CONTROL_SOCKET = "control.sock"
_UNIT_RUNTIME_FOLDER = Path("/run/mailstore-bridge")
"""What RuntimeDirectory= in systemd/mailstore-bridge.service makes."""


def state_folder(loaded: Loaded, environment: Mapping[str, str]) -> Path:
    """Where the last accepted listings are kept; what systemd has made for the service comes first."""
    given = environment.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(given or loaded.configuration.state.directory)


def control_socket(loaded: Loaded, environment: Mapping[str, str]) -> Path:
    """Where the running service listens for the command line."""
    configured = loaded.configuration.admin.socket
    if configured is not None:
        return Path(configured)
    runtime = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(runtime or state_folder(loaded, environment)) / _CONTROL_SOCKET


def find_control_socket(loaded: Loaded, environment: Mapping[str, str], unit: Path = _UNIT_RUNTIME_FOLDER) -> Path:
    """Where a running service listens, as seen by a command: systemd tells the service its folders, and nobody else.

    A socket that this user may not even look for counts as there: to open it tells why.
    """
    expected = control_socket(loaded, environment)
    if loaded.configuration.admin.socket is not None:
        return expected
    candidates = (expected, unit / _CONTROL_SOCKET)
    seen = {path: _is_there(path) for path in candidates}
    return next((path for wanted in (True, None) for path in candidates if seen[path] is wanted), expected)


def owner_of(path: Path) -> str | None:
    """The name of the user to whom the file belongs, or the folder that hides it; None for root or nobody known."""
    for place in (path, *path.parents):
        try:
            found = place.stat()
        except OSError:
            continue
        if found.st_uid == 0:
            return None
        try:
            return pwd.getpwuid(found.st_uid).pw_name
        except KeyError:
            return f"#{found.st_uid}"
    return None


def _is_there(path: Path) -> bool | None:
    """Whether the file exists; None where this user may not know."""
    try:
        path.stat()
    except PermissionError:
        return None
    except OSError:
        return False
    return True
