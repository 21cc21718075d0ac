"""Every command on a machine that was set up by README.md: as root, as the service's user, and as anybody else."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.machine import ROOT
from tests.support.set_up import FOLDER, UNIT, SetUp

pytestmark = [pytest.mark.slapd, pytest.mark.machine, pytest.mark.timeout(300)]
OWNERS = ("root", "mailstore-bridge")
FINE, FINDINGS, USAGE, UNAVAILABLE, CONFIGURATION = 0, 1, 2, 69, 78

RUNNING = [
    ("check", FINE, ""),
    ("check --offline", FINE, ""),
    ("list", FINE, ""),
    ("list --format csv", FINE, ""),
    ("list --endpoint /other", USAGE, ""),
    ("diff", FINE, ""),
    ("auth anna", FINE, "Pass-anna\n"),
    ("auth bert", FINDINGS, "wrong\n"),
    ("auth nobody", FINDINGS, "wrong\n"),
    ("status", FINE, ""),
    ("refresh", FINE, ""),
    ("refresh --directory other", USAGE, ""),
    ("removals show", FINE, ""),
    ("removals approve 0123456789abcdef", FINDINGS, ""),
    ("removals reset", USAGE, ""),
    ("removals reset --yes --directory other", USAGE, ""),
    ("removals reset --yes", FINE, ""),
    ("throttle show", FINE, ""),
    ("throttle clear nobody", FINDINGS, ""),
    ("throttle clear", USAGE, ""),
]
"""A command, the exit code for those who may run it while the service runs, and what is typed."""

WITHOUT_CONFIGURATION = [
    ("--version", FINE, ""),
    ("--help", FINE, ""),
    ("schema", FINE, ""),
    ("hash-password", FINE, "secret\n"),
    ("no-such-command", USAGE, ""),
    ("check --config /nowhere.yaml", CONFIGURATION, ""),
]

READABLE = [
    ("status", UNAVAILABLE, "can't be opened by this user"),
    ("removals show", UNAVAILABLE, "can't be opened by this user"),
    ("throttle show", UNAVAILABLE, "can't be opened by this user"),
    ("check", CONFIGURATION, "/reader.password can't be read"),
    ("list", CONFIGURATION, "/reader.password can't be read"),
    ("serve", CONFIGURATION, "/bridge.key can't be read"),
    ("check --offline", FINE, "/reader.password can't be read"),
]
"""The exit code and the words for somebody else who may read the configuration, but neither secrets nor sockets."""

STOPPED = [
    ("status", UNAVAILABLE),
    ("refresh", UNAVAILABLE),
    ("throttle show", UNAVAILABLE),
    ("removals show", FINE),
    ("list", FINE),
    ("diff", FINE),
    ("check", FINE),
]

AWAY = [("check", FINDINGS), ("list", UNAVAILABLE), ("diff", UNAVAILABLE), ("auth anna", UNAVAILABLE)]


def documented() -> dict[str, set[int]]:
    """The exit codes of docs/commands.md, by the words of the command; 2 and 78 stand for all of them."""
    page = (ROOT / "docs" / "commands.md").read_text()
    rows = re.findall(r"^\| `([a-z -]+?)(?: [A-Z]+)?` \| [^|]* \| ([^|]*) \|", page, re.MULTILINE)
    return {name: {USAGE, CONFIGURATION, *map(int, re.findall(r"\b\d+\b", codes))} for name, codes in rows}


def test_codes_are_those_of_the_page() -> None:
    """Nothing is expected here that docs/commands.md doesn't promise, and nothing on that page is left out."""
    pages = documented()
    tried = [(command, code) for command, code, _ in (*RUNNING, *WITHOUT_CONFIGURATION, *READABLE)] + STOPPED + AWAY
    met = set()
    for command, code in tried:
        name = max((name for name in pages if f"{command} ".startswith(f"{name} ")), key=len, default=None)
        if name is not None:
            met.add(name)
            assert code in pages[name], (command, code)
    assert set(pages) - met == {"demo"}


def test_demo_needs_nothing(set_up: SetUp) -> None:
    """Anybody may run it, until Ctrl-C."""
    command = ["timeout", "--signal=INT", "--preserve-status", "4", "mailstore-bridge", "demo", "--users", "3"]
    done = set_up.machine.run(*command, user="nobody", folder="/tmp")
    assert done.returncode in documented()["demo"] | {130}, done.stdout + done.stderr
    assert "curl" in done.stdout


def expect(set_up: SetUp, user: str, command: str, code: int, typed: str = "") -> None:
    """The command ends with this code, and with no traceback."""
    done = set_up.machine.run("mailstore-bridge", *command.split(), user=user, stdin=typed)
    assert done.returncode == code, f"{user}: {command}\n{done.stdout}{done.stderr}{set_up.machine.journal()}"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("command", "code", "typed"), RUNNING, ids=str)
def test_command_beside_the_running_service(set_up: SetUp, command: str, code: int, typed: str) -> None:
    """Root and the service's user may run them all, at the same time, too."""
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(expect, set_up, user, command, code, typed) for user in OWNERS]:
            done.result()


@pytest.mark.parametrize(
    "command", ["check", "list", "diff", "auth anna", "status", "refresh", "removals show", "throttle show", "serve"]
)
def test_command_of_anybody_else_is_told_what_it_may_not_read(set_up: SetUp, command: str) -> None:
    """The configuration is for root and the service alone."""
    done = set_up.machine.run("mailstore-bridge", *command.split(), user="nobody", stdin="Pass-anna\n")
    assert done.returncode == CONFIGURATION, done.stdout + done.stderr
    assert f"{FOLDER}/config.yaml: can't be read: Permission denied" in done.stdout + done.stderr


@pytest.mark.parametrize(("command", "code", "words"), READABLE, ids=str)
def test_command_with_a_configuration_that_others_may_read(set_up: SetUp, command: str, code: int, words: str) -> None:
    """What is missing is named, with the file or the socket."""
    file = "/tmp/config.yaml"
    set_up.machine.run("install", "-m", "644", f"{FOLDER}/config.yaml", file)
    done = set_up.machine.run("mailstore-bridge", *command.split(), "--config", file, user="nobody")
    assert done.returncode == code, done.stdout + done.stderr
    assert words in done.stdout + done.stderr


@pytest.mark.parametrize(("command", "code", "typed"), WITHOUT_CONFIGURATION, ids=str)
def test_command_without_the_configuration(set_up: SetUp, command: str, code: int, typed: str) -> None:
    """Anybody may run what needs neither the service nor its secrets."""
    expect(set_up, "nobody", command, code, typed)


def test_commands_while_the_service_is_stopped(set_up: SetUp) -> None:
    """What asks the service says that none runs; the others work, and leave nothing that the service can't use."""
    machine = set_up.machine
    machine.shell(f"systemctl stop {UNIT}")
    try:
        for command, code in STOPPED:
            expect(set_up, "root", command, code)
        strange = machine.run("find", "/var/lib/mailstore-bridge", "!", "-user", "mailstore-bridge").stdout
    finally:
        machine.shell(f"systemctl start {UNIT}")
    assert strange == ""
    assert set_up.user_names() == ["anna", "bert", "carl"]


def test_commands_while_the_directory_is_away(set_up: SetUp) -> None:
    """Nobody is told that all is well, by systemd neither."""
    set_up.slapd.stop()
    try:
        for command, code in AWAY:
            expect(set_up, "mailstore-bridge", command, code, "Pass-anna\n")
        set_up.machine.run("mailstore-bridge", "refresh")
        wait_for_status(set_up, "Serving 1 endpoint: degraded: /mailstore: directory unavailable in company")
    finally:
        set_up.slapd.start()
    expect(set_up, "mailstore-bridge", "refresh", FINE)
    wait_for_status(set_up, "Serving 1 endpoint: ok")


def wait_for_status(set_up: SetUp, words: str) -> None:
    """Return when `systemctl status` shows these words."""
    set_up.machine.until(lambda: set_up.property_of_unit("StatusText") == words)
