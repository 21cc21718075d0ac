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


@pytest.fixture
def shown(set_up: SetUp, make_certificate: Callable[..., tuple[Path, Path]], tmp_path: Path) -> Iterator[trustme.CA]:
    """The authority of a certificate that is shown to the directory, which demands one."""
    authority, before = trustme.CA(), set_up.machine.run("cat", f"{FOLDER}/config.yaml").stdout
    show(set_up, make_certificate(signed_by=authority))
    files = f"client_certificate_file: {FOLDER}/client.pem, client_key_file: {FOLDER}/client.key"
    set_up.machine.shell(f"sed -i 's#ldap-ca.pem}}#ldap-ca.pem, {files}}}#' config.yaml", folder=FOLDER)
    demand(set_up, tmp_path, authority)
    set_up.machine.shell(f"systemctl restart {UNIT}")
    yield authority
    configure_directory(set_up, olcTLSVerifyClient="never")
    replace_file(set_up, "config.yaml", before)
    set_up.machine.shell(f"rm client.pem client.key; systemctl restart {UNIT}", folder=FOLDER)


def test_client_certificate(
    shown: trustme.CA, same_process: SetUp, make_certificate: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    """The directory trusts the new one, too; then both files; then the directory trusts the new one alone."""
    new = trustme.CA()
    with Load(same_process) as load:
        demand(same_process, tmp_path, shown, new)
        refresh(same_process)
        show(same_process, make_certificate(signed_by=new))
        refresh(same_process)
        load.go_on()
        demand(same_process, tmp_path, new)
        refresh(same_process)
    show(same_process, make_certificate(signed_by=shown))
    assert same_process.machine.run("mailstore-bridge", "refresh").returncode == 69  # which isn't trusted any more


def show(set_up: SetUp, certificate: tuple[Path, Path]) -> None:
    """Have the service show this certificate to the directory."""
    for name, file in zip(("client.pem", "client.key"), certificate, strict=True):
        replace_file(set_up, name, file.read_text())


def demand(set_up: SetUp, folder: Path, *authorities: trustme.CA) -> None:
    """Have the directory take connections with a certificate of one of them, and no others."""
    file = folder / f"{len(list(folder.iterdir()))}.pem"  # under the same name it would not be read again
    file.write_bytes(b"".join(authority.cert_pem.bytes() for authority in authorities))
    configure_directory(set_up, olcTLSCACertificateFile=file, olcTLSVerifyClient="demand")


def present(set_up: SetUp, certificate: tuple[Path, Path]) -> None:
    """Have the directory show this certificate to new connections."""
    configure_directory(set_up, olcTLSCertificateFile=certificate[0], olcTLSCertificateKeyFile=certificate[1])


def configure_directory(set_up: SetUp, **values: str | Path) -> None:
    """Change these settings of the directory while it runs."""
    changes = "-\n".join(f"replace: {name}\n{name}: {value}\n" for name, value in values.items())
    account = ["-x", "-H", set_up.slapd.url, "-D", "cn=config", "-w", "config"]
    set_up.slapd._run("ldapmodify", *account, stdin=f"dn: cn=config\nchangetype: modify\n{changes}")
