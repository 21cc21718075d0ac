"""What docs/logins.md says of logins, row by row, on real servers that count failures themselves."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.errors import BridgeError, DirectoryError
from bridge.model import Accepted, Secret
from bridge.ops.metrics import render_metrics
from tests.conftest import StartSlapd
from tests.support.bridges import Client, running_bridge
from tests.support.ds389 import DirectoryServer389
from tests.support.ldap_proxy import LdapProxy
from tests.support.login_389ds import Server389
from tests.support.login_samba import SambaServer
from tests.support.login_servers import LoginServer, renewed, right
from tests.support.login_slapd import POLICIES, Policy, SlapdServer
from tests.support.logins_table import (
    ANSWERS,
    COUNTING,
    DS,
    LOCKING,
    ROWS,
    SAMBA,
    STATES,
    UNCERTAIN,
    Effect,
    Row,
    cells,
    render,
)
from tests.support.manual_clock import ManualClock
from tests.support.proxied_connection import Rule
from tests.support.slapd import PEOPLE, person
from tests.support.waiting import until

DOCUMENT = Path(__file__).parents[2] / "docs" / "logins.md"
MINUTE_S = 60.0


def lines_below(heading: str) -> list[str]:
    """The lines of the table in a section of the document, without its head."""
    _, _, section = DOCUMENT.read_text().partition(f"\n## {heading}\n")
    return [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("| ")][1:]


def test_document_has_the_rows_of_the_tests_and_no_others() -> None:
    """Each line of its tables is what the tests expect, in the same order; each course of events has its test."""
    assert lines_below("What an answer says") == [render(row) for row in ROWS]
    answers = [cells(row.says, f"`{row.reason}`", row.counted) for row in ANSWERS]
    assert lines_below("Answers that mean trouble") == answers
    shown = {line.rsplit("`", 2)[1] for line in lines_below("What several logins do")}
    tests = {name for name in globals() if name.startswith("test_")}
    assert shown == tests - {"test_rows", "test_answers", "test_document_has_the_rows_of_the_tests_and_no_others"}


@dataclass
class Setting:
    """A running bridge, the server behind it, and the clock of the bridge."""

    server: LoginServer
    client: Client
    clock: ManualClock
    proxy: LdapProxy | None

    async def login(self, uid: str, password: str | bytes) -> tuple[str, str]:
        """The reason of the verdict or the code of the error, and what the server said."""
        data = password.encode() if isinstance(password, str) else password
        try:
            verdict = await self.client.service.bridge.authenticate("/mailstore", uid, Secret(data))
        except DirectoryError as error:
            return error.code, f"{error.result_code} {error.diagnostic_message}"
        except BridgeError as error:
            return error.code, ""
        await asyncio.sleep(0)  # until the line is in the log
        line = self.client.last_login()
        reason = "accepted" if isinstance(verdict, Accepted) else verdict.reason.value
        return reason, f"{line.get('result_code', 0)} {line.get('diagnostic_message', '')}"

    def bind_count(self) -> int:
        """User binds so far: as the proxy has seen them, or else by the bridge's own metric."""
        if self.proxy is not None:
            return sum(each.kind == "bind" and "reader" not in each.dn for each in self.proxy.requests)
        return sum(
            int(float(line.rpartition(" ")[2]))
            for line in render_metrics(self.client.service._registry)[0].decode().splitlines()
            if "_directory_operations_total{" in line and 'operation="user_bind"' in line
        )

    def remembered(self, uid: str) -> tuple[int, int, int]:
        """How many wrong passwords and unknown outcomes count, and how many are refused without a bind."""
        for each in self.client.service.bridge.remembered():
            if each.user_name == uid:
                return each.failure_count, each.unknown_count, each.refused_count
        return 0, 0, 0


@asynccontextmanager
async def running(server: LoginServer, folder: Path, directory: str = "") -> AsyncIterator[Setting]:
    """A bridge with a clock of its own, behind a proxy where passwords may go without TLS."""
    clock = ManualClock(time.time())
    if server.kind == SAMBA:
        async with running_bridge(server.configure(folder, directory=directory), clock) as client:
            yield Setting(server, client, clock, None)
        return
    async with (
        LdapProxy(server.address) as proxy,
        running_bridge(server.configure(folder, proxy.url, directory), clock) as client,
    ):
        yield Setting(server, client, clock, proxy)


@pytest.fixture(scope="module")
def ds() -> Iterator[Server389]:
    with DirectoryServer389(Server389.entries()) as server:
        found = Server389(server)
        found.set_up()
        yield found


ON_SLAPD = [pytest.param(policy, marks=pytest.mark.slapd, id=f"slapd: {policy.name}") for policy in POLICIES]
ON_SAMBA = pytest.param(SAMBA, marks=pytest.mark.samba)
ON_DS = pytest.param(DS, marks=pytest.mark.ds389)


@pytest.fixture
def server(request: pytest.FixtureRequest, start_slapd: StartSlapd) -> Iterator[LoginServer]:
    """The server that the parameter names."""
    wanted: Policy | str = getattr(request, "param", POLICIES[3])
    if isinstance(wanted, Policy):
        yield SlapdServer(start_slapd(SlapdServer.entries(wanted), **SlapdServer.options(wanted)), wanted)
    elif wanted == DS:
        yield request.getfixturevalue("ds")
    else:
        domain = SambaServer(request.getfixturevalue("samba"))
        yield domain
        domain.remove_added()


everywhere = pytest.mark.parametrize("server", [*ON_SLAPD, ON_SAMBA, ON_DS], indirect=True)
"""For tests that run on every server and with every policy."""
behind_a_proxy = pytest.mark.parametrize("server", [*ON_SLAPD[:3:2], ON_DS], indirect=True)
"""For tests that need the proxy: two policies, one that locks at 3 and one at 5, and 389 DS."""


def rows_of(server: LoginServer) -> list[Row]:
    names = {server.kind}
    if isinstance(server, SlapdServer):
        names.add(LOCKING if server.policy.locks else COUNTING)
    return [row for row in ROWS if names & set(row.servers)]


async def run(row: Row, uid: str, found: Setting) -> Row:
    """The row as it is seen."""
    server, state = found.server, STATES[row.account]
    password = "wrong" if row.password == "wrong" else right(uid)
    server.begin(uid, state)
    before, binds = server.failures(uid), found.bind_count()
    reason, said = await found.login(uid, password)
    assert found.bind_count() == binds + 1, (row, reason)
    counted = server.failures(uid) - before
    wrong_count, unknown_count, refused_count = found.remembered(uid)
    binds = found.bind_count()
    assert (await found.login(uid, password))[0] in (reason, "remembered_failure"), row
    again = "one bind" if found.bind_count() > binds else "none"
    remembered = "no" if not refused_count else "window"
    if refused_count:
        binds = found.bind_count()
        for _ in range(2):
            found.clock.advance(25 * MINUTE_S)
            await found.login(uid, password)
        remembered = "day" if found.bind_count() == binds else "window"
    server.end(uid, state)
    has_new = "new password" in row.account or state.startswith("changed")
    afterwards, _ = await found.login(uid, renewed(uid) if has_new else right(uid))
    effect = Effect(
        remembered=remembered,
        counted="wrong" if wrong_count else "unknown" if unknown_count else "no",
        directory="?" if row.effect is UNCERTAIN else str(max(0, counted)),
        again=again,
    )
    says = row.says if _says(said, row.says) else said
    return row._replace(says=says, reason=reason, effect=effect, afterwards=afterwards)


def _says(said: str, expected: str) -> bool:
    """Whether the server said so; controls are not in the log."""
    code, _, text = expected.partition(" ")
    return said.split(" ", maxsplit=1)[0] == code and (text.startswith("ppolicy") or text in said)


@everywhere
async def test_rows(server: LoginServer, tmp_path: Path) -> None:
    """Each state of an account, with the right password and with a wrong one, by the server's own count."""
    rows = {f"{server.kind[0].lower()}row{number}": row for number, row in enumerate(rows_of(server))}
    server.add((uid, STATES[row.account]) for uid, row in rows.items())
    async with running(server, tmp_path) as found:
        seen: list[Row] = []
        for uid, row in rows.items():
            seen.append(await run(row, uid, found))
            found.clock.advance(2 * MINUTE_S)  # several people at once would be an outage
    differences = [f"{row}\nis {found}" for row, found in zip(rows.values(), seen, strict=True) if row != found]
    assert not differences, "\n".join(differences)


@pytest.mark.slapd
async def test_answers(server: LoginServer, tmp_path: Path) -> None:
    """What a proxy answers in place of the server, to the right password; afterwards it is accepted."""
    cases = {f"a{number}": pair for number, pair in enumerate((row, each) for row in ANSWERS for each in row.causes)}
    server.add((uid, "") for uid in cases)
    async with running(server, tmp_path) as found:
        assert found.proxy is not None
        for uid, (row, (code, text)) in cases.items():
            found.proxy.answer_binds(code, text, only=server.dn(uid).__eq__)
            reason, _ = await found.login(uid, right(uid))
            wrong_count, unknown_count, refused_count = found.remembered(uid)
            counted = "wrong" if wrong_count else "unknown" if unknown_count else "no"
            assert (reason, counted, refused_count) == (row.reason, row.counted, 0), (row, text)
            binds = found.bind_count()
            assert (await found.login(uid, right(uid)))[0] == row.reason
            assert found.bind_count() == binds + 1
            found.proxy.heal()
            assert (await found.login(uid, right(uid)))[0] == "accepted", (row, text)
            assert found.remembered(uid) == (0, 0, 0)


@everywhere
async def test_different_wrong_passwords_lock_nobody(server: LoginServer, tmp_path: Path) -> None:
    """Five at once as the first of all logins, then five more: the budget is bound, and the account still works."""
    server.add([("many", "")])
    async with running(server, tmp_path) as found:
        reasons = [reason for reason, _ in await asyncio.gather(*(found.login("many", f"no {n}") for n in range(5)))]
        assert sorted(reasons) == sorted(
            ["wrong_password"] * server.budget_count + ["held_back"] * (5 - server.budget_count)
        )
        for number in range(5, 10):
            assert (await found.login("many", f"no {number}"))[0] == "held_back"
        assert found.bind_count() == server.budget_count
        if server.kind != DS:  # which loses count of what comes at once
            assert server.failures("many") == server.budget_count
        assert server.takes("many", right("many"))
        assert (await found.login("many", right("many")))[0] == "held_back"
        found.clock.advance(31 * MINUTE_S)
        assert (await found.login("many", right("many")))[0] == "accepted"
        assert found.remembered("many") == (0, 0, 0)


@pytest.mark.slapd
async def test_policy_that_is_not_told_in_time_keeps_nobody_waiting(server: LoginServer, tmp_path: Path) -> None:
    """A search for policies without an answer: the first logins wait for it, a second at most."""
    server.add([("waits", "")])
    async with running(server, tmp_path) as found:
        assert found.proxy is not None
        found.proxy.add(Rule(lambda request: b"pwdPolicy" in request.filter))
        began_s = time.monotonic()
        assert (await found.login("waits", right("waits")))[0] == "accepted"
        assert time.monotonic() - began_s < 3
        assert (await found.login("waits", "wrong"))[0] == "wrong_password"


@pytest.mark.slapd
@pytest.mark.parametrize("server", ON_SLAPD[:1], indirect=True)
@pytest.mark.parametrize("code", [0, 1, 3, 4, 11, 32, 50, 51, 53, 80])
async def test_policy_that_is_not_told_again_holds_on(server: LoginServer, code: int, tmp_path: Path) -> None:
    """An hour later the search for it is refused, or finds nothing: the budget is no larger than before."""
    server.add([("first", ""), ("many", "")])
    async with running(server, tmp_path) as found:
        assert found.proxy is not None
        assert (await found.login("first", right("first")))[0] == "accepted"
        found.proxy.answer_searches(code, only=lambda request: b"pwdPolicy" in request.filter)
        for _ in range(2):
            found.clock.advance(61 * MINUTE_S)
            searches = len(found.proxy.searches)
            assert (await found.login("first", right("first")))[0] == "accepted"
            await until(lambda: any(b"pwdPolicy" in each.filter for each in found.proxy.searches[searches:]))  # noqa: B023
            await asyncio.sleep(0.1)  # until the answer has been read
        for number in range(server.threshold_count + 1):
            await found.login("many", f"no {number}")
        assert server.failures("many") == server.budget_count
        assert server.takes("many", right("many"))


@everywhere
async def test_programs_with_old_passwords_leave_room_for_the_person(server: LoginServer, tmp_path: Path) -> None:
    """Two programs ask every ten minutes for hours; the person mistypes now and then, and gets in; nothing locks."""
    server.add([("person", "marked")])
    async with running(server, tmp_path) as found:
        for hour in range(6):
            for number in range(6):
                for program in ("an old", "an older"):
                    assert (await found.login("person", f"{program} password"))[0] != "accepted"
                assert server.failures("person") < server.threshold_count, (hour, number)
                found.clock.advance(10 * MINUTE_S)
            if hour % 2 and server.budget_count > 2:
                assert (await found.login("person", f"slip {hour}"))[0] == "wrong_password"
            assert (await found.login("person", right("person")))[0] == "accepted", hour


@everywhere
async def test_programs_with_old_passwords_leave_room_after_each_success(server: LoginServer, tmp_path: Path) -> None:
    """They ask every ten minutes, and so does the person: held back once at most, before anything was tried."""
    programs = ("an old", "an older", "a very old")[: max(2, server.budget_count - 1)]
    server.add([("busy", "marked")])
    async with running(server, tmp_path) as found:
        reasons = []
        for _ in range(12):
            for program in programs:
                assert (await found.login("busy", f"{program} password"))[0] != "accepted"
            assert server.failures("busy") < server.threshold_count
            found.clock.advance(5 * MINUTE_S)
            reasons.append((await found.login("busy", right("busy")))[0])
            found.clock.advance(5 * MINUTE_S)
        assert set(reasons[3:]) == {"accepted"}, reasons


@pytest.mark.slapd
@pytest.mark.parametrize("server", ON_SLAPD[2:3], indirect=True)
async def test_wrong_password_that_is_repeated_for_days_is_bound_once_a_day(
    server: LoginServer, tmp_path: Path
) -> None:
    """A program asks every twenty minutes: by the password mark it is known to be wrong still."""
    server.add([("daily", "marked")])
    async with running(server, tmp_path) as found:
        for day in (1, 2, 3):
            for _ in range(72):
                assert (await found.login("daily", "old"))[0] in ("wrong_password", "remembered_failure")
                found.clock.advance(20 * MINUTE_S)
            assert found.bind_count() == server.failures("daily") == day


@behind_a_proxy
async def test_binds_without_an_answer_end_in_an_error(server: LoginServer, tmp_path: Path) -> None:
    """The server judges them and nobody hears of it: 503 each time, no bind beyond the budget, never `false`."""
    server.add([("mute", ""), ("short", "")])
    lines = "timeouts: {connect: 1s, request: 2s}"
    async with running(server, tmp_path, directory=lines) as found:
        assert found.proxy is not None
        found.proxy.swallow_binds(only=server.dn("mute").__eq__)
        for number in range(server.budget_count + 3):
            assert (await found.login("mute", f"no {number}"))[0] == "outcome_unknown"
        assert found.bind_count() == server.failures("mute") == server.budget_count
        assert found.remembered("mute") == (0, server.budget_count, 0)
        found.proxy.heal()
        assert server.takes("mute", right("mute"))
        assert (await found.login("mute", right("mute")))[0] == "outcome_unknown"
        found.clock.advance(10 * MINUTE_S)
        status, headers = await found.client.headers(f"cmd=auth&user=mute&pass={right('mute')}")
        assert (status, headers["retry-after"]) == (503, str(20 * 60))
        found.clock.advance(21 * MINUTE_S)
        assert (await found.login("mute", right("mute")))[0] == "accepted"
        # Below the budget, a success forgets them at once.
        found.proxy.swallow_binds(only=server.dn("short").__eq__)
        assert (await found.login("short", right("short")))[0] == "outcome_unknown"
        found.proxy.heal()
        assert (await found.login("short", right("short")))[0] == "accepted"
        assert found.remembered("short") == (0, 0, 0)


def problems(found: Setting) -> list[str]:
    (endpoint,) = found.client.service.bridge.health().endpoints
    return [problem.code for problem in endpoint.problems]


@behind_a_proxy
async def test_outage_that_looks_like_wrong_passwords_is_not_believed(server: LoginServer, tmp_path: Path) -> None:
    """Twenty people within a minute are refused, and nobody accepted: counted, not remembered, and told."""
    people = [f"out{number:02}" for number in range(20)]
    server.add((uid, "marked") for uid in people)
    async with running(server, tmp_path) as found:
        assert found.proxy is not None
        found.proxy.answer_binds(49, only=lambda dn: "out" in dn)
        for uid in people:
            assert (await found.login(uid, right(uid)))[0] == "wrong_password"
            found.clock.advance(2.0)
        assert "logins_refused" in problems(found)
        assert {found.remembered(uid) for uid in people} == {(0, 1, 0)}
        found.proxy.heal()
        for uid in people:
            assert (await found.login(uid, right(uid)))[0] == "accepted"
            assert found.remembered(uid) == (0, 0, 0)
        assert "logins_refused" not in problems(found)


@everywhere
async def test_clock_that_is_set_changes_nothing(server: LoginServer, tmp_path: Path) -> None:
    """An hour forward or back: who is held back stays so, and what is remembered, for as long as before."""
    server.add([("early", ""), ("late", "")])
    async with running(server, tmp_path) as found:
        for uid, seconds in (("early", -3600.0), ("late", 3600.0)):
            for number in range(server.budget_count):
                assert (await found.login(uid, f"no {number}"))[0] == "wrong_password"
            found.clock.date_s += seconds
            binds = found.bind_count()
            assert (await found.login(uid, "no 0"))[0] == "remembered_failure"
            found.clock.advance(25 * MINUTE_S)
            assert (await found.login(uid, right(uid)))[0] == "held_back"
            assert found.client.last_login()["duration_ms"] >= 0
            assert found.bind_count() == binds
            assert server.failures(uid) == server.budget_count
            found.clock.advance(6 * MINUTE_S)
            assert (await found.login(uid, right(uid)))[0] == "accepted"


@everywhere
async def test_new_password_works_at_once_though_it_was_a_wrong_one(server: LoginServer, tmp_path: Path) -> None:
    """The entry shows that it was set; the old one is bound once more, and refused."""
    server.add([("new", "")])
    async with running(server, tmp_path) as found:
        assert (await found.login("new", renewed("new")))[0] == "wrong_password"
        server.set_password("new", renewed("new"))
        assert (await found.login("new", renewed("new")))[0] == "accepted"
        if server.kind != SAMBA:  # which accepts it for another hour
            assert (await found.login("new", right("new")))[0] == "wrong_password"
            assert (await found.login("new", right("new")))[0] == "remembered_failure"


@everywhere
async def test_names_and_passwords_that_servers_cut_are_sent_to_none(server: LoginServer, tmp_path: Path) -> None:
    """NUL, control characters in names, no password: refused without a byte to the server."""
    server.add([("cut", "")])
    password = right("cut")
    async with running(server, tmp_path) as found:
        for name, typed, reason in (
            ("cut", f"{password}\0", "impossible"),
            ("cut", f"{password}\0x", "impossible"),
            ("cut\0", password, "impossible"),
            ("cut\0x", password, "impossible"),
            ("\tcut", password, "impossible"),
            ("cut\n", password, "impossible"),
            ("cut", "", "empty_password"),
        ):
            assert (await found.login(name, typed))[0] == reason
        assert found.bind_count() == server.failures("cut") == 0
        assert found.proxy is None or not found.proxy.requests
        assert (await found.login("cut", f" {password} "))[0] == "wrong_password"
        assert (await found.login("cut", password.swapcase()))[0] in ("wrong_password", "held_back")


@everywhere
async def test_name_that_nobody_has_costs_a_bind_of_nobody(server: LoginServer, tmp_path: Path) -> None:
    """So that time tells nothing; and nobody's account counts it."""
    async with running(server, tmp_path) as found:
        for count in (1, 2):
            assert (await found.login("nobody", "any"))[0] == "unknown_user"
            assert found.bind_count() == count
        assert found.remembered("nobody") == (0, 0, 0)


@pytest.mark.slapd
async def test_people_who_are_not_listed_are_not_bound(server: LoginServer, tmp_path: Path) -> None:
    """Excluded by a group, or by the filter: the log says which, and their own accounts count nothing."""
    assert isinstance(server, SlapdServer)
    server.add([("staff", ""), ("leaver", ""), ("other", "")])
    group = ("cn=leavers,dc=example,dc=com", {"objectClass": ["groupOfNames"], "cn": ["leavers"]})
    server.server.add((group[0], {**group[1], "member": [server.dn("leaver")]}))
    async with LdapProxy(server.address) as proxy:
        file = server.configure(tmp_path, proxy.url)
        users = f'groups: {{exclude: ["{group[0]}"]}}, filter: "(!(uid=other))"'
        file.write_text(file.read_text().replace('"]}\n', f'"], {users}}}\n', 1))
        async with running_bridge(file, ManualClock(time.time())) as client:
            found = Setting(server, client, ManualClock(), proxy)
            for uid, reason in (("leaver", "not_in_group"), ("other", "unknown_user")):
                for password in (right(uid), "wrong"):
                    assert (await found.login(uid, password))[0] == reason
                assert proxy.binds_of(server.dn(uid)) == server.failures(uid) == 0
            assert (await found.login("staff", right("staff")))[0] == "accepted"


@pytest.mark.slapd
async def test_listed_user_who_is_not_found_is_an_error(server: LoginServer, tmp_path: Path) -> None:
    """The rights to the people are taken away: nobody is told that a right password is wrong."""
    assert isinstance(server, SlapdServer)
    server.add([("staff", ""), ("other", "")])
    async with running(server, tmp_path) as found:
        assert len(await found.client.list_users()) == 2
        server.server.restart_with_access(f'access to dn.children="{PEOPLE}" by * auth\naccess to * by * read')
        reason, _ = await found.login("staff", right("staff"))
        assert (reason, found.bind_count()) == ("directory_unavailable", 0)


@pytest.mark.slapd
@pytest.mark.parametrize("looks_up", [False, True], ids=["first is down", "first answers look-ups"])
async def test_server_that_lags_behind_refuses_for_itself_alone(
    start_slapd: StartSlapd, tmp_path: Path, *, looks_up: bool
) -> None:
    """The second server has the old password still: what it refuses is accepted by the first one again.

    The first one takes no new connections, and may go on to answer look-ups: look-up and bind go to one server.
    """
    options, ids = SlapdServer.options(POLICIES[3]), {"entryUUID": [str(uuid.uuid4())]}
    servers = []
    for password in ("the new one", "the old one"):
        entries = [*SlapdServer.entries(POLICIES[3]), person("anna", **ids, userPassword=[password])]
        servers.append(SlapdServer(start_slapd(entries, **options), POLICIES[3]))
    async with LdapProxy(servers[0].address) as first, LdapProxy(servers[1].address) as second:
        file = servers[0].configure(tmp_path, f'{first.url}", "{second.url}', "pool: {reuse_binds: false}")
        async with running_bridge(file, ManualClock(time.time())) as client:
            found = Setting(servers[0], client, ManualClock(), first)
            assert (await found.login("anna", "the new one"))[0] == "accepted"
            first.stop_listening()
            if not looks_up:
                first.close_existing(rst=True)
            assert (await found.login("anna", "the new one"))[0] == "wrong_password"
            assert client.last_login()["server"] == second.url
            assert (await found.login("anna", "the new one"))[0] == "remembered_failure"
            assert client.last_login()["server"] is None
            first.listen_again()
            await until(lambda: "server.restored" in client.log.getvalue())
            assert (await found.login("anna", "the new one"))[0] == "accepted"
        assert second.binds_of(servers[1].dn("anna")) == servers[1].failures("anna") == 1
        assert first.binds_of(servers[0].dn("anna")) == 2


async def test_success_at_another_server_ends_no_count(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Each server counts for itself: the first one hears of no success at the second, and doesn't lock."""
    options = SlapdServer.options(POLICIES[3])
    entries = [*SlapdServer.entries(POLICIES[3]), person("anna", userPassword=[right("anna")])]
    servers = [SlapdServer(start_slapd(entries, **options), POLICIES[3]) for _ in range(2)]
    async with LdapProxy(servers[0].address) as first, LdapProxy(servers[1].address) as second:
        file = servers[0].configure(tmp_path, f'{first.url}", "{second.url}')
        async with running_bridge(file, ManualClock(time.time())) as client:
            found = Setting(servers[0], client, ManualClock(), first)
            for number in range(3):
                assert (await found.login("anna", f"wrong {number}"))[0] == "wrong_password"
            first.stop_listening()
            first.close_existing(rst=True)
            assert (await found.login("anna", right("anna")))[0] == "accepted"
            first.listen_again()
            await until(lambda: "server.restored" in client.log.getvalue())
            assert (await found.login("anna", "wrong 3"))[0] == "wrong_password"
            assert (await found.login("anna", "wrong 4"))[0] == "held_back"
        assert servers[0].failures("anna") == servers[0].budget_count
        assert servers[0].takes("anna", right("anna"))


@pytest.mark.slapd
async def test_lagging_server_behind_the_same_name_refuses_for_no_day(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """A balancer has sent the bind to a server with the old password: the entry, at the other one, counts nothing."""
    options, ids = SlapdServer.options(POLICIES[3]), {"entryUUID": [str(uuid.uuid4())]}
    servers = []
    for password, changed in (("the new one", "20260102000000Z"), ("the old one", "20260101000000Z")):
        anna = person("anna", **ids, userPassword=[password], pwdChangedTime=[changed])
        entries = [*SlapdServer.entries(POLICIES[4]), anna, person("bert")]
        servers.append(SlapdServer(start_slapd(entries, **options), POLICIES[4]))
    new, old = servers
    async with LdapProxy(new.address) as proxy:
        clock = ManualClock(time.time())
        async with running_bridge(new.configure(tmp_path, proxy.url, "pool: {reuse_binds: false}"), clock) as client:
            found = Setting(new, client, clock, proxy)
            assert (await found.login("bert", "wrong"))[0] == "wrong_password"
            proxy.target = old.address
            assert (await found.login("anna", "the new one"))[0] == "wrong_password"
            proxy.target = new.address
            assert (await found.login("anna", "the new one"))[0] == "remembered_failure"
            clock.advance(25 * MINUTE_S)
            assert (await found.login("anna", "the new one"))[0] == "remembered_failure"
            clock.advance(6 * MINUTE_S)
            assert (await found.login("anna", "the new one"))[0] == "accepted"


@pytest.mark.slapd
@pytest.mark.parametrize("server", ON_SLAPD[:3:2], indirect=True)
async def test_directories_of_one_server_share_a_budget(server: LoginServer, tmp_path: Path) -> None:
    """Two directories, each with an endpoint of its own: their users are the same accounts, which would be locked."""
    server.add([("twice", "")])
    file = server.configure(tmp_path)
    before, _, rest = file.read_text().partition("directories:\n")
    section, _, more = rest.partition("\ncache:")
    endpoint = before.partition("endpoints:\n")[2]
    second = endpoint.replace("/mailstore\n", "/second\n    directories: [second]\n")
    before = before.replace("/mailstore\n", "/mailstore\n    directories: [company]\n") + second
    section += "\n" + section.replace("company", "second")
    file.write_text(f"{before}directories:\n{section}\ncache:{more}")
    clock = ManualClock(time.time())
    async with running_bridge(file, clock) as client:
        bridge, reasons = client.service.bridge, []
        for number in range(server.threshold_count + 1):
            path = ("/mailstore", "/second")[number % 2]
            verdict = await bridge.authenticate(path, "twice", Secret(b"no %d" % number))
            assert not isinstance(verdict, Accepted)
            reasons.append(verdict.reason.value)
        rest_count = len(reasons) - server.budget_count
        assert reasons == ["wrong_password"] * server.budget_count + ["held_back"] * rest_count
        assert server.failures("twice") == server.budget_count
        assert server.takes("twice", right("twice"))
        assert bridge.release("twice") == 1
        assert isinstance(await bridge.authenticate("/second", "twice", Secret(right("twice").encode())), Accepted)
