"""Logins through directories that count their binds."""

from __future__ import annotations

import asyncio

import pytest

from bridge.demo import wire
from bridge.demo.server import Session
from bridge.errors import BridgeError, DirectoryRefused, DirectoryUnavailable, OutcomeUnknown
from bridge.events import UserAuthenticated
from bridge.ldap import messages
from bridge.mapping import AddressRules, AttributeMap, parse_item
from bridge.model import Accepted, Rejected, Rejection, Secret
from bridge.syntax import ber
from bridge.syntax.filters import parse_filter_template
from tests.faults.server import FaultyServer, OnBind, small_directory
from tests.support.logins import (
    AD,
    EXPIRED_389,
    INACTIVATED,
    MUST_CHANGE_389,
    STATES,
    answers,
    control,
    policy,
    setting,
)
from tests.support.slapd import PEOPLE, READER, READER_PASSWORD


@pytest.mark.parametrize(
    ("user", "password", "expected", "bind"),
    [
        ("anna", "Pass-anna", "a", f"uid=anna,{PEOPLE}"),
        ("ANNA", "Pass-anna", "a", f"uid=anna,{PEOPLE}"),
        ("anna", "wrong", Rejection.WRONG_PASSWORD, f"uid=anna,{PEOPLE}"),
        ("anna", "pass-anna", Rejection.WRONG_PASSWORD, f"uid=anna,{PEOPLE}"),
        ("anna", b"\xff", Rejection.WRONG_PASSWORD, f"uid=anna,{PEOPLE}"),
        ("nobody", "Pass-anna", Rejection.UNKNOWN_USER, f"cn=token,{PEOPLE}"),
        ("", "Pass-anna", Rejection.UNKNOWN_USER, f"cn=token,{PEOPLE}"),
        ("*", "Pass-anna", Rejection.UNKNOWN_USER, f"cn=token,{PEOPLE}"),
        ("a*", "Pass-anna", Rejection.UNKNOWN_USER, f"cn=token,{PEOPLE}"),
        ("anna)(uid=*", "Pass-anna", Rejection.UNKNOWN_USER, f"cn=token,{PEOPLE}"),
        ("reader", READER_PASSWORD, Rejection.UNKNOWN_USER, f"cn=token,{PEOPLE}"),
    ],
)
async def test_each_login_is_exactly_one_bind(
    user: str, password: str | bytes, expected: Rejection | str, bind: str
) -> None:
    """Right, wrong, unknown, hostile: one bind each, of the entry or of nobody."""
    async with FaultyServer(small_directory("anna", "bert")) as server, setting([server]) as found:
        assert await found.auth(user, password) == expected
        assert server.user_binds() == [bind]
        (event,) = found.events
        assert isinstance(event, UserAuthenticated)
        assert isinstance(event.verdict, Accepted) is (expected == "a")


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("anna\0", "Pass-anna"),
        ("an\0na", "Pass-anna"),
        ("\0anna", "Pass-anna"),
        ("anna\n", "Pass-anna"),
        ("\tanna", "Pass-anna"),
        ("anna\r", "Pass-anna"),
        ("anna\x7f", "Pass-anna"),
        ("anna\udcff", "Pass-anna"),
        ("anna", "Pass-anna\0"),
        ("anna", "Pass-anna\0more"),
        ("anna", "\0"),
        ("nobody", "\0Pass-anna"),
    ],
)
async def test_what_servers_cut_or_trim_is_refused_before_any_traffic(user: str, password: str) -> None:
    """Samba and 389 DS take what stands before NUL for the whole; 389 DS trims tabs and line ends in names."""
    async with FaultyServer(small_directory("anna")) as server, setting([server]) as found:
        assert await found.auth(user, password) is Rejection.IMPOSSIBLE
        assert server.binds == []
        assert server.searches == []


@pytest.mark.parametrize("password", [" Pass", "Pass ", "Pa\tss", "Pa\nss", "\u00a0", "é", "\u200b", "x" * 5000])
async def test_every_other_password_goes_to_the_directory_as_it_is(password: str) -> None:
    """The twin: blanks, controls other than NUL and any length are for the directory to judge."""
    store = small_directory()
    store.add(f"uid=eva,{PEOPLE}", {"objectClass": ["inetOrgPerson"], "uid": ["eva"], "userPassword": [password]})
    async with FaultyServer(store) as server, setting([server]) as found:
        assert await found.auth("eva", password) == "a"


async def test_empty_password_is_refused_before_any_traffic() -> None:
    """A simple bind without a password would succeed as anonymous (RFC 4513 §5.1.2)."""
    async with FaultyServer(small_directory("anna")) as server, setting([server]) as found:
        assert await found.auth("anna", "") is Rejection.EMPTY_PASSWORD
        assert server.binds == []
        with pytest.raises(ValueError, match="anonymously"):
            await found.bridge.directories["a"].source.directory.bind("uid=anna", Secret(b""))


@pytest.mark.parametrize(
    ("on_bind", "expected"),
    [
        (answers(0), "a"),
        (answers(0, controls=policy(grace=2)), "a"),
        (answers(0, controls=policy(grace=2, error=0)), "a"),
        (answers(0, controls=policy(expires=99)), "a"),
        (answers(0, controls=control(messages.PASSWORD_EXPIRING, b"99")), "a"),
        (answers(0, controls=control(messages.PASSWORD_POLICY, b"\xff")), "a"),
        (answers(0, controls=policy(error=2)), Rejection.MUST_CHANGE_PASSWORD),
        (answers(0, controls=control(messages.PASSWORD_EXPIRED, b"0")), Rejection.MUST_CHANGE_PASSWORD),
        (answers(49), Rejection.WRONG_PASSWORD),
        (answers(49, controls=policy(error=1)), Rejection.ACCOUNT_LOCKED),
        (answers(49, controls=policy(error=0)), Rejection.PASSWORD_EXPIRED),
        (answers(49, controls=policy(error=7)), OutcomeUnknown),
        (answers(49, controls=control(messages.PASSWORD_EXPIRED, b"0")), Rejection.PASSWORD_EXPIRED),
        (answers(49, AD.format("52e")), Rejection.WRONG_PASSWORD),
        (answers(49, AD.format("525")), Rejection.ENTRY_GONE),
        (answers(49, AD.format("530")), Rejection.NOT_AT_THIS_TIME),
        (answers(49, AD.format("531")), Rejection.NOT_FROM_THIS_PLACE),
        (answers(49, AD.format("532")), Rejection.PASSWORD_EXPIRED),
        (answers(49, AD.format("533")), Rejection.ACCOUNT_DISABLED),
        (answers(49, AD.format("701")), Rejection.ACCOUNT_EXPIRED),
        (answers(49, AD.format("773")), Rejection.MUST_CHANGE_PASSWORD),
        (answers(49, AD.format("775")), Rejection.ACCOUNT_LOCKED),
        (answers(49, AD.format("999")), OutcomeUnknown),
        (answers(49, AD.format("52f")), Rejection.LOGON_NOT_GRANTED),
        (answers(49, AD.format("568")), Rejection.TOO_MANY_GROUPS),
        (answers(49, AD.format("569")), Rejection.LOGON_NOT_GRANTED),
        (answers(49, AD.format("0")), OutcomeUnknown),
        (answers(49, AD.format("52E").upper()), Rejection.WRONG_PASSWORD),
        (answers(53, AD.format("775")), Rejection.ACCOUNT_LOCKED),
        (answers(49, "Simple Bind Failed: NT_STATUS_NO_SUCH_USER"), Rejection.ENTRY_GONE),
        (answers(49, "Simple Bind Failed: NT_STATUS_WRONG_PASSWORD"), Rejection.WRONG_PASSWORD),
        (answers(49, "Simple Bind Failed: NT_STATUS_LOGON_FAILURE"), Rejection.WRONG_PASSWORD),
        (answers(49, "Simple Bind Failed: NT_STATUS_ACCOUNT_RESTRICTION"), Rejection.LOGON_NOT_GRANTED),
        (answers(49, "Simple Bind Failed: NT_STATUS_INVALID_LOGON_HOURS"), Rejection.NOT_AT_THIS_TIME),
        (answers(49, "Simple Bind Failed: NT_STATUS_INVALID_WORKSTATION"), Rejection.NOT_FROM_THIS_PLACE),
        (answers(49, "Simple Bind Failed: NT_STATUS_PASSWORD_EXPIRED"), Rejection.PASSWORD_EXPIRED),
        (answers(49, "Simple Bind Failed: NT_STATUS_ACCOUNT_DISABLED"), Rejection.ACCOUNT_DISABLED),
        (answers(49, "Simple Bind Failed: NT_STATUS_TOO_MANY_CONTEXT_IDS"), Rejection.TOO_MANY_GROUPS),
        (answers(49, "Simple Bind Failed: NT_STATUS_LOGON_TYPE_NOT_GRANTED"), Rejection.LOGON_NOT_GRANTED),
        (answers(49, "Simple Bind Failed: NT_STATUS_ACCOUNT_EXPIRED"), Rejection.ACCOUNT_EXPIRED),
        (answers(49, "Simple Bind Failed: NT_STATUS_PASSWORD_MUST_CHANGE"), Rejection.MUST_CHANGE_PASSWORD),
        (answers(49, "Simple Bind Failed: NT_STATUS_ACCOUNT_LOCKED_OUT"), Rejection.ACCOUNT_LOCKED),
        (answers(49, "Simple Bind Failed: NT_STATUS_OK"), OutcomeUnknown),
        (answers(49, "password expired!", controls=EXPIRED_389), Rejection.PASSWORD_EXPIRED),
        (answers(0, controls=MUST_CHANGE_389), Rejection.MUST_CHANGE_PASSWORD),
        (answers(19), Rejection.ACCOUNT_LOCKED),
        (answers(19, "Exceed password retry limit. Please try later."), Rejection.ACCOUNT_LOCKED),
        (answers(53), DirectoryRefused),
        (answers(53, INACTIVATED, controls=policy(error=1)), Rejection.ACCOUNT_DISABLED),
        (answers(53, "Entry permanently locked."), Rejection.ACCOUNT_LOCKED),
        (answers(48), Rejection.NO_PASSWORD),
        (answers(32), Rejection.ENTRY_GONE),
        (answers(34), Rejection.ENTRY_GONE),
        (answers(8), DirectoryRefused),
        (answers(13), DirectoryRefused),
        (answers(50), DirectoryRefused),
        (answers(10, tail=ber.write_element(0xA3, ber.write_octets(b"ldap://o/"))), DirectoryUnavailable),
        (answers(51), DirectoryUnavailable),
        (answers(52), DirectoryUnavailable),
        (answers(80), OutcomeUnknown),
        (answers(1), OutcomeUnknown),
        (answers(4242), OutcomeUnknown),
    ],
)
async def test_user_bind_means_what_the_table_says(
    on_bind: OnBind, expected: Rejection | str | type[BridgeError]
) -> None:
    """Each result and each control has its verdict; what decides nothing is an error, never a wrong password."""
    async with FaultyServer(small_directory("anna"), on_bind=on_bind) as server, setting([server]) as found:
        if isinstance(expected, type):
            with pytest.raises(expected):
                await found.auth("anna", "Pass-anna")
        else:
            assert await found.auth("anna", "Pass-anna") == expected
        assert len(server.user_binds()) == 1


async def test_referral_of_a_bind_names_the_server_to_be_configured() -> None:
    """It is not followed: the password would go to a server that nobody chose."""
    tail = ber.write_element(0xA3, ber.write_octets(b"ldap://other.example.com/"))
    on_bind = answers(10, tail=tail)
    async with FaultyServer(small_directory("anna"), on_bind=on_bind) as server, setting([server]) as found:
        with pytest.raises(DirectoryUnavailable, match="ldap://other"):
            await found.auth("anna", "Pass-anna")


async def test_connection_lost_after_the_password_is_unavailable_and_never_repeated() -> None:
    """The outcome is unknown; a second try would be a second attempt in the directory's eyes."""

    async def on_bind(session: Session, _message: wire.Message, request: wire.ReceivedBind) -> bool:
        if request.dn == READER:
            return False
        session._writer.transport.abort()
        return True

    async with FaultyServer(small_directory("anna"), on_bind=on_bind) as server, setting([server]) as found:
        with pytest.raises(DirectoryUnavailable):
            await found.auth("anna", "Pass-anna")
        assert len(server.user_binds()) == 1


async def test_bind_that_hangs_is_unavailable_and_its_connection_is_not_used_again() -> None:
    """An answer that comes late must not be taken for the next user's."""
    release = asyncio.Event()

    async def on_bind(_session: Session, _message: wire.Message, request: wire.ReceivedBind) -> bool:
        if request.dn != READER and not release.is_set():
            await release.wait()
        return False

    async with FaultyServer(small_directory("anna", "bert"), on_bind=on_bind) as server, setting([server]) as found:
        with pytest.raises(OutcomeUnknown, match=f"127.0.0.1:{server.port}.*not answered within 2 s"):
            await found.auth("anna", "Pass-anna")
        release.set()
        assert await found.auth("bert", "Pass-anna") is Rejection.WRONG_PASSWORD
        assert await found.auth("bert", "Pass-bert") == "a"


async def test_bind_connections_are_bound_again_and_never_carry_anything_else() -> None:
    """Fifty logins at once share a few connections; each gets its own answer."""
    uids = [f"u{number}" for number in range(50)]
    async with FaultyServer(small_directory(*uids)) as server, setting([server]) as found:
        outcomes = await asyncio.gather(*(found.auth(uid, f"Pass-{uid}") for uid in uids))
        assert outcomes == ["a"] * 50
        wrong = await asyncio.gather(*(found.auth(uid, "Pass-u0") for uid in uids[1:]))
        assert wrong == [Rejection.WRONG_PASSWORD] * 49
        assert len(server.user_binds()) == 99
        assert len(server._sessions) <= 9


async def test_kept_connections_that_the_server_closed_are_noticed() -> None:
    """After a restart of the server, look-ups and binds go over new connections."""
    async with FaultyServer(small_directory("anna")) as server, setting([server]) as found:
        assert await found.auth("anna", "Pass-anna") == "a"
        for session in list(server._sessions):
            session.cancel()
        await server.until_empty()
        assert await found.auth("anna", "Pass-anna") == "a"
        assert len(server.user_binds()) == 2


async def test_ambiguous_name_is_rejected_with_one_bind_of_nobody() -> None:
    """Two entries of one name in a directory: nobody can tell who is meant; the log names both."""
    async with FaultyServer(small_directory("anna", "bert")) as server:
        template = parse_filter_template("(|(uid={user})(objectClass=inetOrgPerson))")
        async with setting([server], login_template=template) as found:
            assert await found.auth("whoever", "Pass-anna") is Rejection.AMBIGUOUS_USER
            assert server.user_binds() == [f"cn=token,{PEOPLE}"]
            event = found.events[-1]
            assert isinstance(event, UserAuthenticated)
            assert "uid=anna" in event.detail
            assert "uid=bert" in event.detail


async def test_user_who_is_not_listed_can_not_log_in_and_costs_a_bind() -> None:
    """Without an address where one is required, or disabled: bound, and rejected whatever the bind says."""
    store = small_directory("bert")
    common = {"objectClass": ["inetOrgPerson"], "cn": ["x"], "userPassword": ["right"]}
    store.add(f"uid=anna,{PEOPLE}", {**common, "uid": ["anna"]})
    locked = {"pwdAccountLockedTime": ["000001010000Z"], "mail": ["carl@example.com"]}
    store.add(f"uid=carl,{PEOPLE}", {**common, "uid": ["carl"], **locked})
    store.add(f"uid=dora,{PEOPLE}", {**common, "uid": ["dora"], **locked, "pwdAccountLockedTime": ["20260101000000Z"]})
    attribute_map = AttributeMap(
        "entryUUID",
        (parse_item("uid"),),
        email_addresses=(parse_item("mail"),),
        addresses=AddressRules(require=True),
        account_states=STATES,
    )
    async with FaultyServer(store) as server, setting([server], attribute_map=attribute_map) as found:
        assert await found.auth("anna", "right") is Rejection.NOT_LISTED
        assert await found.auth("carl", "right") is Rejection.ACCOUNT_DISABLED
        assert await found.auth("dora", "right") == "a"
        assert len(server.user_binds()) == 3


async def test_template_names_are_found_through_the_listing_and_read_live() -> None:
    """The entry's DN comes from the last listing, the rest from the directory of this moment."""
    attribute_map = AttributeMap("entryUUID", (parse_item("{uid}@{cn}"),))
    options: dict[str, object] = {"attribute_map": attribute_map, "login_template": None}
    async with FaultyServer(small_directory("anna")) as server, setting([server], **options) as found:
        assert await found.auth("Anna@anna", "Pass-anna") == "a"
        assert await found.auth("anna", "Pass-anna") is Rejection.UNKNOWN_USER
        assert len(server.user_binds()) == 2


async def test_name_belongs_to_the_first_directory_and_is_never_tried_at_another() -> None:
    """A second directory with the same name and another password lets nobody in."""
    second = small_directory("bert")
    second.add(
        f"uid=anna,ou=people,{second.base}",
        {"objectClass": ["inetOrgPerson"], "uid": ["anna"], "cn": ["x"], "userPassword": ["other"]},
    )
    async with FaultyServer(small_directory("anna")) as a, FaultyServer(second) as b, setting([a, b]) as found:
        assert await found.auth("anna", "Pass-anna") == "a"
        assert await found.auth("anna", "other") is Rejection.WRONG_PASSWORD
        assert b.user_binds() == []
        assert await found.auth("bert", "Pass-bert") == "b"
        assert len(a.user_binds()) == 2
        assert await found.auth("nobody", "x") is Rejection.UNKNOWN_USER
        assert len(a.user_binds() + b.user_binds()) == 4


async def test_outage_of_one_directory_is_never_a_wrong_password() -> None:
    """While the first is down: 503 for names that may be its own, and the second one's go on if that is known."""
    async with FaultyServer(small_directory("bert", "carl")) as b:
        async with FaultyServer(small_directory("anna")) as a, setting([a, b]) as found:
            await found.bridge.list_users("/m", compressed=False)
            await a.__aexit__()
            for user, password in (("anna", "Pass-anna"), ("nobody", "x")):
                with pytest.raises(DirectoryUnavailable):
                    await found.auth(user, password)
            assert await found.auth("bert", "Pass-bert") == "b"
            assert await found.auth("bert", "wrong") is Rejection.WRONG_PASSWORD
        async with setting([a, b]) as found:  # nothing is known of the first one
            with pytest.raises(DirectoryUnavailable):
                await found.auth("bert", "Pass-bert")
        async with setting([b, a]) as found:  # the one that is down comes second
            assert await found.auth("bert", "Pass-bert") == "a"


@pytest.mark.parametrize("is_slow_first", [True, False])
async def test_slow_directory_delays_no_logins_of_another(is_slow_first: bool) -> None:
    """Its look-ups hang: who is listed elsewhere logs in at once; who may be its own gets no `false`."""
    is_hanging = asyncio.Event()

    async def on_search(_session: Session, _message: wire.Message, _request: wire.ReceivedSearch) -> bool:
        if is_hanging.is_set():
            await asyncio.Event().wait()
        return False

    async with FaultyServer(small_directory("anna"), on_search=on_search) as slow:
        async with FaultyServer(small_directory("bert", "carl")) as quick:
            async with setting([slow, quick] if is_slow_first else [quick, slow]) as found:
                await found.bridge.list_users("/m", compressed=False)
                is_hanging.set()
                async with asyncio.timeout(1):
                    for _ in range(3):
                        assert await found.auth("bert", "Pass-bert") == ("b" if is_slow_first else "a")
                refused = asyncio.create_task(found.auth("bert", "wrong"))
                unknown = asyncio.create_task(found.auth("nobody", "wrong"))
                its_own = asyncio.create_task(found.auth("anna", "Pass-anna"))
                done, _ = await asyncio.wait((refused, unknown, its_own), timeout=0.5)
                assert not done, "a refusal takes as long as one of somebody who may be anywhere"
                assert await refused is Rejection.WRONG_PASSWORD
                for task in (unknown, its_own):
                    with pytest.raises(DirectoryUnavailable):
                        await task


async def test_login_that_is_given_up_gives_up_its_look_ups() -> None:
    """Nothing is left running for a caller who has gone."""
    arrived = asyncio.Semaphore(0)

    async def on_search(_session: Session, _message: wire.Message, _request: wire.ReceivedSearch) -> bool:
        arrived.release()
        await asyncio.Event().wait()
        return True

    async with FaultyServer(small_directory("anna"), on_search=on_search) as a:
        async with FaultyServer(small_directory("bert"), on_search=on_search) as b, setting([a, b]) as found:
            login = asyncio.create_task(found.auth("anna", "Pass-anna"))
            for _ in range(2):
                await asyncio.wait_for(arrived.acquire(), 5)
            running = asyncio.all_tasks()
            login.cancel()
            with pytest.raises(asyncio.CancelledError):
                await login
            left = [task for task in running & asyncio.all_tasks() if "find_user" in repr(task.get_coro())]
            await asyncio.wait_for(asyncio.gather(*left, return_exceptions=True), 1)


async def test_refused_service_account_is_not_bound_again_and_again() -> None:
    """The directory would lock it; logins fail with the remedy meanwhile."""
    store = small_directory("anna")
    async with FaultyServer(store, on_bind=_refuse_all) as server, setting([server]) as found:
        for _ in range(5):
            with pytest.raises(DirectoryRefused):
                await found.auth("anna", "Pass-anna")
        assert server.binds == [READER]


async def _refuse_all(session: Session, message: wire.Message, _request: wire.ReceivedBind) -> bool:
    session._writer.write(wire.write_result(message.id, wire.BIND_RESPONSE, 49))
    return True


async def test_verdicts_tell_directory_and_id() -> None:
    """The log and what builds on it know who it was, whatever the spelling."""
    async with FaultyServer(small_directory("anna")) as server, setting([server]) as found:
        first = await found.bridge.authenticate("/m", "anna", Secret(b"Pass-anna"))
        second = await found.bridge.authenticate("/m", "ANNA", Secret(b"wrong"))
        assert isinstance(first, Accepted)
        assert isinstance(second, Rejected)
        assert (first.directory, first.user_id) == (second.directory, second.user_id)
        assert len(first.user_id) == 36
