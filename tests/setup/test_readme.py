"""README.md and docs/mailstore.md followed, from nothing to a listing and a login over HTTPS, under a real systemd."""

from __future__ import annotations

import json
import re
from urllib.parse import quote_plus

import pytest

from tests.support.machine import ROOT
from tests.support.readme import read_section, steps_of
from tests.support.set_up import FOLDER, SetUp
from tests.support.slapd import READER_PASSWORD

pytestmark = [pytest.mark.slapd, pytest.mark.machine, pytest.mark.timeout(300)]


def test_steps_come_in_an_order_that_shows_faults_before_anything_runs(set_up: SetUp) -> None:
    """Everything is looked at before the service is enabled."""
    text = read_section("Set it up for OpenLDAP")
    assert text.index("mailstore-bridge check") < text.index("systemctl enable")
    checked = next(printed for line, printed in set_up.printed.items() if line.startswith("mailstore-bridge check"))
    assert "accepted (directory company)" in checked
    assert "3 users" in checked


def test_commands_before_the_first_start_leave_nothing_behind(set_up: SetUp) -> None:
    """What root has looked at belongs to the service all the same."""
    assert set_up.left_before_start == ""


def test_readme_ends_with_a_listing_over_https(set_up: SetUp) -> None:
    """The last request of the page gets everybody, and `status` says that all is well."""
    printed = set_up.printed["systemctl daemon-reload"]
    users, end = json.JSONDecoder().raw_decode(printed)
    assert [user["userName"] for user in users] == ["anna", "bert", "carl"]
    assert re.search(r"/mailstore\W+ok\b", printed[end:])


@pytest.mark.parametrize(("password", "succeeded"), [("Pass-anna", True), ("wrong", False)])
def test_login_over_https_with_a_checked_certificate(set_up: SetUp, password: str, succeeded: bool) -> None:
    """As MailStore asks."""
    assert set_up.post(f"cmd=auth&user=anna&pass={quote_plus(password)}") == {"succeeded": succeeded}


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("https://gateway.example.com:8443/mailstore", 0),
        ("https://localhost:8443/mailstore", 60),
        ("http://gateway.example.com:8443/mailstore", 56),
    ],
)
def test_certificate_is_for_the_name_of_the_gateway(set_up: SetUp, address: str, code: int) -> None:
    """curl(1): 60 is a certificate that isn't trusted, 52 no answer at all."""
    done = set_up.machine.run("curl", "-sS", "--cacert", f"{FOLDER}/ca.pem", address)
    assert done.returncode == code, done.stderr


def test_certificate_is_one_that_windows_takes(set_up: SetUp) -> None:
    """The authority is one, and the certificate is for servers, by the strict reading of RFC 5280."""
    verify = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "gateway.example.com"]
    done = set_up.machine.run(*verify, "-CAfile", f"{FOLDER}/ca.pem", f"{FOLDER}/bridge.pem")
    assert done.stdout == f"{FOLDER}/bridge.pem: OK\n", done.stderr
    for file, words in (("ca", ["CA:TRUE", "Certificate Sign"]), ("bridge", ["CA:FALSE", "Server Authentication"])):
        text = set_up.machine.run("openssl", "x509", "-in", f"{FOLDER}/{file}.pem", "-noout", "-text").stdout
        assert all(word in text for word in words), text


def test_secrets_are_for_root_and_the_service_alone(set_up: SetUp) -> None:
    """0640 `root:mailstore-bridge`; the authority's own key isn't even for the service."""
    modes = set_up.machine.shell(f"stat -c '%n %a %U:%G' {FOLDER} *.password *.key", folder=FOLDER).splitlines()
    assert modes == [
        f"{FOLDER} 2750 root:mailstore-bridge",
        "mailstore.password 640 root:mailstore-bridge",
        "reader.password 640 root:mailstore-bridge",
        "bridge.key 640 root:mailstore-bridge",
        "ca.key 600 root:mailstore-bridge",
    ]
    for user, may_read in (("mailstore-bridge", True), ("nobody", False)):
        for file in ("reader.password", "mailstore.password", "bridge.key", "config.yaml"):
            done = set_up.machine.run("cat", f"{FOLDER}/{file}", user=user)
            assert (done.returncode == 0) is may_read, (user, file)
    assert set_up.machine.run("cat", f"{FOLDER}/ca.key", user="mailstore-bridge").returncode == 1


def test_useradd_line_makes_the_same_user(set_up: SetUp) -> None:
    """Whoever prefers it gets what sysusers.d gives."""
    (line,) = re.findall(r"`(useradd [^`]*)`", read_section("Set it up for OpenLDAP"))
    found = set_up.machine.shell(
        f"{line.replace(' mailstore-bridge', ' other-bridge')}\n"
        "getent passwd mailstore-bridge other-bridge; id -Gn other-bridge; userdel other-bridge"
    ).splitlines()
    made, other = (entry.split(":") for entry in found[:2])
    assert made[5:] == other[5:] == ["/var/lib/mailstore-bridge", "/usr/sbin/nologin"]
    assert int(made[2]) < 1000
    assert int(other[2]) < 1000
    assert found[2] == "other-bridge"


def test_secret_may_be_a_credential_of_systemd(set_up: SetUp) -> None:
    """The file is root's alone then; commands run by the line that README spells out, and a restart renews it."""
    machine = set_up.machine
    (step,) = steps_of(read_section("When it runs"))
    (given,) = re.findall(r"`(LoadCredential=[^`]*)`", read_section("When it runs"))
    override = "/etc/systemd/system/mailstore-bridge.service.d/override.conf"
    try:
        machine.shell(
            f"sed -i 's#password_file: {FOLDER}/reader.password#password_credential: reader#' config.yaml\n"
            f"chown root:root reader.password; chmod 600 reader.password\n"
            f"install -D /dev/stdin {override} <<< $'[Service]\\n{given}'\n"
            "systemctl daemon-reload; systemctl restart mailstore-bridge",
            folder=FOLDER,
        )
        assert set_up.user_names() == ["anna", "bert", "carl"]
        assert machine.run("mailstore-bridge", "check").returncode == 78
        done = machine.run("bash", "-ec", step.text)
        assert done.returncode == 0, done.stdout + done.stderr
        set_up.slapd.replace(["cn=reader,dc=example,dc=com"], "userPassword", "another one")
        machine.shell("printf 'another one' > reader.password; systemctl restart mailstore-bridge", folder=FOLDER)
        assert set_up.user_names() == ["anna", "bert", "carl"]
        assert machine.run("bash", "-ec", step.text).returncode == 0
    finally:
        set_up.slapd.replace(["cn=reader,dc=example,dc=com"], "userPassword", READER_PASSWORD)
        machine.shell(
            f"sed -i 's#password_credential: reader#password_file: {FOLDER}/reader.password#' config.yaml\n"
            f"printf %s {READER_PASSWORD} > reader.password\n"
            f"chgrp mailstore-bridge reader.password; chmod 640 reader.password; rm {override}\n"
            "systemctl daemon-reload; systemctl restart mailstore-bridge",
            folder=FOLDER,
        )


def test_comparison_prints_whom_mailstore_has_alone(set_up: SetUp) -> None:
    """docs/mailstore.md: names as Windows writes them, in another case, and one that the bridge doesn't list."""
    page = (ROOT / "docs" / "mailstore.md").read_text()
    (script,) = re.findall(r"^ +```sh\n(.*?)^ +```", page, re.MULTILINE | re.DOTALL)
    folder = set_up.machine.shell("mktemp -d").strip()
    for names, printed in (("Anna\r\nbert\r\nstranger\r\ncarl\r\nann\r\n", "stranger\nann\n"), ("anna\n", "nobody\n")):
        set_up.machine.run("tee", f"{folder}/mailstore.txt", stdin=names)
        assert set_up.machine.shell(script, folder=folder) == printed
