"""Who may read the files of the configuration: the service's user must, and nobody else where they hold a secret.

What an administrator runs as root is judged by the user as whom the service runs.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import stat
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.run.paths import find_control_socket, state_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bridge.config.loading import Loaded, NamedFile

_USER = "mailstore-bridge"
"""What systemd/mailstore-bridge.sysusers makes."""
_TIMEOUT_S = 20.0
_ACL_HEADER_BYTES, _ACL_READ = 4, 4
_ACL_USER, _ACL_GROUP, _ACL_MASK = 0x02, 0x08, 0x10
"""The tags in <linux/posix_acl_xattr.h>, with which acl(5) is stored."""
_TRY = """
import json, os, sys
identity, paths = json.load(sys.stdin)
if identity is not None:
    os.setgroups(identity[1])
    os.setgid(identity[1][0])
    os.setuid(identity[0])
found = {}
for path in paths:
    try:
        open(path, "rb").close()
    except OSError as error:
        found[path] = error.strerror
json.dump(found, sys.stdout)
"""


@dataclass(frozen=True, slots=True)
class ServiceUser:
    """As whom the service runs."""

    name: str
    user_id: int
    group_ids: tuple[int, ...]
    """All of its groups, its own one first."""

    @property
    def is_us(self) -> bool:
        """Whether this process runs as the same user."""
        return self.user_id == os.geteuid()

    @property
    def group(self) -> str:
        """The name of its own group."""
        return _group_name(self.group_ids[0])


def find_service_user(loaded: Loaded, environment: Mapping[str, str]) -> ServiceUser:
    """The user of the running service or of what it has left, or whom the package makes; otherwise our own."""
    if os.geteuid() != 0:
        return _own()
    try:
        expected = _named(pwd.getpwnam(_USER))
    except KeyError:
        expected = _own()
    for path in (find_control_socket(loaded, environment), state_folder(loaded, environment)):
        try:
            found = path.stat()
        except OSError:
            continue
        # Root may have made the folder before the service was ever started.
        return _user_of(found) if found.st_uid != 0 or stat.S_ISSOCK(found.st_mode) else expected
    return expected


def permission_warnings(loaded: Loaded, environment: Mapping[str, str]) -> Iterator[str]:
    """A warning for each secret or key that somebody else may read."""
    private = [named for named in loaded.files if named.is_private]
    user = find_service_user(loaded, environment) if private else _own()
    for named in private:
        sentence = _find_leak(named, user)
        if sentence is not None:
            yield f"{named.prefix}{sentence}"


def unreadable_files(files: Sequence[NamedFile], user: ServiceUser) -> Iterator[tuple[NamedFile, str]]:
    """The files that the service's user can't read, and why: tried as that user, where we are root.

    Raises `OSError` where it can't be tried.
    """
    failures = _try_as(user, [os.path.abspath(named.file) for named in files])  # noqa: PTH100 - links stay
    for named in files:
        reason = failures.get(os.path.abspath(named.file))  # noqa: PTH100
        if reason is not None:
            yield named, reason


def _try_as(user: ServiceUser, paths: list[str]) -> dict[str, str]:
    """What the system says to that user where it opens each path, so that ACLs count, and every folder on the way.

    A process of its own becomes that user after it has begun: the interpreter may lie where only root can reach it.
    """
    identity = None if user.is_us else [user.user_id, user.group_ids]
    command = [sys.executable, "-I", "-S", "-c", _TRY]
    question = json.dumps([identity, paths])
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter
            command, input=question, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(f"no answer within {_TIMEOUT_S:g} s") from error
    if done.returncode != 0:
        raise OSError((done.stderr.splitlines() or [f"it ended with {done.returncode}"])[-1])
    found: dict[str, str] = json.loads(done.stdout)
    return found


def _find_leak(named: NamedFile, user: ServiceUser) -> str | None:
    """Who else may read a file, with the remedy; None where nobody may, or the file isn't there."""
    try:
        found = Path(named.file).stat()
    except OSError:
        return None
    by_others = bool(found.st_mode & stat.S_IROTH)
    by_group = bool(found.st_mode & stat.S_IRGRP) and found.st_gid not in user.group_ids
    if not (by_others or by_group):
        return _find_acl_leak(named.file, user)
    who = "others" if by_others else f"the group {_group_name(found.st_gid)}, which isn't the service's own"
    file = named.file
    if found.st_uid == user.user_id:
        remedy = f"chmod 600 {file}"
    elif found.st_gid in user.group_ids:
        remedy = f"chmod 640 {file}"
    else:
        remedy = f"chgrp {user.group} {file} && chmod 640 {file}"
    return f"{file} can be read by {who}; run: {remedy}"


def _find_acl_leak(file: str, user: ServiceUser) -> str | None:
    """Whom an access control list names beside the service's user, root and their groups, with the remedy."""
    try:
        data = os.getxattr(file, "system.posix_acl_access")
    except (OSError, AttributeError):  # there is none, or the file system has none
        return None
    entries = list(struct.iter_unpack("<HHI", data[_ACL_HEADER_BYTES:]))
    mask = next((allowed for tag, allowed, _ in entries if tag == _ACL_MASK), _ACL_READ)
    for tag, allowed, number in entries:
        known = {_ACL_USER: (0, user.user_id), _ACL_GROUP: (0, *user.group_ids)}.get(tag)
        if known is not None and allowed & mask & _ACL_READ and number not in known:
            kind = "user" if tag == _ACL_USER else "group"
            name = _user_name(number) if tag == _ACL_USER else _group_name(number)
            return f"{file} can be read by the {kind} {name} (ACL); run: setfacl -x {kind}:{name} {file}"
    return None


def _user_name(user_id: int) -> str:
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return str(user_id)


def _group_name(group_id: int) -> str:
    try:
        return grp.getgrgid(group_id).gr_name
    except KeyError:
        return str(group_id)


def _user_of(found: os.stat_result) -> ServiceUser:
    """The owner of what the service has made; one that systemd has made up and forgotten has its group alone."""
    try:
        return _named(pwd.getpwuid(found.st_uid))
    except KeyError:
        return ServiceUser(str(found.st_uid), found.st_uid, (found.st_gid,))


def _named(user: pwd.struct_passwd) -> ServiceUser:
    others = [group for group in os.getgrouplist(user.pw_name, user.pw_gid) if group != user.pw_gid]
    return ServiceUser(user.pw_name, user.pw_uid, (user.pw_gid, *others))


def _own() -> ServiceUser:
    user_id, group_id = os.geteuid(), os.getegid()
    return ServiceUser(
        _user_name(user_id), user_id, (group_id, *(group for group in os.getgroups() if group != group_id))
    )
