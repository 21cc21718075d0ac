"""A real 389 Directory Server in a scratch directory, on loopback, for as long as a context lasts.

It refuses to be made by root, so that root makes it as the user `dirsrv`, whom the Debian package has. Nothing outside of
the directory is written but a semaphore in /dev/shm.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

from tests.support.slapd import Entry, free_port, require, to_ldif

BASE = "dc=bridge,dc=test"
PEOPLE = f"ou=people,{BASE}"
READER = f"cn=reader,{BASE}"
READER_PASSWORD = "reads-only"
MANAGER, MANAGER_PASSWORD = "cn=Directory Manager", "DirMgr-Pa55"
_USER = "dirsrv"
_INSTANCE = "slapd-bridge"

READ_ACCESS = f'(targetattr="*")(version 3.0; acl "reader"; allow (read,search,compare) userdn="ldap:///{READER}";)'
"""What lets the reader see everybody, operational attributes included."""


@dataclass
class DirectoryServer389:
    """The server, with a reader who may see nobody until `READ_ACCESS` is given."""

    entries: Iterable[Entry] = ()
    folder: Path = field(default=Path(), init=False)
    port: int = field(default_factory=free_port)
    tls_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        require("dscreate")
        # Not one of pytest's folders: those are for one user alone, and the server is another.
        self.folder = Path(tempfile.mkdtemp(prefix="ds389-"))
        if os.geteuid() == 0:
            user = pwd.getpwnam(_USER)
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        try:
            self._start_new()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start_new(self) -> None:
        self._create()
        self._import()
        self.start()

    @property
    def url(self) -> str:
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        """With the name that stands in the certificate."""
        return f"ldaps://localhost:{self.tls_port}"

    @property
    def authority(self) -> Path:
        return self._configuration_folder / "ca.crt"

    def start(self) -> None:
        log = (self.folder / "output").open("ab")
        pid_file = self.folder / "root" / "run" / "dirsrv" / "bridge.pid"
        command = [require("ns-slapd"), "-D", str(self._configuration_folder), "-i", str(pid_file), "-d", "0"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **self._identity()
        )
        log.close()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            arguments = ["ldapsearch", "-x", "-o", "nettimeout=1", "-H", self.url, "-b", "", "-s", "base", "1.1"]
            if subprocess.run(arguments, capture_output=True, check=False).returncode == 0:
                return
            time.sleep(0.05)
        pytest.fail(f"389 DS did not start: {(self.folder / 'output').read_text()}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=60)
            self.process = None

    def add(self, *entries: Entry) -> None:
        """Adds entries to the running server."""
        self.modify("".join(to_ldif([entry]).replace("\n", "\nchangetype: add\n", 1) for entry in entries))

    def add_database(self, name: str, suffix: str, parent: str) -> None:
        """A database of its own for a branch of the tree, which must not be there yet."""
        backend = {"objectClass": ["extensibleObject", "nsBackendInstance"], "cn": [name], "nsslapd-suffix": [suffix]}
        mapping = {
            "objectClass": ["extensibleObject", "nsMappingTree"],
            "cn": [suffix],
            "nsslapd-state": ["backend"],
            "nsslapd-backend": [name],
            "nsslapd-parent-suffix": [parent],
        }
        self.add(
            (f"cn={name},cn=ldbm database,cn=plugins,cn=config", backend),
            (f'cn="{suffix}",cn=mapping tree,cn=config', mapping),
        )

    def modify(self, ldif: str, *, over_tls: bool = False) -> None:
        """Changes entries as the administrator; `ldif` holds change records (RFC 2849)."""
        url, environment = self.tls_url if over_tls else self.url, {**os.environ, "LDAPTLS_REQCERT": "never"}
        arguments = ["ldapmodify", "-x", "-H", url, "-D", MANAGER, "-w", MANAGER_PASSWORD]
        done = subprocess.run(arguments, input=ldif, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr

    def replace(self, dn: str, **values: str | None) -> None:
        """Gives an entry these values, or takes them away."""
        lines = (
            f"replace: {name.replace('_', '-')}\n"
            + (f"{name.replace('_', '-')}: {value}\n" if value is not None else "")
            for name, value in values.items()
        )
        self.modify(f"dn: {dn}\nchangetype: modify\n" + "-\n".join(lines) + "\n")

    @property
    def _configuration_folder(self) -> Path:
        return self.folder / "root" / "etc" / "dirsrv" / _INSTANCE

    def _create(self) -> None:
        root, programs = self.folder / "root", self.folder / "bin"
        self._run(require("dscreate"), "ds-root", str(root), str(programs))
        file = self.folder / "instance.inf"
        file.write_text(f"""\
[general]
config_version = 2
full_machine_name = localhost
start = False
selinux = False
strict_host_checking = False
systemd = False
[slapd]
instance_name = bridge
port = {self.port}
secure_port = {self.tls_port}
self_sign_cert = True
root_password = {MANAGER_PASSWORD}
[backend-userroot]
suffix = {BASE}
create_suffix_entry = True
""")
        file.chmod(0o644)
        self._run(str(programs / "dscreate"), "from-file", str(file))  # which knows where the root is
        self._end_first_run()
        configuration = self._configuration_folder / "dse.ldif"
        loopback = "nsslapd-listenhost: 127.0.0.1\nnsslapd-securelistenhost: 127.0.0.1"
        text = configuration.read_text()
        found = re.sub(r"^nsslapd-port: .*$", rf"\g<0>\n{loopback}", text, flags=re.MULTILINE)
        configuration.write_text(found)

    def _import(self) -> None:
        """The entries are in the database, which takes a second for 6,000; added one by one they take ten."""
        file = self.folder / "data.ldif"
        suffix: Entry = (BASE, {"objectClass": ["top", "domain"], "dc": ["bridge"]})
        file.write_text(to_ldif([suffix, *self.entries]))
        file.chmod(0o644)
        configuration = str(self._configuration_folder)
        self._run(require("ns-slapd"), "ldif2db", "-D", configuration, "-n", "userroot", "-i", str(file))

    def _end_first_run(self) -> None:
        """`dscreate` leaves the server running, whatever it was told."""
        file = self.folder / "root" / "run" / "dirsrv" / f"{_INSTANCE}.pid"
        if not file.exists():
            return
        process = int(file.read_text())
        deadline = time.monotonic() + 60
        try:
            os.kill(process, 15)
            while time.monotonic() < deadline:
                os.kill(process, 0)
                time.sleep(0.05)
        except ProcessLookupError:
            return
        pytest.fail("389 DS did not stop")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [program, *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            **self._identity(),
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _identity(self) -> Mapping[str, object]:
        """As whom the server's programs run, and where they look for each other."""
        path = f"{self.folder}/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # Debian's Python, for which they are written
        environment = {"HOME": str(self.folder), "PATH": path, "LC_ALL": "C.UTF-8"}
        if os.geteuid() != 0:
            return {"env": environment}
        return {"env": environment, "user": _USER, "group": _USER, "extra_groups": []}
