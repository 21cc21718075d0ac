"""What `check` finds of secrets, certificates and keys: who can read them, and what the running service uses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.cli.findings import Check
from bridge.errors import ServiceError
from bridge.renewal import explain, fingerprint
from bridge.run.build import require_directories
from bridge.run.paths import find_control_socket
from bridge.run.permissions import find_service_user, unreadable_files
from bridge.web.control_client import ask_service

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bridge.config.loading import Loaded
    from bridge.config.secret_files import SecretFile

_RELOAD = "`systemctl reload mailstore-bridge` has it read the file at once."


def tell_unread(loaded: Loaded) -> Iterator[Check]:
    """What could not be read, and isn't needed where no server is asked."""
    for _, path, sentence in loaded.faults():
        yield _found("warning", f"not read: {loaded.prefix_of(path)}{sentence}")


def require_what_is_tried(loaded: Loaded) -> None:
    """Raise `ConfigurationError` where a file can't be had; of callers, credentials are left out."""
    kept = [path for path, secret in loaded.secrets.items() if path[0] == "endpoints" and not _is_hidden(secret)]
    require_directories(loaded, [section.name for section in loaded.configuration.directories])
    loaded.require(("server",), ("directories",), *kept)


def tell_hidden(loaded: Loaded) -> Iterator[Check]:
    """Which credentials of callers are not looked at, as the unit alone sees them."""
    for path, secret in loaded.secrets.items():
        if path[0] == "endpoints" and _is_hidden(secret):
            message = f"not read: {secret.named.prefix}{secret.named.value} is a credential, which the unit alone sees"
            yield _found("warning", message)


def check_files(loaded: Loaded, environment: Mapping[str, str]) -> Iterator[Check]:
    """Whether the service's user can read what it needs; what isn't there at all is told elsewhere."""
    user = find_service_user(loaded, environment)
    if user.is_us:
        return  # whatever can't be read has been told
    try:
        found = list(unreadable_files([named for named in loaded.files if Path(named.file).exists()], user))
    except OSError as error:
        message = f"can't try as {user.name} which files can be read: {error}"
        yield _found("warning", message, f"Run `check` as {user.name}.")
        return
    for named, reason in found:
        message = f"{named.prefix}{named.file} can't be read by {user.name}, as whom the service runs: {reason}"
        remedy = f"Run: chgrp {user.group} {named.file} && chmod 640 {named.file}; and let it enter the folders above."
        yield _found("failed", message, remedy)
    if not found and not list(loaded.faults()):
        yield _found("ok", f"{user.name}, as whom the service runs, can read every file")


async def check_files_in_use(loaded: Loaded, environment: Mapping[str, str]) -> list[Check]:
    """Where the running service uses something else than the files hold now; nothing where none runs."""
    try:
        found = await ask_service(find_control_socket(loaded, environment), "GET", "/files")
    except (ServiceError, OSError):
        return []  # another user's, or one that doesn't tell yet
    if found is None:
        return []
    return list(_compare_all(loaded, found))


def _compare_all(loaded: Loaded, found: dict[str, Any]) -> Iterator[Check]:
    ours = {os.path.abspath(named.file) for named in loaded.files}  # noqa: PTH100 - as the service has them
    for entry in found["files"]:
        if entry["file"] in ours:
            yield from _compare(entry, bytes.fromhex(found["key"]))


def _compare(entry: dict[str, Any], key: bytes) -> Iterator[Check]:
    """What one file holds beside what the service has taken from it."""
    file, place = entry["file"], entry["place"]
    older = f"the running service uses an older {file} ({place}), taken at {entry['since']}"
    try:
        is_same = fingerprint(Path(file).read_bytes(), key).hex() == entry["fingerprint"]
    except OSError as error:
        if entry["failure"] is not None:
            yield _found("warning", f"{older}; now it {explain(error)}", "Put the file back.")
        return
    if not is_same and entry["failure"] is not None:
        message = f"{older}, as it can't use what stands there now: {entry['failure']}"
        yield _found("warning", message, f"Put the file right; {_RELOAD}")
    elif not is_same:
        yield _found("warning", older, _RELOAD)


def _found(result: str, message: str, remedy: str = "") -> Check:
    return Check("file", "", "", result, message, remedy)


def _is_hidden(secret: SecretFile) -> bool:
    """Whether it is a credential outside of the unit."""
    return secret.named.key == "password_credential" and not secret.files
