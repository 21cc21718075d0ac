"""Nothing is lost: the whole service, its commands, and a real slapd in which things go wrong."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartSlapd
from tests.faults.server import FaultyServer, small_directory
from tests.support.bridges import Client, command, configuration, running_bridge
from tests.support.ldap_messages import Request
from tests.support.ldap_proxy import LdapProxy
from tests.support.slapd import BASE, PEOPLE, Entry, person

pytestmark = pytest.mark.slapd

EVERY_TIME = "cache: {refresh_ahead: false, ttl: 1ms}"


def people(count: int, **attributes: list[str]) -> list[Entry]:
    return [person(f"u{number:03}", **attributes) for number in range(count)]


def dn(number: int) -> str:
    return f"uid=u{number:03},{PEOPLE}"


def staff_and_guests() -> list[Entry]:
    return people(140, employeeType=["staff"]) + [person(f"v{number:03}") for number in range(60)]


async def show(file: Path) -> list[dict[str, Any]]:
    code, output = await command(file, "removals", "show", "--json")
    assert code == 0, output
    found: list[dict[str, Any]] = json.loads(output)["directories"]
    return found


def problem_codes(client: Client) -> list[str]:
    return [problem.code for problem in client.service.bridge.health().endpoints[0].problems]


async def test_wrong_filter_loses_nobody_until_the_operator_says_so(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """200 people, a filter that matches 140: all are answered, additions come, and the right digest ends it."""
    slapd = start_slapd(staff_and_guests())
    async with running_bridge(configuration(slapd.url, tmp_path, more=EVERY_TIME)) as client:
        assert len(await client.list_users()) == 200
    file = configuration(slapd.url, tmp_path, users='users: {filter: "(employeeType=staff)"}', more=EVERY_TIME)
    async with running_bridge(file) as client:
        assert len(await client.list_users()) == 200
        slapd.add(person("zoe", employeeType=["staff"]))
        names = [user["userName"] for user in await client.list_users()]
        assert (len(names), names[-1]) == (201, "zoe")
        assert problem_codes(client) == ["removals_withheld"]
        assert '"level": "error"' in client.log.getvalue() or '"level":"error"' in client.log.getvalue()
        (found,) = await show(file)
        assert (found["directory"], len(found["withheld"])) == ("company", 60)
        assert {removal["reason"] for removal in found["withheld"]} == {"filter"}
        assert "(employeeType=staff)" in found["withheld"][0]["detail"]
        code, output = await command(file, "removals", "approve", "0123456789abcdef")
        assert (code, len(await client.list_users())) == (1, 201), output
        slapd.replace([f"uid=v000,{PEOPLE}"], "employeeType", "staff")
        assert len(await client.list_users()) == 201
        code, output = await command(file, "removals", "approve", found["digest"])
        assert code == 1, output
        assert "removals show" in output
        assert len(await client.list_users()) == 201
        (found,) = await show(file)
        code, output = await command(file, "removals", "approve", found["digest"])
        assert code == 0, output
        assert "59 removals of company are approved" in output
        assert len(await client.list_users()) == 142
        assert client.service.bridge.health().status.value == "ok"
        assert await show(file) == []
        log = client.log.getvalue()
        assert found["digest"] in log
        assert "removals.approved" in log


@pytest.mark.parametrize("hidden", ["uid", "mail", "entryUUID", "objectClass"])
@pytest.mark.parametrize("more", ["", EVERY_TIME], ids=["before the next listing", "after it"])
async def test_rights_taken_away_make_no_password_wrong(
    start_slapd: StartSlapd, tmp_path: Path, hidden: str, more: str
) -> None:
    """By the user name and by an address, before a listing has noticed it and afterwards: 502 or 503, never `false`."""
    slapd = start_slapd(people(40))
    lines = 'login_filter: "(|(uid={user})(mail={user}))"'
    async with running_bridge(configuration(slapd.url, tmp_path, directory=lines, more=more)) as client:
        assert len(await client.list_users()) == 40
        assert await client.auth("u003@example.com", "Pass-u003")
        assert not await client.auth("nobody@example.com", "Pass-u003")
        everything = "access to attrs=userPassword by anonymous auth\naccess to * by * read"
        slapd.restart_with_access(f"access to attrs={hidden} by * none\n{everything}")
        if more:
            await client.post("cmd=list")
        for name in ("u003", "u003@example.com"):
            status, answer = await client.post(f"cmd=auth&user={name}&pass=Pass-u003")
            assert (status, answer) == (200, {"succeeded": True}) or status in (502, 503), name


async def test_set_that_changes_between_approval_and_refresh_is_not_approved(
    start_slapd: StartSlapd, tmp_path: Path
) -> None:
    """The approval was for others: nothing goes, it is void, and the log says so."""
    slapd = start_slapd(people(40))
    file = configuration(slapd.url, tmp_path, more=EVERY_TIME)
    async with running_bridge(file) as client:
        await client.list_users()
        slapd.delete(*map(dn, range(20)))
        assert len(await client.list_users()) == 40
        (found,) = await show(file)
        slapd.delete(dn(20))
        code, _ = await command(file, "removals", "approve", found["digest"])
        assert code == 0
        assert len(await client.list_users()) == 40
        assert "removals.approval_expired" in client.log.getvalue()
        (later,) = await show(file)
        assert (len(later["withheld"]), later["approved"]) == (21, False)


async def test_rights_taken_away_lose_nobody(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Result 0 and no entries, for all or for half: the list stays, and health says why."""
    slapd = start_slapd(staff_and_guests())
    file = configuration(slapd.url, tmp_path, more=EVERY_TIME)
    async with running_bridge(file) as client:
        everybody = await client.list_users()
        reader = f'by dn.exact="cn=reader,{BASE}"'
        for access in (
            f'access to dn.base="{PEOPLE}" {reader} read by * none\naccess to * by anonymous auth by * none',
            f"access to filter=(employeeType=staff) by anonymous auth by * none\naccess to * {reader} read by * none",
        ):
            slapd.restart_with_access(access)
            assert await client.list_users() == everybody
            assert problem_codes(client) == ["removals_withheld"]


async def test_lost_addresses_are_kept(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Thirty who lose every address keep them; one who does is believed."""
    slapd = start_slapd(people(200))
    file = configuration(slapd.url, tmp_path, more=EVERY_TIME)
    async with running_bridge(file) as client:
        everybody = await client.list_users()
        slapd.replace(map(dn, range(30)), "mail")
        assert await client.list_users() == everybody
        (found,) = await show(file)
        assert [removal["kind"] for removal in found["withheld"]] == ["addresses"] * 30
        assert found["withheld"][0]["lost"] == [f"{found['withheld'][0]['userName']}@example.com"]
        slapd.replace(map(dn, range(30)), "mail", "back@example.com")
        slapd.replace(map(dn, range(1, 30)), "mail", "new@example.com")


async def test_one_lost_address_is_believed(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """The twin: within the limits the directory is right."""
    slapd = start_slapd(people(200))
    async with running_bridge(configuration(slapd.url, tmp_path, more=EVERY_TIME)) as client:
        await client.list_users()
        slapd.replace([dn(0)], "mail")
        assert "emailAddresses" not in (await client.list_users())[0]


def rename(*numbers: int) -> str:
    return "".join(
        f"dn: {dn(number)}\nchangetype: modrdn\nnewrdn: uid=new{number:03}\ndeleteoldrdn: 1\n\n" for number in numbers
    )


async def test_fifty_renamed_keep_their_names(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Withheld as a mass, or kept by configuration; then they log in with the old name, and others not under it."""
    slapd = start_slapd(people(200))
    file = configuration(slapd.url, tmp_path, more=EVERY_TIME)
    async with running_bridge(file) as client:
        before = [user["userName"] for user in await client.list_users()]
        slapd.modify(rename(*range(50)))
        after = await client.list_users()
        assert [user["userName"] for user in after] == before
        assert after[0]["distinguishedName"] == f"uid=new000,{PEOPLE}"
        (found,) = await show(file)
        assert {(removal["kind"], removal["reason"]) for removal in found["withheld"]} == {("renamed", "changed")}
        assert found["withheld"][0]["newName"].startswith("new")
        assert await client.auth("u000", "Pass-u000")
        assert not await client.auth("u000", "wrong")
    kept = configuration(slapd.url, tmp_path, more=EVERY_TIME + "\nremovals: {keep_user_names: true}")
    async with running_bridge(kept) as client:
        assert [user["userName"] for user in await client.list_users()] == before
        assert problem_codes(client) == []
        slapd.add(person("u000", userPassword=["Pass-newcomer"]))
        assert len(await client.list_users()) == 200
        assert not await client.auth("u000", "Pass-newcomer")
        assert await client.auth("u000", "Pass-u000")


async def test_one_rename_goes_through_and_is_told(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """The twin: the report counts it."""
    slapd = start_slapd(people(30))
    async with running_bridge(configuration(slapd.url, tmp_path, more=EVERY_TIME)) as client:
        await client.list_users()
        slapd.modify(rename(7))
        assert "new007" in {user["userName"] for user in await client.list_users()}
        (report, *_) = await client.service.bridge.reports("company")
        assert (report.renamed_count, report.removed_count, report.added_count) == (1, 0, 0)


async def test_each_removal_carries_its_reason(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Deleted, moved out of the base, disabled, out of the group, no longer matching, without a user name."""
    elsewhere: Entry = (f"ou=left,{BASE}", {"objectClass": ["organizationalUnit"], "ou": ["left"]})
    slapd = start_slapd(
        [elsewhere, *people(20, employeeType=["staff"])],
        overlays="moduleload ppolicy\nmoduleload memberof",
        extra="overlay ppolicy\noverlay memberof",
    )
    members = "".join(f"member: {dn(number)}\n" for number in range(20))
    group = f"cn=archived,{BASE}"
    slapd.modify(f"dn: {group}\nchangetype: add\nobjectClass: groupOfNames\ncn: archived\n{members}\n")
    users = f'users: {{bases: ["{PEOPLE}"], filter: "(&(memberOf={group})(employeeType=staff))"}}'
    more = EVERY_TIME + "\nremovals: {max_count: 0, max_percent: 0}"
    file = configuration(slapd.url, tmp_path, users=users, more=more)
    async with running_bridge(file) as client:
        assert len(await client.list_users()) == 20
        slapd.delete(dn(0))
        slapd.modify(
            f"dn: {dn(1)}\nchangetype: modrdn\nnewrdn: uid=u001\ndeleteoldrdn: 1\nnewsuperior: ou=left,{BASE}\n"
        )
        slapd.replace([dn(2)], "pwdAccountLockedTime", "000001010000Z")
        slapd.modify(f"dn: {group}\nchangetype: modify\ndelete: member\nmember: {dn(3)}\n")
        slapd.replace([dn(4)], "employeeType", "guest")
        code, output = await command(file, "diff", "--json")
        assert (code, json.loads(output)["would_withhold"]) == (1, True)
        assert len(await client.list_users()) == 20
        (found,) = await show(file)
        reasons = {removal["userName"]: removal["reason"] for removal in found["withheld"]}
        assert reasons == {"u000": "deleted", "u001": "moved", "u002": "disabled", "u003": "group", "u004": "filter"}
        details = {removal["userName"]: removal["detail"] for removal in found["withheld"]}
        assert f"uid=u001,ou=left,{BASE}" in details["u001"]
        assert details["u003"].startswith(f"(memberOf={group})")
        table = (await command(file, "removals", "show"))[1]
        assert f"removals approve {found['digest']}" in table
        assert "disabled" in table


async def test_entry_that_one_listing_leaves_out_stays(tmp_path: Path) -> None:
    """A server forgets somebody in a listing, and knows them when asked: no removal, and the log says so."""
    full, short = small_directory("anna", "bert", "carl"), small_directory("anna", "carl")

    async def on_search(session: Any, _message: Any, request: Any) -> bool:
        session.store = full if "entryuuid" in str(request.filter).lower() else store
        return False

    store = full
    async with FaultyServer(full, on_search=on_search) as server:
        file = configuration(server.url, tmp_path, more=EVERY_TIME)
        async with running_bridge(file) as client:
            everybody = await client.list_users()
            store = short
            assert await client.list_users() == everybody
            assert '"inconsistent":["bert"]' in client.log.getvalue()
            assert client.service.bridge.health().status.value == "ok"
            full = short
            assert [user["userName"] for user in await client.list_users()] == ["anna", "carl"]


async def test_lost_session_confirms_no_removal(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Somebody moves while a listing runs, so that it lacks them; the connection that is asked shows nobody any more."""
    more = f"ou=more,{BASE}"
    name, values = person("zoe")
    folder: Entry = (more, {"objectClass": ["organizationalUnit"], "ou": ["more"]})
    slapd = start_slapd([*people(9), folder, (name.replace(PEOPLE, more), values)])
    is_moved = False

    def move(request: Request) -> None:
        nonlocal is_moved
        if request.kind == "search" and request.base.casefold() == more and not is_moved:
            is_moved = True
            change = f"changetype: modrdn\nnewrdn: uid=zoe\ndeleteoldrdn: 0\nnewsuperior: {PEOPLE}\n"
            slapd.modify(f"dn: uid=zoe,{more}\n{change}")

    async with LdapProxy(("127.0.0.1", slapd.port)) as proxy:
        users = f'users: {{bases: ["{PEOPLE}", "{more}"]}}'
        async with running_bridge(configuration(proxy.url, tmp_path, users=users, more=EVERY_TIME)) as client:
            assert len(await client.list_users()) == 10
            assert await client.auth("u001", "Pass-u001")
            proxy.answer_searches(0, which="existing")
            proxy.on_request = move
            assert "zoe" in [user["userName"] for user in await client.list_users()]
            assert is_moved
            assert '"inconsistent":["zoe"]' in client.log.getvalue()
            slapd.delete(f"uid=zoe,{PEOPLE}")
            proxy.answer_searches(0, which="existing")
            assert len(await client.list_users()) == 9


async def test_refuse_answers_503_until_it_is_approved(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """`on_trip: refuse` is for those who want an error rather than yesterday's users."""
    slapd = start_slapd(people(40))
    file = configuration(slapd.url, tmp_path, more=EVERY_TIME + "\nremovals: {on_trip: refuse}")
    async with running_bridge(file) as client:
        await client.list_users()
        slapd.delete(*map(dn, range(20)))
        for _ in range(2):
            status, answer = await client.post("cmd=list")
            assert (status, answer["error"]) == (503, "removals_refused")
            assert "removals approve" in answer["message"]
        assert await client.auth("u030", "Pass-u030")
        (found,) = await show(file)
        assert (await command(file, "removals", "approve", found["digest"]))[0] == 0
        assert len(await client.list_users()) == 20


async def test_last_accepted_listing_is_answered_after_a_restart_with_every_server_down(
    start_slapd: StartSlapd, tmp_path: Path
) -> None:
    """Within stale_if_error, marked degraded; beyond it, and without one, 503."""
    slapd = start_slapd(people(30))
    file = configuration(slapd.url, tmp_path, more=EVERY_TIME)
    async with running_bridge(file) as client:
        before = await client.list_users()
    slapd.stop()
    async with running_bridge(file) as client:
        assert await client.list_users() == before
        assert client.service.bridge.health().status.value == "degraded"
        assert problem_codes(client) == ["directory_unavailable"]
    old = configuration(slapd.url, tmp_path, more="cache: {refresh_ahead: false, ttl: 1ms, stale_if_error: 1ms}")
    async with running_bridge(old) as client:
        status, answer = await client.post("cmd=list")
        assert (status, answer["error"]) == (503, "directory_unavailable")


async def test_commands_speak_to_the_running_service(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Status, refresh and diff, as tables and as JSON, with exit codes; without a service, 69 and what to do."""
    slapd = start_slapd(people(30))
    file = configuration(slapd.url, tmp_path)
    async with running_bridge(file) as client:
        await client.list_users()
        socket = tmp_path / "state" / "control.sock"
        assert oct(socket.stat().st_mode & 0o777) == "0o600"
        slapd.delete(dn(0))
        slapd.replace([dn(1)], "displayName", "Somebody")
        code, output = await command(file, "diff", "--json")
        found = json.loads(output)
        (directory,) = found["directories"]
        assert (code, found["would_withhold"]) == (0, False)
        assert [(each["userName"], each["reason"]) for each in directory["removed"]] == [("u000", "deleted")]
        assert directory["changed"][0]["after"]["fullName"] == "Somebody"
        code, output = await command(file, "diff")
        assert "- u000 (deleted" in output
        assert "fullName: Name of u001 → Somebody" in output
        assert len(await client.list_users()) == 30
        code, output = await command(file, "refresh", "--directory", "company")
        assert (code, "29 users of 29 entries" in output, "1 removed" in output) == (0, True, True), output
        assert len(await client.list_users()) == 29
        code, output = await command(file, "status", "--json")
        status = json.loads(output)
        assert (code, status["status"]) == (0, "ok")
        assert [report["user_count"] for report in status["directories"][0]["reports"]] == [29, 30]
        code, output = await command(file, "status")
        assert "endpoint\t/mailstore\tok\n" in output
        code, output = await command(file, "refresh", "--directory", "nowhere")
        assert (code, "There is no such directory: nowhere. Known: company." in output) == (2, True)
    code, output = await command(file, "status", "--json")
    assert (code, "No service listens" in output) == (69, True)


async def test_removals_are_approved_and_reset_without_a_service(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """The word of the operator stays on disk, and the next start carries it out."""
    slapd = start_slapd(people(40))
    file = configuration(slapd.url, tmp_path, more=EVERY_TIME)
    async with running_bridge(file) as client:
        await client.list_users()
        slapd.delete(*map(dn, range(20)))
        assert len(await client.list_users()) == 40
    (found,) = await show(file)
    code, output = await command(file, "removals", "approve", found["digest"])
    assert (code, "removals.approved" in output) == (0, True), output
    assert (await show(file))[0]["approved"] is True
    async with running_bridge(file) as client:
        assert len(await client.list_users()) == 20
        slapd.delete(*map(dn, range(20, 39)))
        assert len(await client.list_users()) == 20
    assert (await command(file, "removals", "reset", "--yes"))[0] == 0
    async with running_bridge(file) as client:
        assert len(await client.list_users()) == 1


async def test_list_shows_what_mailstore_gets_while_removals_are_withheld(
    start_slapd: StartSlapd, tmp_path: Path
) -> None:
    """`list` starts from what the service has accepted, beside it, and changes nothing."""
    slapd = start_slapd(people(40))
    file = configuration(slapd.url, tmp_path, more=EVERY_TIME)
    async with running_bridge(file) as client:
        await client.list_users()
        slapd.delete(*map(dn, range(20)))
        code, output = await command(file, "list", "--format", "json")
        assert (code, len(json.loads(output))) == (0, 40)
        assert await show(file) == []
        assert json.loads(output) == await client.list_users()


async def test_directory_that_was_renamed_in_the_configuration_is_told(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Its listing is kept, and `check` and the log say that nobody uses it."""
    slapd = start_slapd(people(3))
    file = configuration(slapd.url, tmp_path)
    async with running_bridge(file) as client:
        await client.list_users()
    file.write_text(file.read_text().replace("name: company", "name: firm"))
    async with running_bridge(file) as client:
        await client.list_users()
        for _ in range(100):
            if "state.unknown_directory" in client.log.getvalue():
                break
            await asyncio.sleep(0.02)
        assert '"directory":"company"' in client.log.getvalue()
        code, output = await command(file, "check", "--json")
        found = {check["name"]: check for check in json.loads(output)["checks"]}
        assert (found["state"]["result"], found["state"]["directory"]) == ("warning", "company")
        assert code == 0
        assert (await command(file, "removals", "reset", "--yes", "--directory", "company"))[0] == 0
        output = (await command(file, "check", "--json"))[1]
        assert "state" not in {check["name"] for check in json.loads(output)["checks"]}


async def test_second_service_on_one_state_directory_is_refused(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Two would overwrite each other's listings: the second one ends with 78 and says why."""
    file = configuration(start_slapd(people(3)).url, tmp_path)
    async with running_bridge(file) as client:
        await client.list_users()
        code, output = await command(file, "serve")
        assert code == 78
        assert "in use by another service" in output
        assert len(await client.list_users()) == 3


@pytest.mark.skipif(os.geteuid() != 0 and "CI" not in os.environ, reason="mounting needs root")
async def test_full_and_read_only_disk_lose_nobody(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """What can't be kept is not answered: the last accepted listing is, with the reason in health; then all is well."""
    slapd = start_slapd(people(150))
    state = tmp_path / "state"
    state.mkdir()
    await run("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(state))
    try:
        file = configuration(slapd.url, tmp_path, more=EVERY_TIME)
        async with running_bridge(file) as client:
            before = await client.list_users()
            slapd.add(*(person(f"x{number:04}", displayName=["x" * 400]) for number in range(600)))
            assert await client.list_users() == before
            assert problem_codes(client) == ["state_unavailable"]
            await run("mount", "-o", "remount,size=8m", str(state))
            assert len(await client.list_users()) == 750
        await run("mount", "-o", "remount,ro", str(state))
        slapd.add(person("zoe"))
        async with running_bridge(file) as client:
            assert len(await client.list_users()) == 750
            assert problem_codes(client) == ["state_unavailable"]
            assert await client.auth("zoe", "Pass-zoe")
            await run("mount", "-o", "remount,rw", str(state))
            assert len(await client.list_users()) == 751
    finally:
        await run("umount", str(state))


async def run(*arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(*arguments)
    assert await process.wait() == 0, arguments


async def test_damaged_state_is_503_until_the_operator_resets_it(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Nobody takes it for a first start: listings are refused, logins go on, and the old file is kept."""
    slapd = start_slapd(people(30))
    file = configuration(slapd.url, tmp_path, more=EVERY_TIME)
    async with running_bridge(file) as client:
        await client.list_users()
    database = tmp_path / "state" / "state.sqlite3"
    database.write_bytes(b"\0" * 100 + database.read_bytes()[100:])
    slapd.delete(*map(dn, range(20)))
    for _ in range(2):
        async with running_bridge(file) as client:
            status, answer = await client.post("cmd=list")
            assert (status, answer["error"]) == (503, "state_lost")
            assert "removals reset" in answer["message"]
            assert await client.auth("u029", "Pass-u029")
            assert "state_lost" in problem_codes(client)
    async with running_bridge(file) as client:
        assert (await command(file, "removals", "reset", "--yes"))[0] == 0
        assert len(await client.list_users()) == 10
    assert list((tmp_path / "state").glob("state.sqlite3.damaged-*"))
