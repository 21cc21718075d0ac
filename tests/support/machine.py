"""A Linux machine in namespaces of its own: its pid 1 is a real systemd, and what it changes is gone with it.

It has the files of the machine that runs the tests, its own users, services, journal and loopback network. The boot
itself stands in machine.sh.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, Self

import pytest

from tests.support.slapd import require

ROOT = Path(__file__).parents[2]
SOURCE = "/usr/src/mailstore-bridge"
"""Where the machine sees a copy of this repository."""
_SYSTEMD = "/lib/systemd/systemd"
_BOOT = Path(__file__).with_name("machine.sh")
_BOOT_MAX_S = 30.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")
_FROM_OUTSIDE = ("PIP_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_")
"""Beginnings of the names of variables by which programs reach the network here."""


def _give_up(reason: str) -> NoReturn:
    """Skip the test, or fail it in CI, where a machine must be had."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no machine with a systemd can be started: {reason}")


class Machine:
    """The machine; `folder` must be empty."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pid = 0
        """Of its pid 1, as seen from outside."""
        self._process: subprocess.Popen[bytes] | None = None
        self._cgroup: Path | None = None

    def __enter__(self) -> Self:
        for program in ("unshare", "nsenter", "setpriv", "systemctl", "dbus-daemon"):
            require(program)
        if os.geteuid() != 0:
            _give_up("it takes root")
        source, layers = self.folder / "source", self.folder / "layers"
        layers.mkdir(parents=True)
        _copy_repository(source)
        self._cgroup = _make_cgroup()
        # Killed with the tests: nothing of it can outlive them.
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", *_NAMESPACES, "--fork", "--kill-child"]
        enter = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(self._cgroup)]
        boot = ["--propagation", "private", "sh", str(_BOOT), str(layers), str(source)]
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*enter, *command, *boot], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._wait_until_started(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End every process of the machine, and leave nothing behind."""
        if self._process is not None:
            self._process.kill()  # takes pid 1 along (--kill-child), and the kernel all others
            self._process.wait(timeout=20)
            self._process = None
        if self._cgroup is not None:
            _remove_cgroup(self._cgroup)
            self._cgroup = None

    @property
    def on_its_network(self) -> tuple[str, ...]:
        """What runs a program of the outside on the machine's network."""
        return "nsenter", f"--net=/proc/{self.pid}/ns/net", "--"

    def run(
        self,
        *command: str,
        stdin: str | bytes = "",
        user: str = "root",
        folder: str = "/",
        outer_network: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; `outer_network`: with the network and the package index of the tests."""
        namespaces = [name for name in _NAMESPACES if not (outer_network and name == "--net")]
        environment = {"PATH": _PATH, "HOME": "/root", "LANG": "C.UTF-8"}
        if outer_network:
            environment |= {name: value for name, value in os.environ.items() if name.startswith(_FROM_OUTSIDE)}
        as_user = [] if user == "root" else ["runuser", "-u", user, "--"]
        arguments = ["nsenter", f"--target={self.pid}", *namespaces, f"--wdns={folder}", "--", *as_user, *command]
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(arguments, input=data, capture_output=True, env=environment, check=False)
        return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())

    def shell(self, script: str, *, folder: str = "/", outer_network: bool = False) -> str:
        """What a script prints; the test fails with its messages where a line of it does."""
        done = self.run("bash", "-e", stdin=script, folder=folder, outer_network=outer_network)
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def journal(self, unit: str = "mailstore-bridge") -> str:
        """What a unit has said."""
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}").stdout

    def until(self, is_true: Callable[[], bool], timeout_s: float = 20) -> None:
        """Return when it is true; the test fails with the journal where that takes too long."""
        deadline_s = time.monotonic() + timeout_s
        while not is_true():
            if time.monotonic() > deadline_s:
                pytest.fail(self.journal())
            time.sleep(0.05)

    def _wait_until_started(self, process: subprocess.Popen[bytes]) -> None:
        deadline_s = time.monotonic() + _BOOT_MAX_S
        while time.monotonic() < deadline_s and process.poll() is None:
            with contextlib.suppress(OSError):  # it may end in the middle of a look
                self.pid = self.pid or _child_of(process.pid)
                if self.pid and self._has_started():
                    return
            time.sleep(0.05)
        _give_up((self.folder / "log").read_text() or f"it is not up after {_BOOT_MAX_S:g} s")

    def _has_started(self) -> bool:
        is_booted = Path(f"/proc/{self.pid}/comm").read_text() == "systemd\n"
        return is_booted and self.run("systemctl", "is-active", "machine.target").stdout == "active\n"


def _copy_repository(target: Path) -> None:
    """Copy what an installation is made of: the package index's tools write into the folder that they install from."""
    for name in ("bridge", "systemd"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, target)


def _child_of(process_id: int) -> int:
    """The only child of a process, or 0."""
    children = Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split()
    return int(children[0]) if children else 0


def _make_cgroup() -> Path:
    """A cgroup (version 2) for the machine alone."""
    mounts = Path("/proc/self/mountinfo").read_text()
    found = re.search(r"^\S+ \S+ \S+ \S+ (\S+) .* - cgroup2 ", mounts, re.MULTILINE)
    if found is None:
        _give_up("there is no cgroup file system of version 2")
    folder = Path(found[1]) / f"mailstore-bridge-test-{os.getpid()}-{time.monotonic_ns()}"
    try:
        folder.mkdir()
    except OSError as error:
        _give_up(f"no cgroup can be made: {error}")
    return folder


def _remove_cgroup(folder: Path) -> None:
    """Remove it with those that systemd has made inside; the kernel takes a moment to know that they are empty."""
    deadline_s = time.monotonic() + 5
    while folder.exists() and time.monotonic() < deadline_s:
        for inner in [*sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True), folder]:
            with contextlib.suppress(OSError):
                inner.rmdir()
        time.sleep(0.01)
