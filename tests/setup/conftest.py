"""A machine on which README.md was followed, and the directory that it asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.machine import SOURCE, Machine
from tests.support.readme import read_section, steps_of
from tests.support.set_up import FOLDER, SetUp
from tests.support.slapd import READER_PASSWORD, Slapd, person

TYPED = {"cat > reader.password": f"{READER_PASSWORD}\n", "mailstore-bridge auth anna": "Pass-anna\n"}
"""What the administrator types while a step runs, by a line of it."""


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine on which nothing was done yet."""
    with Machine(tmp_path_factory.mktemp("machine")) as found:
        yield found


@pytest.fixture(scope="session")
def directory(
    machine: Machine, make_certificate: Callable[..., tuple[Path, Path]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Slapd]:
    """`ldap.example.com`, on the machine's network."""
    people = [person(uid) for uid in ("anna", "bert", "carl")]
    # slapd-config(5): what is read at the start can be changed while it runs.
    settings = 'database config\nrootdn "cn=config"\nrootpw config\n'
    with Slapd(
        tmp_path_factory.mktemp("directory") / "slapd",
        people,
        overlays=settings,
        certificate=make_certificate("ldap.example.com"),
        on_network=machine.on_its_network,
        port=389,
        tls_port=636,
    ) as server:
        machine.run("tee", "-a", "/etc/hosts", stdin="127.0.0.1 ldap.example.com gateway.example.com\n")
        yield server


@pytest.fixture(scope="session")
def set_up(machine: Machine, directory: Slapd, authority_file: Path) -> SetUp:
    """README.md, followed to the letter in one terminal of a strict administrator; its names lead to this machine."""
    found = SetUp(machine, directory, authority_file)
    mask, folder = "077", SOURCE
    for step in steps_of(read_section("Set it up for OpenLDAP")):
        if step.kind == "yaml":
            for name, text in (("ldap-ca.pem", authority_file.read_text()), ("config.yaml", step.text)):
                machine.run("sh", "-c", f"umask {mask}; cat > {FOLDER}/{name}", stdin=text)
            continue
        if "systemctl enable" in step.text:
            found.left_before_start = machine.shell("find /var/lib/mailstore-bridge ! -user mailstore-bridge || true")
        typed = "".join(text for line, text in TYPED.items() if line in step.text)
        script = f"umask {mask}\n{step.text}\n(umask; pwd) > /run/terminal"
        done = machine.run("bash", "-ec", script, stdin=typed, folder=folder, outer_network="pip install" in step.text)
        assert done.returncode == 0, f"{step.text}\n{done.stdout}{done.stderr}{machine.journal()}"
        mask, folder = machine.shell("cat /run/terminal").split()
        found.printed[step.text.splitlines()[0]] = done.stdout
    return found
