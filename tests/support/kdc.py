"""A real Kerberos KDC of MIT in a scratch directory, on loopback, for as long as a context lasts."""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

from tests.support.slapd import free_port, require
from tests.support.waiting import wait_until_listening

REALM = "EXAMPLE.COM"


_DEBIANS_PACKAGES = "/usr/lib/python3/dist-packages"


def require_gssapi() -> None:
    """The extra is there, or Debian's build of it for this version of Python; else as `require`.

    The package has no wheels, and takes a compiler and a minute to install.
    """
    with contextlib.suppress(ImportError):
        importlib.import_module("gssapi")
        return
    sys.path.append(_DEBIANS_PACKAGES)
    try:
        importlib.import_module("gssapi")
    except ImportError:
        missing = "neither the extra gssapi nor python3-gssapi for this version of Python is installed"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    finally:
        sys.path.remove(_DEBIANS_PACKAGES)


@dataclass
class Kdc:
    """Makes its realm and starts; keys of principals are written by `export_key`."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        require("krb5kdc")
        self.folder.mkdir()
        (self.folder / "krb5.conf").write_text(f"""\
[libdefaults]
 default_realm = {REALM}
 dns_lookup_kdc = false
 dns_lookup_realm = false
 rdns = false
 dns_canonicalize_hostname = false
 udp_preference_limit = 1
[realms]
 {REALM} = {{
  kdc = 127.0.0.1:{self.port}
 }}
[domain_realm]
 localhost = {REALM}
""")
        (self.folder / "kdc.conf").write_text(f"""\
[kdcdefaults]
 kdc_listen = 127.0.0.1:{self.port}
 kdc_tcp_listen = 127.0.0.1:{self.port}
[realms]
 {REALM} = {{
  database_name = {self.folder}/principal
  key_stash_file = {self.folder}/stash
  acl_file = {self.folder}/acl
 }}
""")
        self._run("kdb5_util", "create", "-s", "-P", "master", "-r", REALM)
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "KRB5_CONFIG": str(self.folder / "krb5.conf"),
            "KRB5_KDC_PROFILE": str(self.folder / "kdc.conf"),
            "KRB5RCACHEDIR": str(self.folder),
        }

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            command = [require("krb5kdc"), "-n", "-P", str(self.folder / "pid")]
            environment = {**os.environ, **self.environment}
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        wait_until_listening(self.process, [("127.0.0.1", self.port)], self.folder / "log")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=20)
            self.process = None

    def export_key(self, principal: str, name: str) -> Path:
        """The key table of a new principal, or of one that gets new keys by this."""
        self._run("kadmin.local", "-q", f"addprinc -randkey {principal}")
        self._run("kadmin.local", "-q", f"ktadd -k {self.folder / name} {principal}")
        return self.folder / name

    def replace_key(self, principal: str, name: str) -> None:
        """The key table holds a new key alone."""
        (self.folder / name).unlink()
        self.export_key(principal, name)

    def _run(self, program: str, *arguments: str) -> None:
        environment = {**os.environ, **self.environment}
        done = subprocess.run(
            [require(program), *arguments], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
