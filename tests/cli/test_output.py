"""What commands print: whole values at every width, records in pipes, nothing that steers a terminal."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import csv
import io
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from rich.cells import cell_len

from bridge.cli.list_users import _show_csv
from tests.faults.server import FaultyServer, small_directory
from tests.support.bridges import configuration, running_bridge
from tests.support.slapd import PEOPLE
from tests.support.terminals import on_terminal, with_shell

pytestmark = pytest.mark.processes

HOSTILE = "red\x1b[31m \x9b2J\nline\ttab\\ \u202egnp"
SHOWN = r"red\x1b[31m \x9b2J\nline\ttab\ \u202egnp"
WIDE = "山田太郎\u3000髙橋"
LONG = "u" + "x" * 70
WIDTHS = (1, 40, 60, 80, 132, 400)


@pytest_asyncio.fixture
async def file(tmp_path: Path) -> AsyncIterator[Path]:
    """The configuration of a running service with awkward people."""
    store = small_directory("anna", LONG)
    for uid, name in (("esc", HOSTILE), ("wide", WIDE)):
        found = {"objectClass": ["inetOrgPerson"], "uid": [uid], "cn": [name], "userPassword": ["Pass"]}
        store.add(
            f"uid={uid},{PEOPLE}", {**found, "mail": [f"{uid}@example.com", f"{uid}.2@{'long.' * 12}example.com"]}
        )
    async with FaultyServer(store) as server:
        path = configuration(server.url, tmp_path, more="auth: {max_failures: 2, fast_refusals: true}")
        async with running_bridge(path) as client:
            await client.list_users()
            for number in range(3):
                await client.auth("anna", f"wrong-{number}")
            yield path


@pytest.mark.parametrize("width", WIDTHS)
async def test_terminal_of_any_width_shows_whole_values(file: Path, width: int) -> None:
    """Addresses, ports, names: each stands in one piece, for whoever copies it, and the terminal does the breaking."""
    server = re.search(r"ldap://127.0.0.1:\d+", await asyncio.to_thread(file.read_text))
    assert server is not None
    for arguments, values in (
        (("list",), (SHOWN, WIDE, LONG, "anna@example.com", f"esc.2@{'long.' * 12}example.com")),
        (("check",), (server[0], "warning", f"{LONG}@example.com"[:40])),
        (("status",), ("company",)),
        (("throttle", "show"), ("anna", "company")),
    ):
        command = (*arguments, "--config", str(file))
        _, output = await asyncio.to_thread(on_terminal, command, width=width, environment={"TERM": "dumb"})
        for value in values:
            assert value in output, (arguments, value)
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", output), output


async def test_columns_where_they_fit_and_no_line_wider_than_the_terminal(file: Path) -> None:
    """Wide letters take two columns, and the next column begins below its head."""
    _, output = await asyncio.to_thread(on_terminal, ("status", "--config", str(file)), width=80)
    head = next(line for line in output.splitlines() if "Withheld" in line)
    assert head.index("Users") > head.index("Directory")
    _, output = await asyncio.to_thread(on_terminal, ("list", "--config", str(file)), width=300)
    lines = [line for line in output.splitlines() if "@" in line]
    wide = next(line for line in lines if WIDE in line)
    anna = next(line for line in lines if line.startswith("anna"))
    assert cell_len(wide[: wide.index("wide@")]) == anna.index("anna@")


@pytest.mark.parametrize("environment", [{}, {"COLUMNS": "7"}, {"FORCE_COLOR": "1"}, {"TERM": "dumb"}])
async def test_pipe_has_one_record_a_line(file: Path, environment: dict[str, str]) -> None:
    """Tabs between values, no frames, no colours, no heads, whatever the environment says of a terminal."""
    done = await asyncio.to_thread(with_shell, ("list", "--config", str(file)), "", environment=environment)
    records = [line.split("\t") for line in done.stdout.splitlines()]
    assert [record[0] for record in records] == sorted(("anna", "esc", LONG, "wide"))
    assert {len(record) for record in records} == {3}
    assert records[1][1] == SHOWN.replace("tab\\", r"tab\\")
    assert records[3][1] == WIDE
    assert (done.stderr, done.returncode) == ("4 users\n", 0)
    done = await asyncio.to_thread(with_shell, ("check", "--config", str(file)), "", environment=environment)
    assert {len(line.split("\t")) for line in done.stdout.splitlines()} == {6}
    done = await asyncio.to_thread(with_shell, ("status", "--config", str(file)), "", environment=environment)
    kinds = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert kinds == ["endpoint", "directory"]
    done = await asyncio.to_thread(with_shell, ("throttle", "show", "--config", str(file)), "", environment=environment)
    ((name, directory, *counts, held, _until),) = [line.split("\t") for line in done.stdout.splitlines()]
    assert (name, directory, counts, held) == ("anna", "company", ["2", "0", "2"], "yes")


LOCALES = [
    {"LC_ALL": "C"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1:strict"},
    {"LC_ALL": "nowhere.UTF-8", "LANG": ""},
]


@pytest.mark.parametrize("environment", LOCALES)
async def test_any_locale_prints_any_name(file: Path, environment: dict[str, str]) -> None:
    """What the locale can't show is escaped; JSON and CSV are UTF-8 all the same."""
    for form in ("json", "csv"):
        command = ("list", "--config", str(file), "--format", form)
        done = await asyncio.to_thread(with_shell, command, "| base64 -w0", environment=environment)
        data = base64.b64decode(done.stdout).decode("utf-8")
        if form == "json":
            names = [user["fullName"] for user in json.loads(data)]
        else:
            names = [row["fullName"] for row in csv.DictReader(io.StringIO(data, newline=""))]
        assert names == ["anna", HOSTILE if form == "json" else SHOWN, LONG, WIDE]
    for command in (("list",), ("check",)):
        done = await asyncio.to_thread(with_shell, (*command, "--config", str(file)), "", environment=environment)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
        _, output = await asyncio.to_thread(on_terminal, (*command, "--config", str(file)), environment=environment)
        assert "Traceback" not in output


async def test_terminal_gets_a_document_that_means_the_same(file: Path) -> None:
    """JSON on a terminal escapes what would steer it, and is the same document."""
    _, shown = await asyncio.to_thread(on_terminal, ("list", "--json", "--config", str(file)))
    shown = shown.replace("4 users", "").strip()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", shown)
    piped = await asyncio.to_thread(with_shell, ("list", "--json", "--config", str(file)), "")
    assert json.loads(shown) == json.loads(piped.stdout)
    _, shown = await asyncio.to_thread(on_terminal, ("list", "--format", "csv", "--config", str(file)))
    assert SHOWN in shown


@pytest.mark.parametrize(
    ("unset", "environment"), [("HOME", {}), ("TERM", {}), ("TERM", {"TERM": "dumb"}), ("HOME", {"TERM": "nonsense"})]
)
async def test_bare_environment_is_enough(
    file: Path, unset: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rescue shell has no home and no terminal type."""
    monkeypatch.delenv(unset, raising=False)
    for command in (("list",), ("status",), ("diff",)):
        code, output = await asyncio.to_thread(on_terminal, (*command, "--config", str(file)), environment=environment)
        assert (code, "Traceback" in output) == (0, False), output


async def test_service_with_problems_tells_each_remedy_once(tmp_path: Path) -> None:
    """A directory behind two endpoints has one fault; its remedy stands once on the terminal, and once in a record."""
    async with FaultyServer(small_directory("anna")) as server:
        file = configuration(server.url, tmp_path, users='users: {bases: ["ou=nowhere,dc=example,dc=com"]}')
        text = file.read_text()
        second = text[text.index("  - path: /mailstore") : text.index("directories:")].replace("/mailstore", "/second")
        file.write_text(text.replace("directories:\n", f"{second}directories:\n", 1))
        async with running_bridge(file) as client:
            await client.post("cmd=list")
            health = client.service.bridge.health()
            remedy = health.endpoints[0].problems[0].remedy
            assert remedy
            code, output = await asyncio.to_thread(on_terminal, ("status", "--config", str(file)), width=400)
            assert (code, output.count(remedy.rstrip("."))) == (69, 1)
            assert output.count("company, since") == 2
            done = await asyncio.to_thread(with_shell, ("status", "--config", str(file)), "")
            problems = [line.split("\t") for line in done.stdout.splitlines() if line.startswith("problem")]
            assert [problem[1] for problem in problems] == ["/mailstore", "/second"]
            for problem in problems:
                assert "\t".join(problem).count(remedy.rstrip(".")) == 1


@pytest.mark.parametrize(
    ("environment", "is_colored"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_errors_obey_no_color(tmp_path: Path, environment: dict[str, str], is_colored: bool) -> None:
    """Colours come on a terminal that knows them, where nobody has forbidden them."""
    file = configuration("ldap://127.0.0.1:1", tmp_path)
    for command in (("list",), ("status",), ("removals", "approve", "x")):
        code, output = on_terminal((*command, "--config", str(file)), environment=environment, stderr=True)
        assert (code != 0, "\x1b[31m" in output) == (True, is_colored), output
        assert "\x1b[31m" not in with_shell((*command, "--config", str(file)), "", environment=environment).stderr


def test_path_of_the_environment_is_escaped_in_errors(tmp_path: Path) -> None:
    """What stands in an error comes from outside, too."""
    code, output = on_terminal(("list", "--config", str(tmp_path / "a\x1b[2Jb")), stderr=True)
    assert (code, "\x1b[2J" in output, r"a\x1b[2Jb" in output) == (78, False, True)


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_csv_holds_no_formula(name: str) -> None:
    """A spreadsheet takes such a beginning for one: whoever may edit their own entry could have it run there."""
    users = [{"userName": "anna", "fullName": name, "emailAddresses": [f"{name}@example.com"]}]
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with contextlib.redirect_stdout(stream):
        _show_csv(users)
    stream.seek(0)
    (row,) = csv.DictReader(stream)
    assert row["userName"] == "anna"
    assert all(not cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row.values())
