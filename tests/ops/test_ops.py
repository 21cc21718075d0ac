from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from bridge.certificates.contexts import CertificateError
from bridge.config.loading import load
from bridge.errors import DirectoryUnavailable
from bridge.events import (
    CertificateSeen,
    ConnectionDropped,
    DiscoveryFailed,
    DropsCounted,
    Event,
    OperationEnded,
    Refreshed,
    RefreshFailed,
    RequestAnswered,
    ServerRestored,
    ServerSetAside,
    ServersKnown,
    UserAuthenticated,
)
from bridge.model import Accepted, Rejected, Rejection, Report, Skipped
from bridge.ops.logs import log_observer, make_logger, route_library_logs
from bridge.ops.metrics import metrics_observer, render_metrics, watch_tasks
from bridge.ops.systemd import Notifier
from bridge.ops.tallies import Counts, Durations
from bridge.ops.tls import ServerCertificate
from bridge.renewal import Look
from bridge.run.paths import control_socket, find_control_socket
from tests.support.bridges import configuration

ERROR = DirectoryUnavailable("no route", directory="d", server="ldap://s")
EVENTS: dict[str, Event] = {
    "request.answered": RequestAnswered("id1", "/m", "list", 200, 0.5, "127.0.0.1", "mailstore"),
    "request.challenged": RequestAnswered("id2", "/m", "", 401, 0.5, "127.0.0.1", challenge=True),
    "login.accepted": UserAuthenticated("/m", "anna", Accepted("d", "1", "2 grace logins remain"), 0.1, "ldap://s", 0),
    "login.rejected": UserAuthenticated(
        "/m", "anna", Rejected(Rejection.WRONG_PASSWORD, "d", "1"), 0.1, "ldap://s", 49
    ),
    "refresh.finished": Refreshed(Report("d", "ldap://s", 1.0, 0.5, 3, 25, 24, 0, (Skipped("no_user_name", 1),))),
    "refresh.failed": RefreshFailed("d", ERROR, 0.5, 60.0),
    "server.set_aside": ServerSetAside("d", "ldap://s", ERROR, 5.0),
    "server.restored": ServerRestored("d", "ldap://s"),
    "discovery.failed": DiscoveryFailed("d", ERROR, 2),
    "servers.known": ServersKnown("d", ("ldap://s",), were_discovered=True),
    "connections.refused": DropsCounted((("server", "full", 9),), 60.0, "192.0.2.1", 750, are_limits=True),
    "connections.failed": DropsCounted((("server", "handshake", 1),), 0.0, "192.0.2.1", 1, are_limits=False),
    "operation.ended": OperationEnded("d", "ldap://s", "look_up", "ok", 0.01),
}


def lines_of(
    level: str, *events: Event, usernames: bool = True, environment: dict[str, str] | None = None
) -> list[str]:
    stream = io.StringIO()
    observe = log_observer(make_logger(level, "auto", stream, environment or {}), usernames=usernames)
    for event in events:
        observe(event)
    return stream.getvalue().splitlines()


@pytest.mark.parametrize(("name", "event"), EVENTS.items())
def test_each_event_is_one_json_line_with_its_name(name: str, event: Event) -> None:
    """A program reads the log: one object a line, dotted names."""
    (line,) = lines_of("debug", event)
    assert json.loads(line)["event"] == name


def test_info_leaves_out_challenges_and_operations() -> None:
    """The first call of each .NET request is no news."""
    names = [json.loads(line)["event"] for line in lines_of("info", *EVENTS.values())]
    assert names == [name for name in EVENTS if name not in ("request.challenged", "operation.ended")]


def test_flood_is_told_with_its_counts_by_listener_and_reason() -> None:
    """And by nothing but words and numbers of ours, and an address."""
    counts = (("admin", "full", 2), ("server", "displaced", 30), ("server", "full", 400))
    (line,) = lines_of("info", DropsCounted(counts, 60.0, "192.0.2.1", 750, are_limits=True))
    found = json.loads(line)
    assert (found["level"], found["count"], found["busiest_address"]) == ("warning", 432, "192.0.2.1")
    assert found["counts"] == {"admin": {"full": 2}, "server": {"displaced": 30, "full": 400}}


def test_dropped_connections_are_counted_and_not_logged_one_by_one() -> None:
    """The metric counts each; the log has the sum of them."""
    registry = CollectorRegistry()
    observe = metrics_observer(registry)
    for _ in range(3):
        observe(ConnectionDropped("server", "gone"))
    assert b'mailstore_bridge_connections_dropped_total{listener="server",reason="gone"} 3.0' in generate_latest(
        registry
    )
    assert lines_of("debug", ConnectionDropped("server", "gone")) == []


def test_servers_of_the_configuration_are_no_news() -> None:
    """Commands that print JSON have nothing else among it."""
    assert lines_of("info", ServersKnown("d", ("ldap://s",))) == []


def test_usernames_can_be_kept_out_of_the_log() -> None:
    """Neither users nor callers are named then."""
    text = "\n".join(lines_of("debug", *EVENTS.values(), usernames=False))
    assert "anna" not in text
    assert '"mailstore"' not in text
    assert "anna" in "\n".join(lines_of("debug", *EVENTS.values()))


def test_nobody_can_forge_a_line() -> None:
    """Line breaks in what was typed stay inside of their line."""
    event = UserAuthenticated("/m", "anna\n<0>forged \x1b[31m", Rejected(Rejection.UNKNOWN_USER), 0.1)
    for form in ("json", "text"):
        stream = io.StringIO()
        log_observer(make_logger("info", form, stream, {}), usernames=True)(event)
        assert len(stream.getvalue().splitlines()) == 1
        assert "\x1b[31m" not in stream.getvalue()


def test_journal_gets_priorities() -> None:
    """Systemd's journal takes the level from the beginning of the line."""
    found = lines_of(
        "info", EVENTS["request.answered"], EVENTS["refresh.failed"], environment={"JOURNAL_STREAM": "1:2"}
    )
    assert [line[:3] for line in found] == ["<6>", "<4>"]


def test_what_libraries_log_goes_the_same_way() -> None:
    """Asyncio's and aiohttp's warnings are lines like others; root's handlers are put back."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    stream = io.StringIO()
    try:
        route_library_logs(make_logger("info", "json", stream, {}), "info")
        logging.getLogger("aiohttp.server").warning("odd %s", "thing")
    finally:
        root.handlers, root.level = handlers, level
    line = json.loads(stream.getvalue())
    assert (line["event"], line["library"], line["message"]) == ("library.logged", "aiohttp.server", "odd thing")


async def test_lines_of_one_turn_are_written_together_and_in_order() -> None:
    """Nothing is written in the midst of a turn, and everything when it is over."""
    stream = io.StringIO()
    logger = make_logger("info", "json", stream, {})
    logger.info("first")
    logger.info("second")
    assert stream.getvalue() == ""
    await asyncio.sleep(0)
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["first", "second"]


async def test_log_that_nobody_reads_any_more_ends_nothing() -> None:
    """A closed pipe is no reason to answer no requests, nor to complain about it into the same pipe."""
    reader, writer = os.pipe()
    os.close(reader)
    troubles: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: troubles.append(context))
    stream = os.fdopen(writer, "w")
    make_logger("info", "json", stream, {}).info("lost")
    await asyncio.sleep(0)
    assert troubles == []
    with contextlib.suppress(BrokenPipeError):
        stream.close()


HOSTILE = "x\x7f \x9b2J \x1b]52;c;eA==\x07 \u202egnp \u2028 \r\n<3> Jürgen \U000e0001"


@pytest.mark.parametrize("form", ["json", "text"])
def test_text_of_others_steers_neither_terminal_nor_journal(form: str) -> None:
    """A login name, a diagnostic message: journalctl shows no line that holds such bytes, and a terminal obeys them."""
    stream = io.StringIO()
    event = UserAuthenticated(
        endpoint="/mailstore",
        user_name=HOSTILE,
        verdict=Rejected(Rejection.WRONG_PASSWORD, "company", "1"),
        duration_s=0.1,
        server="ldap://h",
        result_code=49,
        diagnostic_message=HOSTILE,
        detail=HOSTILE,
    )
    logger = make_logger("info", form, stream, {})
    log_observer(logger, usernames=True)(event)
    logger.error("request.failed", exc_info=ValueError(HOSTILE))
    shown = stream.getvalue()
    assert all(letter.isprintable() for letter in shown.replace("\n", "")), shown
    assert "Jürgen" in shown
    assert not any(line.startswith("<") for line in shown.split("\n"))
    if form == "json":
        found = [json.loads(line) for line in shown.splitlines()]
        assert (found[0]["user"], found[0]["diagnostic_message"]) == (HOSTILE, HOSTILE)


def test_metrics_count_events_and_name_no_user() -> None:
    """Closed label sets, base units, no challenge counted."""
    registry = CollectorRegistry()
    observe = metrics_observer(registry)
    for event in EVENTS.values():
        observe(event)
    body, content_type = render_metrics(registry)
    text = body.decode()
    assert "text/plain" in content_type
    assert 'mailstore_bridge_requests_total{command="list",endpoint="/m",status="200"} 1.0' in text
    assert 'status="401"' not in text
    assert 'mailstore_bridge_logins_total{directory="d",outcome="accepted"} 1.0' in text
    assert 'mailstore_bridge_logins_total{directory="d",outcome="wrong_password"} 1.0' in text
    assert 'mailstore_bridge_refreshes_total{directory="d",outcome="directory_unavailable"} 1.0' in text
    assert 'mailstore_bridge_snapshot_skipped{directory="d",reason="no_user_name"} 1.0' in text
    assert "anna" not in text


async def test_metrics_tell_how_many_tasks_there_are() -> None:
    """Tasks that nobody ends are a leak that memory shows late."""
    registry = CollectorRegistry()
    watch_tasks(registry)

    def count() -> float:
        found = render_metrics(registry)[0].decode()
        return next(float(line.split()[1]) for line in found.splitlines() if line.startswith("mailstore_bridge_tasks "))

    before = count()
    waiting = [asyncio.create_task(asyncio.sleep(60)) for _ in range(3)]
    assert count() == before + 3
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert count() == before


def test_metrics_tell_which_servers_are_up_and_until_when_their_certificates_are_good() -> None:
    """A server that is not asked any more leaves no series behind."""
    registry = CollectorRegistry()
    observe = metrics_observer(registry)

    def series() -> dict[str, float]:
        lines = render_metrics(registry)[0].decode().splitlines()
        found = (line.rsplit(" ", 1) for line in lines if line.startswith("mailstore_bridge_server_"))
        return {name.removeprefix("mailstore_bridge_server_"): float(value) for name, value in found}

    one, two, three = (f"ldaps://dc{number}.example.com:636" for number in (1, 2, 3))
    expiry = "certificate_expiry_timestamp_seconds"
    observe(ServersKnown("d", (one, two)))
    observe(CertificateSeen("d", one, 1.8e9))
    observe(ServerSetAside("d", two, DirectoryUnavailable("x", directory="d"), 5))
    assert series() == {
        f'up{{directory="d",server="{one}"}}': 1,
        f'up{{directory="d",server="{two}"}}': 0,
        f'{expiry}{{directory="d",server="{one}"}}': 1.8e9,
    }
    observe(ServerRestored("d", two))
    observe(ServersKnown("d", (two, three)))
    assert series() == {f'up{{directory="d",server="{server}"}}': 1 for server in (two, three)}


def test_tallies_come_out_as_those_of_prometheus_client() -> None:
    """The series are the same, but for the time at which each of its own was made."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    durations = Durations("example_seconds", "Example", ("kind",), ours)
    histogram = Histogram("example_seconds", "Example", ["kind"], registry=theirs)
    counts = Counts("examples", "Example", ("kind", "other"), ours)
    counter = Counter("examples", "Example", ["kind", "other"], registry=theirs)
    for duration_s in (0.001, 0.005, 0.0051, 3.0, 11.0):
        durations.observe(duration_s, "a")
        histogram.labels("a").observe(duration_s)
        counts.count("a", "b")
        counter.labels("a", "b").inc()
    lines = generate_latest(theirs).decode().splitlines()
    assert generate_latest(ours).decode().splitlines() == [line for line in lines if "_created" not in line]


@pytest.mark.parametrize("abstract", [False, True])
def test_notifier_tells_systemd(tmp_path: Path, abstract: bool) -> None:
    """States arrive at the socket that the environment names, be it abstract or not."""
    address = f"@mailstore-bridge-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(address.replace("@", "\0", 1) if abstract else address)
        notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000"})
        notifier.send("READY=1", "STATUS=fine")
        assert server.recv(100) == b"READY=1\nSTATUS=fine"
        assert notifier.watchdog_s == 30


def test_notifier_is_silent_where_nobody_listens(tmp_path: Path) -> None:
    """Outside of systemd, or with its socket gone, the service runs on."""
    Notifier({}).send("READY=1")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).send("READY=1")
    assert Notifier({}).watchdog_s is None


def test_server_certificate_is_renewed_when_its_files_change(
    tmp_path: Path, make_certificate: Callable[..., tuple[Path, Path]]
) -> None:
    """New files are taken; broken ones are told once, and the old certificate stays."""
    files = (tmp_path / "cert.pem", tmp_path / "key.pem")
    for source, target in zip(make_certificate(), files, strict=True):
        shutil.copy(source, target)
    certificate = ServerCertificate(str(files[0]), str(files[1]), "1.2")
    told: list[Exception | None] = []
    certificate.observe = lambda _certificate, error: told.append(error)
    context = certificate.read()
    assert certificate.look() is Look.UNCHANGED
    for source, target in zip(make_certificate(), files, strict=True):
        target.unlink()
        shutil.copy(source, target)
    assert certificate.look() is Look.RENEWED
    files[0].write_text("broken")
    assert [certificate.look(), certificate.look(at_once=True)] == [Look.FAILED, Look.FAILED]
    assert certificate.read() is context
    assert [type(error) for error in told] == [type(None), CertificateError]


def test_systemd_takes_the_unit_and_finds_it_well_locked(tmp_path: Path) -> None:
    """`systemd-analyze` has nothing to say against the unit, and its exposure is at most 1.5."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    unit = (Path(__file__).parents[2] / "systemd" / "mailstore-bridge.service").read_text()
    copy = tmp_path / "mailstore-bridge.service"
    copy.write_text(unit.replace("/opt/mailstore-bridge/bin/mailstore-bridge", "/bin/true"))
    checked = subprocess.run([analyze, "verify", str(copy)], capture_output=True, text=True, check=False)
    assert "mailstore-bridge.service" not in checked.stderr
    found = subprocess.run(
        [analyze, "security", "--offline=yes", str(copy)], capture_output=True, text=True, check=False
    )
    assert float(found.stdout.split("mailstore-bridge.service:")[1].split()[0]) <= 1.5


def test_commands_find_the_socket_of_the_systemd_unit(tmp_path: Path) -> None:
    """Systemd tells the service its folders, and a command on the terminal looks where the unit has them."""
    for name in ("caller", "reader"):
        (tmp_path / f"{name}.password").touch()
    file = configuration("ldap://127.0.0.1:3", tmp_path)
    loaded, unit = load(str(file), {}), tmp_path / "run"
    unit.mkdir()
    own = tmp_path / "state" / "control.sock"
    assert find_control_socket(loaded, {}, unit) == own
    (unit / "control.sock").touch()
    assert find_control_socket(loaded, {}, unit) == unit / "control.sock"
    assert control_socket(loaded, {"RUNTIME_DIRECTORY": str(unit)}) == unit / "control.sock"
    own.parent.mkdir()
    own.touch()
    assert find_control_socket(loaded, {}, unit) == own
