"""Each secret and certificate is renewed in place, while MailStore asks: no request fails, and the process stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from tests.support.load import HOST, PORT, Load
from tests.support.readme import read_section, steps_of
from tests.support.set_up import FOLDER, UNIT, URL, SetUp
from tests.support.slapd import READER, READER_PASSWORD

pytestmark = [pytest.mark.slapd, pytest.mark.machine, pytest.mark.timeout(300)]


@pytest.fixture
def same_process(set_up: SetUp) -> Iterator[SetUp]:
    """The set-up, whose service is the same process in the end."""
    before = set_up.property_of_unit("MainPID")
    yield set_up
    assert set_up.property_of_unit("MainPID") == before


def replace_file(set_up: SetUp, name: str, text: str) -> None:
    """Put another file in the place of this one, for the service alone."""
    set_up.machine.run(
        "install", "-m", "640", "-g", "mailstore-bridge", "/dev/stdin", f"{FOLDER}/{name}.new", stdin=text
    )
    set_up.machine.run("mv", f"{FOLDER}/{name}.new", f"{FOLDER}/{name}")


def refresh(set_up: SetUp) -> None:
    """List the directory anew, on a new connection that is bound by the service account."""
    done = set_up.machine.run("mailstore-bridge", "refresh")
    assert done.returncode == 0, done.stdout + done.stderr + set_up.machine.journal()


def serial_of(set_up: SetUp) -> str:
    """The number of the certificate that MailStore is shown."""
    shown = f"openssl s_client -connect {HOST}:{PORT} -servername {HOST} < /dev/null | openssl x509 -noout -serial"
    return set_up.machine.shell(shown)


@pytest.mark.parametrize("command", [["reload", UNIT], ["kill", "-s", "HUP", UNIT]], ids=lambda command: command[0])
def test_reload_ends_nothing(set_up: SetUp, command: list[str]) -> None:
    """The process goes on, and answers."""
    pid = set_up.property_of_unit("MainPID")
    for _ in range(3):
        assert set_up.machine.run("systemctl", *command).returncode == 0
        assert set_up.user_names() == ["anna", "bert", "carl"]
    assert (
        set_up.property_of_unit("MainPID"),
        set_up.property_of_unit("ActiveState"),
        set_up.property_of_unit("NRestarts"),
    ) == (pid, "active", "0")


@pytest.mark.parametrize("first", ["the file", "the directory"])
def test_service_password(same_process: SetUp, first: str) -> None:
    """In either order."""
    steps: list[Callable[[str], None]] = [
        lambda password: replace_file(same_process, "reader.password", f"{password}\n"),
        lambda password: same_process.slapd.replace([READER], "userPassword", password),
    ]
    if first == "the directory":
        steps.reverse()
    with Load(same_process) as load:
        for password in ("renewed", "once more", READER_PASSWORD):
            for step in steps:
                step(password)
                load.go_on()
            refresh(same_process)


def test_caller_password(same_process: SetUp) -> None:
    """The next request with the new one is accepted, and the old one is refused."""
    old = same_process.caller_password
    with Load(same_process):
        replace_file(same_process, "mailstore.password", "another password\n")
        assert same_process.user_names() == ["anna", "bert", "carl"]
    done = same_process.machine.run(
        "curl",
        "-sS",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "-K",
        "-",
        "--cacert",
        f"{FOLDER}/ca.pem",
        "-d",
        "cmd=list",
        URL,
        stdin=f'user = "mailstore:{old}"\n',
    )
    assert done.stdout == "401"


def test_listener_certificate(same_process: SetUp) -> None:
    """Made once more by the command of README, in place, and told by `systemctl reload`."""
    (command,) = (
        line
        for step in steps_of(read_section("Set it up for OpenLDAP"))
        for line in step.text.replace("\\\n", "").splitlines()
        if "-CA ca.pem" in line
    )
    before = serial_of(same_process)
    with Load(same_process):
        same_process.machine.shell(f"{command}\nsystemctl reload mailstore-bridge", folder=FOLDER)
        same_process.machine.until(lambda: serial_of(same_process) != before)
    assert same_process.machine.shell("stat -c %a bridge.key", folder=FOLDER) == "640\n"


def test_ca_file_and_certificate_of_the_directory(
    same_process: SetUp, authority_file: Path, make_certificate: Callable[..., tuple[Path, Path]]
) -> None:
    """The new authority beside the old one, the directory's new certificate, the old authority taken away."""
    old, new = authority_file.read_text(), trustme.CA()
    new_pem = new.cert_pem.bytes().decode()
    original = same_process.slapd.certificate
    assert original is not None
    try:
        with Load(same_process) as load:
            replace_file(same_process, "ldap-ca.pem", old + new_pem)
            refresh(same_process)
            present(same_process, make_certificate("ldap.example.com", signed_by=new))
            refresh(same_process)
            load.go_on()
            replace_file(same_process, "ldap-ca.pem", new_pem)
            refresh(same_process)
        present(same_process, original)
        assert same_process.machine.run("mailstore-bridge", "check").returncode == 1  # which has really gone
    finally:
        replace_file(same_process, "ldap-ca.pem", old)
        present(same_process, original)
    refresh(same_process)


def present(set_up: SetUp, certificate: tuple[Path, Path]) -> None:
    """Have the directory show this certificate to new connections."""
    names = ("olcTLSCertificateFile", "olcTLSCertificateKeyFile")
    changes = "-\n".join(f"replace: {name}\n{name}: {file}\n" for name, file in zip(names, certificate, strict=True))
    account = ["-x", "-H", set_up.slapd.url, "-D", "cn=config", "-w", "config"]
    set_up.slapd._run("ldapmodify", *account, stdin=f"dn: cn=config\nchangetype: modify\n{changes}")
