"""A real Samba as an Active Directory domain controller in a scratch directory, on a loopback address of its own.

Its ports are fixed and below 1024, and provisioning sets file attributes of the `security` namespace: root is needed.
Nothing outside of the directory is read or written.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from tests.support.slapd import require
from tests.support.waiting import wait_until_listening

REALM, DOMAIN, HOST = "BRIDGE.TEST", "BRIDGE", "dc1"
BASE = "DC=bridge,DC=test"
PEOPLE = f"OU=People,{BASE}"
READER = f"CN=reader,{PEOPLE}"
READER_PASSWORD = "reads-only-1"
_PORTS = (88, 389, 636, 3268, 3269)
_DNS_PORT = 53
_SYSTEM_PYTHON = "/usr/bin/python3"
"""Debian's own, for which Samba's modules are built."""
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_NEVER_EXPIRE = "512"

Attributes = Mapping[str, Sequence[str | bytes]]


def require_root() -> None:
    """Skips the test for whoever may not start a domain controller, and fails it in CI."""
    if os.geteuid() != 0:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("Samba needs root for its ports and file attributes")


def free_address() -> str:
    """A loopback address on which none of the ports is taken; 127.0.0.2 if it is free."""
    for number in range(2, 200):
        address = f"127.0.0.{number}"
        is_free = all(_is_free(address, port) for port in (*_PORTS, _DNS_PORT))
        if is_free and _is_free(address, _DNS_PORT, socket.SOCK_DGRAM):
            return address
    raise AssertionError("every loopback address has a directory server")


def _is_free(address: str, port: int, kind: int = socket.SOCK_STREAM) -> bool:
    with socket.socket(type=kind) as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((address, port))
        except OSError:
            return False
    return True


def account(name: str, password: str | None = None, **attributes: Sequence[str | bytes]) -> tuple[str, Attributes]:
    """A user below People, with the password `Pass-NAME-1`, or none where it is empty."""
    password = f"Pass-{name}-1" if password is None else password
    found: dict[str, Sequence[str | bytes]] = {
        "objectClass": ["user"],
        "sAMAccountName": [name],
        "userPrincipalName": [f"{name}@{REALM.lower()}"],
        "displayName": [f"Name of {name}"],
        "mail": [f"{name}@example.com"],
    }
    if password:
        found |= {"unicodePwd": [f'"{password}"'.encode("utf-16-le")], "userAccountControl": [_NEVER_EXPIRE]}
    return f"CN={name},{PEOPLE}", {**found, **attributes}


@dataclass
class Samba:
    """The domain controller, with a policy under which three wrong passwords lock an account for half an hour."""

    folder: Path
    certificate: tuple[Path, Path]
    authority: Path
    address: str = field(default_factory=free_address)
    dns: bool = False
    """Whether Samba's own DNS names the server, at port 53 of the address."""
    strong_auth: str = "yes"
    """What `ldap server require strong auth` is."""
    process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        require_root()
        require("samba")
        for name in ("run", "ncalrpc", "log", "wb", "ntp", "tls", "etc"):
            (self.folder / name).mkdir(parents=True)
        self._provision()
        self._configuration_file.write_text(self._configuration())
        for source, name in zip(self.certificate, ("cert.pem", "key.pem"), strict=True):
            shutil.copyfile(source, self.folder / "tls" / name)
        (self.folder / "tls" / "key.pem").chmod(0o600)  # Samba refuses one that others may read
        self.change(
            modify={
                BASE: {
                    "pwdProperties": ["0"],
                    "minPwdLength": ["4"],
                    "minPwdAge": ["0"],
                    "maxPwdAge": [str(-42 * 24 * 3600 * 10_000_000)],  # of one day or less, it expires nothing
                    "lockoutThreshold": ["3"],
                    "lockoutDuration": [str(-1800 * 10_000_000)],
                    "lockOutObservationWindow": [str(-1800 * 10_000_000)],
                }
            },
            add=[(PEOPLE, {"objectClass": ["organizationalUnit"]}), account("reader", READER_PASSWORD)],
        )
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """LDAPS, since passwords are refused over plain LDAP."""
        return f"ldaps://{self.address}"

    def start(self) -> None:
        log = (self.folder / "log" / "output").open("ab")
        command = ["samba", "-i", "-M", "single", "-s", str(self._configuration_file)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment(), start_new_session=True
        )
        log.close()
        ports = (88, 636, *([_DNS_PORT] if self.dns else []))
        addresses = [(self.address, port) for port in ports]
        wait_until_listening(self.process, addresses, self.folder / "log" / "output", 30)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=20)
            self.process = None

    def restart(self, *, strong_auth: str) -> None:
        """Starts anew with another `ldap server require strong auth`."""
        self.stop()
        self.strong_auth = strong_auth
        self._configuration_file.write_text(self._configuration())
        self.start()

    def export_key(self, name: str) -> Path:
        """The key table of an account that has a password."""
        file = self.folder / f"{name}.keytab"
        self._tool("domain", "exportkeytab", str(file), f"--principal={name}")
        return file

    def add_service_name(self) -> None:
        """Tickets are given for LDAP at the server; Samba adds the name by itself only while it updates a DNS."""
        self._tool("spn", "add", f"ldap/{HOST}.{REALM.lower()}", f"{HOST.upper()}$")

    def kerberos_configuration(self) -> Path:
        """A krb5.conf for clients, which finds the server without a DNS."""
        file = self.folder / "krb5.conf"
        file.write_text(f"""\
[libdefaults]
 default_realm = {REALM}
 dns_lookup_kdc = false
 dns_lookup_realm = false
 rdns = false
 dns_canonicalize_hostname = false
[realms]
 {REALM} = {{
  kdc = {self.address}
 }}
[domain_realm]
 .{REALM.lower()} = {REALM}
""")
        return file

    def change(
        self,
        *,
        add: Sequence[tuple[str, Attributes]] = (),
        modify: Mapping[str, Attributes] | None = None,
        rename: Mapping[str, str] | None = None,
        delete: Sequence[str] = (),
    ) -> None:
        """Changes the database itself, in one process and one transaction, whether Samba is running or not."""
        changes = {
            "add": [[dn, _as_json(values)] for dn, values in add],
            "modify": {dn: _as_json(values) for dn, values in (modify or {}).items()},
            "rename": dict(rename or {}),
            "delete": list(delete),
        }
        self._run(_SYSTEM_PYTHON, "-I", str(Path(__file__).parent / "samba_changes.py"), stdin=json.dumps(changes))

    def read(self, dn: str, *attributes: str) -> dict[str, list[str]]:
        """The values of an entry, from the database itself."""
        output = self._run("ldbsearch", "-H", self._database, "-b", dn, "-s", "base", *attributes)
        found: dict[str, list[str]] = {}
        for line in output.splitlines():
            name, sign, value = line.partition(": ")
            if sign and not name.startswith("#"):
                found.setdefault(name, []).append(value)
        return found

    @property
    def _configuration_file(self) -> Path:
        return self.folder / "etc" / "smb.conf"

    @property
    def _database(self) -> str:
        return str(self.folder / "private" / "sam.ldb")

    def _provision(self) -> None:
        empty = self.folder / "empty.conf"  # otherwise that of the machine is merged in
        empty.touch()
        self._run(
            *("samba-tool", "domain", "provision", "-q", "-s", str(empty), f"--targetdir={self.folder}"),
            *(f"--realm={REALM}", f"--domain={DOMAIN}", "--server-role=dc"),
            f"--dns-backend={'SAMBA_INTERNAL' if self.dns else 'NONE'}",
            *("--adminpass=Adm1n-Pa55", f"--host-name={HOST}", f"--host-ip={self.address}"),
            *(f"--option=interfaces={self.address}/8", "--option=bind interfaces only=yes"),
        )

    def _tool(self, *arguments: str) -> None:
        self._run("samba-tool", *arguments, "-s", str(self._configuration_file))

    def _run(self, *command: str, stdin: str | None = None) -> str:
        environment = _environment() | {"SAMBA_FOLDER": str(self.folder)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, input=stdin, env=environment)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def _configuration(self) -> str:
        folder = self.folder
        return f"""\
[global]
netbios name = {HOST.upper()}
realm = {REALM}
workgroup = {DOMAIN}
server role = active directory domain controller
server services = ldap, kdc{", cldap, dns" if self.dns else ""}
interfaces = {self.address}/8
bind interfaces only = yes
disable netbios = yes
ldap server require strong auth = {self.strong_auth}
tls enabled = yes
tls keyfile = {folder}/tls/key.pem
tls certfile = {folder}/tls/cert.pem
tls cafile = {self.authority}
private dir = {folder}/private
state directory = {folder}/state
cache directory = {folder}/cache
lock directory = {folder}
pid directory = {folder}/run
ncalrpc dir = {folder}/ncalrpc
binddns dir = {folder}/bind-dns
winbindd socket directory = {folder}/wb
ntp signd socket directory = {folder}/ntp
log file = {folder}/log/log.%m
logging = file
panic action = /bin/false
"""


def _environment() -> dict[str, str]:
    return {"PATH": _PATH, "LC_ALL": "C.UTF-8"}


def _as_json(attributes: Attributes) -> dict[str, list[Any]]:
    """Texts as they are, octets in hexadecimal digits."""
    return {
        name: [value if isinstance(value, str) else {"hex": value.hex()} for value in values]
        for name, values in attributes.items()
    }
