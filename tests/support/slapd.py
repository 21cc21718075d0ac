"""A real OpenLDAP server in a scratch directory, on loopback, for as long as a context lasts."""

from __future__ import annotations

import base64
import os
import random
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Self

import pytest

from tests.support.waiting import wait_until_listening

BASE = "dc=example,dc=com"
PEOPLE = f"ou=people,{BASE}"
READER = f"cn=reader,{BASE}"
READER_PASSWORD = "reads-only"
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"

_ACCESS = f'access to * by dn.exact="{READER}" read by anonymous auth by * none'

_FIRST_PORT, _PORTS_COUNT = 20_000, 12_000
_NUMBERS = count(random.SystemRandom().randrange(_PORTS_COUNT))  # not where hypothesis begins anew for each test

Entry = tuple[str, Mapping[str, Sequence[str | bytes]]]


def require(program: str) -> str:
    """The path of a program; where it is missing, the test is skipped, and fails in CI."""
    found = shutil.which(program, path=_PATH)
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{program} is not installed; script/test installs it")
    return found


def free_port() -> int:
    """A port at which nothing listens, below those that the system gives to whoever connects somewhere (ip(7)).

    None is given twice in a row: a server that has two does not listen at the first before it has both.
    """
    while True:
        port = _FIRST_PORT + next(_NUMBERS) % _PORTS_COUNT
        with socket.socket() as found, suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port


def to_ldif(entries: Iterable[Entry]) -> str:
    """LDIF in which every value is base64, whatever it holds."""

    def line(name: str, value: str | bytes) -> str:
        data = value.encode() if isinstance(value, str) else value
        return f"{name}:: {base64.b64encode(data).decode()}\n" if data else f"{name}:\n"

    return "".join(
        line("dn", dn) + "".join(line(name, value) for name, values in attributes.items() for value in values) + "\n"
        for dn, attributes in entries
    )


def person(uid: str, **attributes: Sequence[str | bytes]) -> Entry:
    found = {"objectClass": ["inetOrgPerson"], "uid": [uid], "cn": [f"Name of {uid}"], "sn": ["S"]}
    found |= {"mail": [f"{uid}@example.com"], "userPassword": [f"Pass-{uid}"]}
    return f"uid={uid},{PEOPLE}", {**found, **attributes}


SKELETON: list[Entry] = [
    (BASE, {"objectClass": ["dcObject", "organization"], "dc": ["example"], "o": ["Example"]}),
    (PEOPLE, {"objectClass": ["organizationalUnit"], "ou": ["people"]}),
    (
        READER,
        {"objectClass": ["device", "simpleSecurityObject"], "cn": ["reader"], "userPassword": [READER_PASSWORD]},
    ),
]


@dataclass
class Slapd:
    """`limits` are what the reader may take; `extra` are lines for the database, `size_limit_bytes` its largest size.

    Each entry's entryUUID is made of its DN and `ids`: two servers with the same entries are replicas of each other,
    unless their `ids` differ. `on_network` is what runs a program on another network than ours.
    """

    folder: Path
    entries: Iterable[Entry]
    limits: str = "size=unlimited size.pr=unlimited size.prtotal=unlimited"
    extra: str = ""
    overlays: str = ""
    log_level: str = "stats"
    size_limit_bytes: int = 1 << 30
    certificate: tuple[Path, Path] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    ids: str = ""
    skeleton: Sequence[Entry] = tuple(SKELETON)
    """What is there before the entries; a consumer that has all from its provider begins with nothing."""
    on_network: tuple[str, ...] = ()
    address: str = "127.0.0.1"
    port: int = field(default_factory=free_port)
    tls_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        require("slapadd")
        for name in ("db", "run"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "slapd.conf").write_text(self._configuration())
        with (self.folder / "data.ldif").open("w") as ldif:
            for dn, attributes in chain(self.skeleton, self.entries):
                own_id = str(uuid.uuid5(uuid.NAMESPACE_X500, f"{self.ids} {dn}"))
                ldif.write(to_ldif([(dn, {"entryUUID": [own_id], **attributes})]))
        self._run("slapadd", "-q", "-f", "slapd.conf", "-l", "data.ldif")
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"ldap://{self.address}:{self.port}"

    @property
    def ldapi(self) -> str:
        return str(self.folder / "run" / "ldapi")

    def start(self) -> None:
        urls = [self.url]
        if self.certificate is not None:
            urls.append(f"ldaps://{self.address}:{self.tls_port}")
        urls.append(f"ldapi://{self.ldapi.replace('/', '%2F')}")
        log = (self.folder / "log").open("ab")
        program = [*self.on_network, require("slapd")]
        command = [*program, "-d", self.log_level, "-f", "slapd.conf", "-h", " ".join(urls)]
        environment = {**os.environ, **self.environment}
        self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, env=environment)
        log.close()
        wait_until_listening(self.process, [self.ldapi], self.folder / "log")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=20)
            self.process = None

    def ldapsearch(self, *arguments: str) -> str:
        options = ["-x", "-LLL", "-o", "ldif-wrap=no", "-H", self.url, "-D", READER, "-w", READER_PASSWORD]
        return self._run("ldapsearch", *options, *arguments)

    def modify(self, ldif: str) -> None:
        """Changes entries as the administrator; `ldif` holds change records (RFC 2849)."""
        self._run("ldapmodify", "-x", "-H", self.url, "-D", f"cn=admin,{BASE}", "-w", "admin", stdin=ldif)

    def add(self, *entries: Entry) -> None:
        """Adds entries."""
        self.modify("".join(to_ldif([entry]).replace("\n", "\nchangetype: add\n", 1) for entry in entries))

    def delete(self, *dns: str) -> None:
        """Deletes entries."""
        self.modify("".join(f"dn: {dn}\nchangetype: delete\n\n" for dn in dns))

    def replace(self, dns: Iterable[str], attribute: str, *values: str) -> None:
        """Gives each entry these values of an attribute, or none."""
        lines = "".join(f"{attribute}: {value}\n" for value in values)
        self.modify("".join(f"dn: {dn}\nchangetype: modify\nreplace: {attribute}\n{lines}\n" for dn in dns))

    def restart_with_access(self, access: str) -> None:
        """Starts anew with other lines of `access to …` than those that let the reader read."""
        self.stop()
        file = self.folder / "slapd.conf"
        text = file.read_text()
        file.write_text(text.replace(_ACCESS, access) if _ACCESS in text else text)
        self.start()

    def _run(self, program: str, *arguments: str, stdin: str | None = None) -> str:
        done = subprocess.run(
            [*self.on_network, require(program), *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            input=stdin,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _configuration(self) -> str:
        tls = ""
        if self.certificate is not None:
            tls = f"TLSCertificateFile {self.certificate[0]}\nTLSCertificateKeyFile {self.certificate[1]}\n"
        return f"""\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {self.folder}/run/pid
sizelimit 500
{tls}{self.overlays}
database mdb
suffix "{BASE}"
rootdn "cn=admin,{BASE}"
rootpw admin
directory {self.folder}/db
maxsize {self.size_limit_bytes}
dbnosync
index objectClass,uid,mail,entryUUID eq
limits dn.exact="{READER}" {self.limits}
access to attrs=userPassword by anonymous auth by * none
{_ACCESS}
{self.extra}
"""
