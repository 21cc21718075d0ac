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
    """README.md, followed to the letter; the names in it lead to this machine."""
    found = SetUp(machine, directory, authority_file)
    for step in steps_of(read_section("Set it up for OpenLDAP")):
        if step.kind == "yaml":
            machine.run("tee", f"{FOLDER}/ldap-ca.pem", stdin=authority_file.read_text())
            assert machine.run("tee", f"{FOLDER}/config.yaml", stdin=step.text).returncode == 0
            continue
        if "systemctl enable" in step.text:
            found.left_before_start = machine.run(
                "find", "/var/lib/mailstore-bridge", "!", "-user", "mailstore-bridge"
            ).stdout
        typed = "".join(text for line, text in TYPED.items() if line in step.text)
        outer_network = "pip install" in step.text
        done = machine.run("bash", "-ec", step.text, stdin=typed, folder=SOURCE, outer_network=outer_network)
        assert done.returncode == 0, f"{step.text}\n{done.stdout}{done.stderr}{machine.journal()}"
        found.printed[step.text.splitlines()[0]] = done.stdout
    return found
