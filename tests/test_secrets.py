"""Passwords that pass through leave no trace: not in memory for longer than a login, and nowhere else at all."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import gc
import io
import json
import logging
import os
import pickle
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus, urlencode

import pytest

from bridge.cli.endings import tell
from bridge.cli.options import USAGE
from bridge.config.loading import EVERYTHING, load
from bridge.demo import wire
from bridge.demo.server import Session
from bridge.errors import BridgeError, ConfigurationError, ServiceError, StateLost
from bridge.model import Secret
from bridge.ops.logs import make_logger, route_library_logs
from bridge.state.encoding import parse_decisions, parse_guard, parse_report
from bridge.state.failures import Damaged
from bridge.state.opening import StateFiles
from bridge.web.control_client import ask_service
from tests.conftest import StartSlapd
from tests.faults.server import FaultyServer, small_directory
from tests.support.bridges import CALLER, CALLER_PASSWORD, configuration, running_bridge
from tests.support.logins import answers, setting
from tests.support.recording_proxy import RecordingProxy
from tests.support.slapd import READER, READER_PASSWORD, free_port, person

RIGHT, WRONG, WRONG_CALLER, WRONG_SERVICE = (
    "cäñary-right+1%&",
    "cäñary-wrong=2 ?",
    "cäñary-caller~3",
    "cäñary-service*4",
)
SECRETS = [RIGHT, WRONG, WRONG_CALLER, WRONG_SERVICE, CALLER_PASSWORD, READER_PASSWORD]


def forms_of(secret: str) -> Iterator[bytes]:
    """The secret as it might stand somewhere: plain, escaped, hexadecimal, percent-encoded, inside of Base64."""
    data = secret.encode()
    yield data
    yield json.dumps(secret)[1:-1].encode()
    yield secret.encode("unicode_escape")
    yield repr(data)[2:-1].encode()
    yield data.hex().encode()
    yield data.hex().upper().encode()
    yield data.hex(":").encode()
    yield quote(secret, safe="").encode()
    yield quote_plus(secret).encode()
    for offset in range(3):  # wherever it begins among three bytes
        whole = base64.b64encode(b"\0" * offset + data)
        yield whole[(4 if offset else 0) : len(whole) // 4 * 4 - 4]
        yield whole[(4 if offset else 0) : len(whole) // 4 * 4 - 4].translate(bytes.maketrans(b"+/", b"-_"))


def traces_in(text: bytes) -> list[str]:
    """The secrets of which something stands in the text."""
    return [secret for secret in SECRETS if any(form in text for form in forms_of(secret))]


def test_traces_are_found_in_each_of_their_forms() -> None:
    """The search itself: it finds a secret in a header, a form, a dump, a log line."""
    for secret in SECRETS:
        token = base64.b64encode(f"{CALLER}:{secret}".encode())
        body = urlencode({"cmd": "auth", "user": "anna", "pass": secret}).encode()
        for text in (token, body, repr(body).encode(), secret.encode().hex().encode(), json.dumps([secret]).encode()):
            assert traces_in(b"... " + text + b" ...") == [secret]
    assert traces_in(b"nothing") == []


class Caller:
    """Speaks to the service as MailStore and worse, and keeps every answer."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.heard = bytearray()

    async def send(
        self, body: bytes, password: str | None = CALLER_PASSWORD, *headers: bytes, target: str = "/mailstore"
    ) -> int:
        """The status of the answer."""
        lines = [f"POST {target} HTTP/1.1".encode(), b"Host: x", b"Connection: close", *headers]
        if password is not None:
            lines.append(b"Authorization: Basic " + base64.b64encode(f"{CALLER}:{password}".encode()))
        lines.append(b"Content-Length: %d" % len(body))
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        answer = await reader.read()
        writer.close()
        self.heard += answer
        return int(answer.split(b" ", 2)[1])

    async def auth(self, user: str, password: str) -> int:
        return await self.send(urlencode({"cmd": "auth", "user": user, "pass": password}).encode())

    async def send_broken(self, token: bytes, form: bytes) -> None:
        """Requests that are no HTTP, or half of it, with passwords where a parser may quote them."""
        head = b"POST /mailstore HTTP/1.1\r\nHost: x\r\n"
        authorized = head + b"Authorization: Basic " + token + b"\r\n"
        chunked = authorized + b"Transfer-Encoding: chunked\r\n\r\n"
        for pieces in (
            (authorized.replace(b"\r\n", b"\n") + b"\n" + form,),
            (authorized + b"\r\n", form),
            (chunked, b"5\r\n" + form + b"\r\n0\r\n\r\n"),
            (chunked + form + b"\r\n",),
            (head + b"Authorization: Basic \x01" + token + b"\r\n\r\n" + form,),
            (head + b"Authorization: Basic " + token * 300 + b"\r\n\r\n" + form,),
            (authorized + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(form) + form,),
            (authorized + b"Content-Length: %d\r\n\r\n" % (len(form) + 9) + form,),
            (form + b"\r\n\r\n",),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            with contextlib.suppress(ConnectionError):
                for piece in pieces:
                    writer.write(piece)
                    await asyncio.sleep(0.02)
                writer.write_eof()
                self.heard += await reader.read()
            writer.close()

    async def try_everything(self) -> None:
        """Logins of all kinds, and requests that are wrong in all ways, each with a password in it."""
        wrong, right = quote_plus(WRONG).encode(), quote_plus(RIGHT).encode()
        assert await self.send(b"cmd=list") == 200
        for user, password in (("anna", RIGHT), ("anna", WRONG), ("anna", WRONG), ("nobody", WRONG), ("anna", "")):
            assert await self.auth(user, password) == 200
        for number in range(5):
            assert await self.auth("bert", f"{WRONG}{number}") == 200
        assert await self.auth("bert", RIGHT) == 200
        challenged = b"cmd=auth&user=anna&pass=" + right
        assert await self.send(challenged, None) == 401
        assert await self.send(challenged, WRONG_CALLER) == 401
        assert await self.send(challenged, None, b"Authorization: Bearer " + wrong) == 401
        assert await self.send(challenged, None, b"Authorization: Basic " + wrong) == 401
        assert (
            await self.send(challenged, None, b"Authorization: Basic " + base64.b64encode(WRONG.encode("latin-1")))
            == 401
        )
        assert await self.send(challenged, CALLER_PASSWORD, b"Authorization: Basic eDp5") == 401
        for body in (
            b"cmd=auth&user=anna&pass=%zz" + wrong,
            b"cmd=auth&user=anna&pass=" + wrong + b"%ff",
            b"cmd=auth&user=anna&pass=" + wrong + b"&pass=" + right,
            b"cmd=" + wrong,
            b"cmd=auth&pass=" + wrong,
            b"user=anna&pass=" + wrong,
        ):
            assert await self.send(body) == 400
        assert await self.send(challenged + b"x" * 70_000) == 413
        assert await self.send(challenged, CALLER_PASSWORD, b"Content-Type: text/plain") == 400
        await self.send_broken(base64.b64encode(f"{CALLER}:{CALLER_PASSWORD}".encode()), challenged)
        assert await self.send(challenged, target=f"/mailstore?pass={quote(WRONG)}") == 200
        assert await self.send(challenged, target=f"/other?pass={quote(WRONG)}") == 404


class Program:
    """A command of the program in a process of its own."""

    def __init__(self, *arguments: str, folder: Path, log: Path) -> None:
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bridge", *arguments],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        self.log = log

    async def until_started(self) -> None:
        """Returns when requests are taken."""
        deadline_s = time.monotonic() + 30
        while "service.started" not in self.log.read_text():
            if time.monotonic() > deadline_s or self.process.poll() is not None:
                pytest.fail(self.log.read_text())
            await asyncio.sleep(0.02)

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(timeout=20) == 0


@pytest.mark.slapd
@pytest.mark.parametrize("form", ["json", "text"])
async def test_no_password_leaves_a_trace_anywhere(start_slapd: StartSlapd, tmp_path: Path, form: str) -> None:
    """Users', the service account's and the caller's: not in logs at level debug, answers, metrics, files, command lines."""
    folder = tmp_path / "bridge"
    folder.mkdir()
    slapd = start_slapd([person("anna", userPassword=[RIGHT]), person("bert", userPassword=[RIGHT])])
    port, admin = free_port(), free_port()
    more = f"cache: {{refresh_ahead: false}}\nlog: {{level: debug, format: {form}}}"
    texts: dict[str, bytes] = {}
    async with RecordingProxy(slapd.port) as proxy:
        file = configuration(proxy.url, folder, more=more)
        text = file.read_text().replace('server: {listen: "127.0.0.1:0"}', f'server: {{listen: "127.0.0.1:{port}"}}')
        file.write_text(text.replace('admin: {listen: "127.0.0.1:0"}', f'admin: {{listen: "127.0.0.1:{admin}"}}'))
        program = Program("serve", "--config", str(file), folder=folder, log=folder / "log")
        try:
            await program.until_started()
            caller = Caller(port)
            await caller.try_everything()
            slapd.stop()
            assert await caller.auth("anna", RIGHT) == 503
            slapd.start()
            (folder / "reader.password").write_text(WRONG_SERVICE)
            for path in ("/metrics", "/readyz", "/status.json"):
                reader, writer = await asyncio.open_connection("127.0.0.1", admin)
                writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                texts[path] = await reader.read()
                writer.close()
            proc = Path(f"/proc/{program.process.pid}")
            texts["command line"] = (proc / "cmdline").read_bytes()
            assert re.search(r"Max core file size +0 +0 ", (proc / "limits").read_text())
        finally:
            program.stop()
        assert any(bind.password == READER_PASSWORD.encode() for bind in proxy.binds)
        assert any(bind.password == RIGHT.encode() for bind in proxy.user_binds())
        for name, command in (("check", ["check"]), ("list", ["list"]), ("auth", ["auth", "anna"])):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bridge", *command, "--config", str(file)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            texts[name], _ = await process.communicate(f"{RIGHT}\n".encode())
            assert process.returncode not in (0, 70)  # the service account is refused now: an error, and no bug
        assert any(bind.password == WRONG_SERVICE.encode() for bind in proxy.binds)
    texts["answers"] = bytes(caller.heard)
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix != ".password":
            texts[str(path)] = path.read_bytes()
    log = texts[str(folder / "log")]
    for event in (b"request.challenged", b"login.rejected", b"held_back", b"operation.ended", b"server.set_aside"):
        assert event in log, event
    assert {name: found for name, text in texts.items() if (found := traces_in(text))} == {}


@pytest.mark.parametrize("form", ["json", "text"])
async def test_traceback_of_a_bug_shows_no_local_variable(tmp_path: Path, form: str) -> None:
    """Whatever goes wrong in the middle of a login, the log has lines of code and no values."""
    more = f"cache: {{refresh_ahead: false}}\nlog: {{level: debug, format: {form}}}"
    async with FaultyServer(small_directory("anna")) as server:
        async with running_bridge(configuration(server.url, tmp_path, more=more)) as client:
            source = client.service.bridge.directories["company"].source
            source.users_filter = None  # type: ignore[assignment]
            caller = Caller(client.port)
            assert await caller.auth("anna", RIGHT) == 500
            log = client.log.getvalue()
    assert "Traceback" in log
    assert "AttributeError" in log or "TypeError" in log
    assert traces_in(log.encode()) == []
    assert traces_in(bytes(caller.heard)) == []


def test_traceback_of_a_library_shows_no_local_variable() -> None:
    """What asyncio and aiohttp log goes the same way."""
    for form in ("json", "text"):
        stream = io.StringIO()
        route_library_logs(make_logger("debug", form, stream, {}), "debug")
        password = RIGHT
        try:
            int(password[:1])
        except ValueError:
            logging.getLogger("asyncio").exception("went wrong")
        assert "ValueError" in stream.getvalue()
        assert traces_in(stream.getvalue().encode()) == []
    logging.getLogger().handlers = []


def live_secrets() -> list[bytes]:
    """What is in the secrets that are still in memory, but for the configuration's."""
    gc.collect()
    found = [item.reveal() for item in gc.get_objects() if isinstance(item, Secret)]
    return [value for value in found if value in (RIGHT.encode(), WRONG.encode())]


async def stalled(session: Session, _message: wire.Message, request: wire.ReceivedBind) -> bool:
    if request.dn == READER:
        return False
    session._writer.transport.abort()
    return True


@pytest.mark.parametrize("case", ["right", "wrong", "unknown", "lost", "busy", "refused", "down", "cancelled"])
async def test_passwords_are_dropped_when_the_login_has_ended(case: str) -> None:
    """Also where an error is kept for a while, whose traceback holds the frames of the login."""
    on_bind = {"lost": stalled, "busy": answers(51), "refused": answers(8)}.get(case)
    async with FaultyServer(small_directory("anna"), on_bind=on_bind) as server, setting([server]) as found:
        errors: list[BaseException] = []
        if case == "refused":
            store_entry = server.store.find(READER)
            assert store_entry is not None
            store_entry.attributes["userpassword"][0] = b"changed"  # type: ignore[index]
        if case == "down":
            await server.__aexit__()
        password = Secret((RIGHT if case == "right" else WRONG).encode())
        user = "nobody" if case == "unknown" else "anna"
        login = asyncio.create_task(found.bridge.authenticate("/m", user, password))
        if case == "cancelled":
            await asyncio.sleep(0)
            login.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            try:
                await login
            except BridgeError as error:
                errors.append(error)  # as the log, or whoever remembers a failure, would hold it
        assert bool(errors) is (case in ("lost", "busy", "refused", "down"))
        assert live_secrets() == []
        assert not password


def test_secret_is_written_nowhere() -> None:
    """Pickling, copying and showing it tell nothing; two are compared in constant time."""
    secret = Secret(RIGHT.encode())
    for write in (pickle.dumps, copy.deepcopy, copy.copy, json.dumps):
        with pytest.raises(TypeError):
            write(secret)
    assert traces_in(f"{secret} {secret!r} {[secret]}".encode()) == []
    with pytest.raises(TypeError):
        {secret}  # noqa: B018 - hashing is what is tried
    secret.forget()
    assert secret == Secret(b"")


def test_protect_memory_forbids_core_dumps_and_other_readers() -> None:
    """The kernel says so: no core file, and not dumpable (prctl(2))."""
    program = """
import ctypes, resource
from bridge.run.process import protect_memory
before = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
protect_memory()
print(before, ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert done.stdout == "1 0 (0, 0)\n"


WORD = "Canary5ecret"
"""Short and plain, as an administrator may have typed it."""
VALID = """\
endpoints:
  - path: /mailstore
    callers:
      - {username: mailstore, password_file: caller.password}
directories:
  - name: company
    preset: openldap
    servers: [ldaps://ldap.example.com]
    bind: {dn: "cn=reader,dc=example,dc=com", password_file: reader.password}
    users: {bases: ["ou=people,dc=example,dc=com"]}
"""
CALLER_LINE = "      - {username: mailstore, password_file: caller.password}"
BIND = 'bind: {dn: "cn=reader,dc=example,dc=com", password_file: reader.password}'
MISPLACED: dict[str, tuple[str, str]] = {
    "instead of the callers": (CALLER_LINE, f"      - mailstore:{WORD}"),
    "instead of a caller's keys": (CALLER_LINE, f"      - {{mailstore:{WORD}}}"),
    "as the key of a caller": (CALLER_LINE, f"      - {{username: mailstore, {WORD}}}"),
    "behind a caller's name": ("username: mailstore", f'username: "mailstore:{WORD}"'),
    "under a key that callers don't have": ("password_file: caller.password", f"password: {WORD}"),
    "as a caller's hash": ("password_file: caller.password", f"password_hash: {WORD}"),
    "as a caller's file": ("caller.password", WORD),
    "as a number for a caller's file": ("caller.password", "550155015501"),
    "as the name of a section": (BIND, f"bind: {WORD}"),
    "as a key": (BIND, f"bind: {{{WORD}}}"),
    "as the key of a value": (BIND, f"bind: {{dn: x, {WORD}: y}}"),
    "as the DN": ("cn=reader,dc=example,dc=com", WORD),
    "as the way to bind": ("bind: {", f"bind: {{method: {WORD}, "),
    "under a misspelt key": ("password_file: reader.password", f"pasword: {WORD}"),
    "as the file": ("reader.password", WORD),
    "as the key table": ("password_file: reader.password", f"method: gssapi, keytab: {WORD}"),
    "in a list": ("reader.password", f"[{WORD}]"),
    "in a section": ("reader.password", f"{{a: {WORD}}}"),
    "as a number": ("password_file: reader.password", "password: 550155015501"),
    "in a server's URL": ("ldaps://ldap.example.com", f'"ldaps://reader:{WORD}/x@ldap.example.com"'),
    "as an alias": ("password_file: reader.password", f"password: *{WORD}"),
    "as an anchor": ("password_file: reader.password", f"password: &{WORD}"),
    "as two anchors": ("password_file: reader.password", f"password: &{WORD} x, dn: &{WORD} y"),
    "as a tag": ("password_file: reader.password", f"password: !{WORD}"),
    "as a tag of YAML": ("password_file: reader.password", f"password: !!{WORD}"),
    "as a tag of a key": ("password_file: reader.password", f"!{WORD} password: x"),
    "as a handle": ("password_file: reader.password", f"password: !{WORD}!x"),
    "as a verbatim tag": ("password_file: reader.password", f"password: !<{WORD}> x"),
    "as half a tag": ("password_file: reader.password", f"password: !<{WORD}"),
    "behind a percent sign": ("password_file: reader.password", f"password: %{WORD}"),
    "behind an at sign": ("password_file: reader.password", f"password: @{WORD}"),
    "with a backslash": ("password_file: reader.password", f'password: "\\{WORD}"'),
    "without its end": ("password_file: reader.password", f'password: "{WORD}'),
    "with a colon": ("password_file: reader.password", f"password: {WORD}: x"),
    "with a control character": ("password_file: reader.password", f"password: {WORD}\x07"),
    "in a block": (BIND, f"bind:\n      password: |{WORD}\n"),
    "as a directive": ("endpoints:", f"%{WORD}\nendpoints:"),
    "twice": ("password_file: reader.password", f"password: {WORD}, password: {WORD}"),
}
"""What stands there, and what an administrator has put in its place."""


@pytest.mark.parametrize("case", MISPLACED)
def test_fault_of_a_configuration_quotes_no_password(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Pydantic shows the value that is wrong, PyYAML the word that it can't read, and both may be a password."""
    monkeypatch.chdir(tmp_path)
    old, new = MISPLACED[case]
    assert old in VALID
    Path("config.yaml").write_text(VALID.replace(old, new, 1))
    with pytest.raises(ConfigurationError) as caught:
        load("config.yaml", {}).require(EVERYTHING)
    told = tell(caught.value, as_json=True)
    said = "\n".join((*caught.value.problems, repr(caught.value), *capfd.readouterr()))
    assert told == 78
    assert re.search(r"config\.yaml:\d+: ", said)
    for word in (WORD, WORD.lower(), "550155015501"):
        assert word not in said


@pytest.mark.parametrize("kind", ["PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "CERTIFICATE", None])
@pytest.mark.parametrize("swapped", [False, True])
def test_fault_of_a_key_quotes_nothing_of_its_file(
    kind: str | None, swapped: bool, tmp_path: Path, make_certificate: Callable[..., tuple[Path, Path]]
) -> None:
    """OpenSSL and `cryptography` read it; a key that can't be used is a key all the same."""
    for name in ("caller", "reader"):
        (tmp_path / f"{name}.password").write_text("x")
    whole, broken = make_certificate()[0], tmp_path / "broken.pem"
    broken.write_text(f"-----BEGIN {kind}-----\n{WORD}\n-----END {kind}-----\n" if kind else f"{WORD}\n")
    certificate, key = (broken, whole) if swapped else (whole, broken)
    tls = f"server: {{tls: {{certificate_file: {certificate}, key_file: {key}}}}}\n"
    (tmp_path / "config.yaml").write_text(VALID.replace("password_file: ", f"password_file: {tmp_path}/") + tls)
    with pytest.raises(ConfigurationError) as caught:
        load(str(tmp_path / "config.yaml"), {})
    assert "server.tls" in str(caught.value)
    assert WORD not in "\n".join(caught.value.problems)


def test_password_behind_a_users_name_is_not_repeated(tmp_path: Path) -> None:
    """Who types it there has it in the history of the shell, and needs it nowhere else."""
    file = configuration("ldap://127.0.0.1:9", tmp_path)
    command = [sys.executable, "-m", "bridge", "auth", "anna", WORD, f"{WORD} again", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == USAGE
    assert "extra argument" in done.stderr
    assert WORD not in done.stdout + done.stderr


DAMAGES: dict[str, Callable[[], object]] = {
    "a report that is no JSON": lambda: parse_report(f'"{WORD}'),
    "a report with another key": lambda: parse_report(f'{{"skipped": {{"{WORD}": 1}}}}'),
    "a decision": lambda: parse_decisions(f'{{"{WORD}": 1}}'),
    "a word for a number": lambda: parse_guard(
        '{"approved": null, "decided_names": []}', ({}, {b"x": WORD.encode()}, {}, {}, {})
    ),
    "a word for a kind": lambda: parse_guard(
        '{"approved": null, "decided_names": []}',
        ({b"x": json.dumps({**WITHHELD, "kind": WORD}).encode()}, {}, {}, {}, {}),
    ),
}
WITHHELD: dict[str, object] = {
    "user_id": "1",
    "user_name": WORD,
    "kind": "removed",
    "reason": "unknown",
    "detail": "",
    "lost": [],
    "new_name": None,
    "held_by": "guard",
    "since_s": 1.0,
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damage_of_the_database_is_told_without_what_stands_there(case: str) -> None:
    """Python and json quote values and keys; the state holds names of people, and its errors stand on open pages."""
    with pytest.raises(Damaged) as caught:
        DAMAGES[case]()
    assert WORD not in str(caught.value)


def test_text_that_sqlite_cannot_read_is_not_quoted_where_the_database_cannot_be_set_aside(tmp_path: Path) -> None:
    """`Could not decode to UTF-8 column 'x' with text '…'` holds what is in the row."""
    connection = sqlite3.connect(":memory:")
    with pytest.raises(sqlite3.OperationalError) as found:
        connection.execute(f"SELECT CAST(x'{WORD.encode().hex()}ff' AS TEXT)").fetchall()
    connection.close()
    assert WORD in str(found.value)
    files = StateFiles(tmp_path / "missing", clock=time.time)
    with pytest.raises(StateLost) as caught:
        files.replace(found.value)
    assert WORD not in caught.value.full_message


@pytest.mark.parametrize(
    "says",
    [
        f"{WORD}\r\n\r\n",
        f"HTTP/1.1 200 OK\r\nContent-Type: {WORD}/x\r\nContent-Length: 2\r\n\r\n{{}}",
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{WORD}",
    ],
)
async def test_what_a_stranger_at_the_control_socket_says_is_not_repeated(tmp_path: Path, says: str) -> None:
    """The library quotes it, with words of its own around it."""
    path = tmp_path / "socket"

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(says.encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(answer, str(path)):
        with pytest.raises(ServiceError) as caught:
            await ask_service(path, "GET", "/status")
    assert "gave no answer" in caught.value.message
    assert WORD not in caught.value.message
    assert "message=" not in caught.value.message
