"""Where the service keeps its state, and where it listens for the command line."""

from __future__ import annotations

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
    """Where a running service listens, as seen by a command: systemd tells the service its folders, and nobody else."""
    expected = control_socket(loaded, environment)
    is_of_unit = loaded.configuration.admin.socket is None and not expected.exists()
    return unit / _CONTROL_SOCKET if is_of_unit and (unit / _CONTROL_SOCKET).exists() else expected
