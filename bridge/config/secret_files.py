"""Secrets of the configuration, read when needed: from files, systemd's credentials, or the configuration itself."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from bridge.errors import ConfigurationError
from bridge.model import Secret
from bridge.renewal import Renewed, explain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SECRET_MAX_BYTES = 64 * 1024
_FILE_NAME = re.compile(r"(?s).*/.*|[\w-]+\.[A-Za-z]+")
_KEYTAB_MAX_BYTES = 1024 * 1024


class SecretError(ValueError):
    """A secret can't be had; the message tells why and what to do, and nothing of the secret."""


@dataclass(frozen=True, slots=True)
class Named:
    """A key of the configuration that names a secret."""

    place: str
    """The path of the key: `directories[0].bind.password_file`."""
    key: str
    value: str = field(repr=False)
    """What stands there: a path, the name of a credential, or the password."""
    line: int
    prefix: str
    """The beginning of each message about it: the configuration's file, the line, the place."""

    @property
    def shown(self) -> str:
        """The beginning of a sentence. Security: a word that is no path of a file may be the password itself."""
        is_name = self.key == "password_credential" or _FILE_NAME.fullmatch(self.value)
        return f"{self.value} " if is_name else ""


class SecretFile(Renewed[Secret]):
    """A secret that is read when it is needed, and again when its file has changed."""

    def __init__(self, named: Named, environment: Mapping[str, str]) -> None:
        self.named = named
        files: tuple[str, ...] = ()
        make: Callable[[tuple[bytes, ...]], Secret] = _parse
        match named.key:
            case "password":
                make = partial(_take, named.value.encode())
            case "password_credential":
                try:
                    files = (_credential(named.value, environment),)
                except SecretError as error:
                    make = partial(_refuse, error)
            case "keytab":
                files, make = (named.value,), _parse_keytab
            case _:
                files = (named.value,)
        limit = _KEYTAB_MAX_BYTES if named.key == "keytab" else _SECRET_MAX_BYTES
        super().__init__(named.place, files, make, max_bytes=limit)

    def read(self) -> Secret:
        """The secret as it is now, or the last good one. Raises `ConfigurationError` if there never was one."""
        try:
            return super().read()
        except (OSError, ValueError) as error:
            raise ConfigurationError((f"{self.named.prefix}{self.named.shown}{explain(error)}",)) from error


def _parse(contents: tuple[bytes, ...]) -> Secret:
    r"""The bytes of a file; one newline at its end is cut off (`\n` or `\r\n`), nothing else."""
    (data,) = contents
    if data.endswith(b"\n"):
        data = data[:-2] if data.endswith(b"\r\n") else data[:-1]
    if not data:
        raise SecretError("holds nothing; write the password into the file")
    return Secret(data)


def _parse_keytab(contents: tuple[bytes, ...]) -> Secret:
    if not contents[0]:
        raise SecretError("holds nothing; export the principal's key into it")
    return Secret(contents[0])


def _take(value: bytes, _contents: tuple[bytes, ...]) -> Secret:
    return Secret(value)


def _refuse(error: SecretError, _contents: tuple[bytes, ...]) -> NoReturn:
    raise error


def _credential(name: str, environment: Mapping[str, str]) -> str:
    """The file of a credential that systemd hands over (LoadCredential=). Raises `SecretError`."""
    folder = environment.get("CREDENTIALS_DIRECTORY")
    if folder is None:
        raise SecretError("needs systemd: there is no $CREDENTIALS_DIRECTORY; use password_file outside of it")
    if "/" in name or name in ("", ".", ".."):
        raise SecretError("is no name of a credential")
    return os.path.join(folder, name)  # noqa: PTH118 - joined, not normalised
