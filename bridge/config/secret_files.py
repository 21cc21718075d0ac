"""Secrets of the configuration: read from files, from systemd's credentials, or from the configuration itself."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.model import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

_SECRET_MAX_BYTES = 64 * 1024


class SecretError(ValueError):
    """A secret can't be had; the message tells why and what to do, and nothing of the secret."""


def read_secret_file(path: str) -> Secret:
    r"""The bytes of a file; one newline at its end is cut off (`\n` or `\r\n`), nothing else.

    Raises `SecretError`.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(_SECRET_MAX_BYTES + 1)
    except OSError as error:
        raise SecretError(f"can't be read: {error.strerror}; let the service's user read the file") from error
    if data.endswith(b"\n"):
        data = data[:-2] if data.endswith(b"\r\n") else data[:-1]
    if not data:
        raise SecretError("holds nothing; write the password into the file")
    if len(data) > _SECRET_MAX_BYTES:
        raise SecretError(f"holds more than {_SECRET_MAX_BYTES} bytes, which is no password")
    return Secret(data)


def read_credential(name: str, environment: Mapping[str, str]) -> Secret:
    """A credential that systemd hands over (LoadCredential=). Raises `SecretError`."""
    folder = environment.get("CREDENTIALS_DIRECTORY")
    if folder is None:
        raise SecretError("needs systemd: there is no $CREDENTIALS_DIRECTORY; use password_file outside of it")
    if "/" in name or name in ("", ".", ".."):
        raise SecretError("is no name of a credential")
    return read_secret_file(os.path.join(folder, name))  # noqa: PTH118 - joined, not normalised


def others_may_read(path: str) -> bool:
    """Whether the file is open to its group or to everybody."""
    try:
        return bool(Path(path).stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))
    except OSError:
        return False
