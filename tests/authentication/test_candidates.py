"""Whom a name means, where servers show less than a listing has shown, or something else."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from bridge.demo import wire
from bridge.demo.server import Session
from bridge.errors import BridgeError, DirectoryUnavailable, SearchIncomplete, SearchInvalid
from bridge.events import UserAuthenticated
from bridge.mapping import AttributeMap, parse_item
from bridge.model import Rejection
from bridge.sources.directory.groups import GroupRules, GroupWay
from bridge.syntax.filters import parse_filter, parse_filter_template
from tests.faults.server import FaultyServer, small_directory
from tests.support.logins import Setting, setting
from tests.support.slapd import PEOPLE

NAMES = ("anna", "bert", "carl", "dora", "emil")
BY_MAIL_TOO = parse_filter_template("(|(uid={user})(mail={user}))")


def remove(server: FaultyServer, *names: str) -> None:
    """Take people out of a server; ids are made of DNs, so that servers with the same people are replicas."""
    store = server.store
    for name in names:
        entry = store.find(f"uid={name},{PEOPLE}")
        assert entry is not None
        store._entries.remove(entry)
        del store._by_path[entry.path]
        for entries in store._index.values():
            if entry in entries:
                entries.remove(entry)


def change(server: FaultyServer, user: str, attribute: str, *values: str) -> None:
    entry = server.store.find(f"uid={user},{PEOPLE}")
    assert entry is not None
    entry.attributes[attribute.lower()] = [value.encode() for value in values]  # type: ignore[index]
    entry.names[attribute.lower()] = attribute  # type: ignore[index]


async def test_listed_user_whom_the_first_server_does_not_show_is_found_at_the_next_one() -> None:
    """Made anew and empty, or cut off from its replication: look-up and bind go to the server that shows the user."""
    async with FaultyServer(small_directory(*NAMES)) as first, FaultyServer(small_directory(*NAMES)) as second:
        async with setting([[first, second]]) as found:
            await found.bridge.list_users("/m", compressed=False)
            remove(first, "anna")
            assert await found.auth("anna", "Pass-anna") == "a"
            assert first.user_binds() == []
            assert await found.auth("anna", "wrong") is Rejection.WRONG_PASSWORD
            assert second.user_binds() == [f"uid=anna,{PEOPLE}"] * 2
            assert await found.auth("bert", "Pass-bert") == "a"
            assert first.user_binds() == [f"uid=bert,{PEOPLE}"]


async def test_listed_user_who_has_another_id_at_the_first_server_is_found_at_the_next_one() -> None:
    """A server that is no replica has somebody else of that name."""
    async with FaultyServer(small_directory(*NAMES)) as stranger, FaultyServer(small_directory(*NAMES)) as right:
        for name in NAMES:
            change(stranger, name, "entryUUID", f"another-{name}")
        async with setting([[right, stranger]]) as found:
            await found.bridge.list_users("/m", compressed=False)
            port = found.bridge.directories["a"].source.directory
            port.set_aside(port.servers[0], DirectoryUnavailable("x", directory="a"))
            assert await found.auth("anna", "Pass-anna") == "a"
            assert stranger.user_binds() == []


@pytest.mark.parametrize("is_empty", [False, True])
async def test_listed_user_whom_the_server_that_has_shown_them_cannot_be_asked_for_is_an_error(is_empty: bool) -> None:
    """The second server lags: a listing would wait for the first one, and so does a login. The twin: the first is well."""
    async with FaultyServer(small_directory(*NAMES)) as first, FaultyServer(small_directory(*NAMES)) as second:
        async with setting([[first, second]]) as found:
            remove(second, "anna")
            await found.bridge.list_users("/m", compressed=False)
            port = found.bridge.directories["a"].source.directory
            port.set_aside(port.servers[0], DirectoryUnavailable("x", directory="a"))
            assert await found.auth("anna", "Pass-anna") == "a"
            if is_empty:
                remove(first, *NAMES)
            else:
                await first.__aexit__()
            assert not found.bridge.directories["a"].is_doubted
            with pytest.raises(DirectoryUnavailable, match="can't be asked"):
                await found.auth("anna", "Pass-anna")
            assert await found.auth("bert", "Pass-bert") == "a"
            assert await found.auth("nobody", "x") is Rejection.UNKNOWN_USER


async def test_user_who_is_gone_at_every_server_is_unknown_and_the_log_says_why() -> None:
    """The twin: where the directory shows the others, an absence is believed."""
    async with FaultyServer(small_directory(*NAMES)) as first, FaultyServer(small_directory(*NAMES)) as second:
        async with setting([[first, second]]) as found:
            await found.bridge.list_users("/m", compressed=False)
            remove(first, "anna")
            remove(second, "anna")
            assert await found.auth("anna", "Pass-anna") is Rejection.UNKNOWN_USER
            assert len(first.user_binds()) == 1


@pytest.mark.parametrize("doubt", ["nobody is shown", "refresh failed", "many are missing"])
async def test_absence_that_a_listing_would_not_believe_is_an_error(doubt: str) -> None:
    """Rights were taken from the service account, or the branch is empty: that is no wrong password."""
    people = [f"user{number:02}" for number in range(20)]
    async with FaultyServer(small_directory(*people)) as server, setting([server]) as found:
        await found.bridge.list_users("/m", compressed=False)
        remove(server, "user00")
        assert await found.auth("user00", "Pass-user00") is Rejection.UNKNOWN_USER, "one of twenty is believed"
        bind_count = len(server.user_binds())
        if doubt == "refresh failed":
            found.bridge.directories["a"].failure = BridgeError("x")
        elif doubt == "many are missing":
            remove(server, *(name for name in people[1:] if name not in ("user04", "user09", "user14")))
            found.clock.advance(1000.0)
            await found.bridge.refresh("a")
            assert await found.auth("user04", "Pass-user04") == "a"
            bind_count += 1
        else:
            remove(server, *people[1:])
        with pytest.raises(DirectoryUnavailable, match="listed is not found"):
            await found.auth("user00", "Pass-user00")
        assert len(server.user_binds()) == bind_count


@pytest.mark.parametrize("is_listed_anew", [False, True], ids=["before the next listing", "after it"])
async def test_entry_that_makes_no_user_is_an_error_where_none_does_any_more(*, is_listed_anew: bool) -> None:
    """The service account may not read the attribute of which userName is made: nobody's password is wrong for that."""
    named_by_cn = AttributeMap("entryUUID", (parse_item("cn"),), (), (parse_item("mail"),))
    people = [f"user{number:02}" for number in range(20)]  # more than removals.max_count
    async with FaultyServer(small_directory(*people)) as server:
        async with setting([server], attribute_map=named_by_cn) as found:
            await found.bridge.list_users("/m", compressed=False)
            change(server, "user01", "cn")
            assert await found.auth("user01", "Pass-user01") is Rejection.NOT_LISTED
            for user in people:
                change(server, user, "cn")
            if is_listed_anew:
                found.clock.advance(1000.0)
                await found.bridge.refresh("a")
                assert found.bridge.directories["a"].is_doubted
            with pytest.raises(DirectoryUnavailable, match="listed is not found"):
                await found.auth("user02", "Pass-user02")


@pytest.mark.parametrize("template", ["(mail={user})", "(|(uid={user})(mail={user}))", "(sn={user})"])
async def test_absence_of_an_address_is_an_error_at_a_server_that_shows_nobody(template: str) -> None:
    """The listing knows users by their userName, so that it can't tell whose address it is: it tells of the others."""
    found_by = parse_filter_template(template)
    async with FaultyServer(small_directory(*NAMES)) as server, setting([server], login_template=found_by) as found:
        await found.bridge.list_users("/m", compressed=False)
        assert await found.auth("nobody@example.com", "x") is Rejection.UNKNOWN_USER
        remove(server, "emil")
        assert await found.auth("emil", "x") is Rejection.UNKNOWN_USER
        remove(server, *NAMES[:-1])
        with pytest.raises(DirectoryUnavailable, match="nobody of that name"):
            await found.auth("anna@example.com", "Pass-anna")


async def test_address_is_looked_for_on_a_new_connection_and_at_the_next_server() -> None:
    """A kept connection that is bound no more shows nobody, and says success; so does a server made anew."""
    async with FaultyServer(small_directory(*NAMES)) as first, FaultyServer(small_directory(*NAMES)) as second:
        async with setting([[first, second]], login_template=BY_MAIL_TOO) as found:
            await found.bridge.list_users("/m", compressed=False)
            assert await found.auth("anna@example.com", "Pass-anna") == "a"
            lost: set[Session] = set()

            async def on_search(session: Session, message: wire.Message, request: wire.ReceivedSearch) -> bool:
                if not lost:
                    lost.add(session)
                if session not in lost:
                    return False
                session._writer.write(wire.write_result(message.id, wire.SEARCH_DONE, 0))
                return True

            first.on_search = on_search
            assert await found.auth("bert@example.com", "Pass-bert") == "a"
            assert second.user_binds() == []
            first.on_search = None
            remove(first, *NAMES)
            assert await found.auth("carl@example.com", "Pass-carl") == "a"
            assert second.user_binds() == [f"uid=carl,{PEOPLE}"]


async def test_name_that_nobody_has_ends_no_problem_of_logins() -> None:
    """A directory that shows nobody can tell that; whoever is listed can't log in all the same."""
    async with FaultyServer(small_directory(*NAMES)) as server, setting([server]) as found:
        await found.bridge.list_users("/m", compressed=False)
        remove(server, *NAMES)
        with pytest.raises(DirectoryUnavailable):
            await found.auth("anna", "Pass-anna")
        assert await found.auth("nobody", "x") is Rejection.UNKNOWN_USER
        (endpoint,) = found.bridge.health().endpoints
        assert [problem.code for problem in endpoint.problems] == ["logins_failing"]


async def test_entry_that_does_not_show_its_id_is_an_error() -> None:
    """The service account may not read `entryUUID` any more: nobody knows whose entry it is."""
    async with FaultyServer(small_directory(*NAMES)) as server, setting([server]) as found:
        await found.bridge.list_users("/m", compressed=False)
        change(server, "anna", "entryUUID")
        with pytest.raises(SearchInvalid, match="can't be told apart"):
            await found.auth("anna", "Pass-anna")


async def test_entry_that_shows_nothing_is_an_error_of_the_directory_and_not_ours() -> None:
    """Neither its id nor its user name: it is not known whose entry it is, whatever else is missing."""

    async def on_search(session: Session, message: wire.Message, _request: wire.ReceivedSearch) -> bool:
        session._writer.write(wire.write_entry(message.id, f"uid=anna,{PEOPLE}", []))
        session._writer.write(wire.write_result(message.id, wire.SEARCH_DONE, 0))
        return True

    async with FaultyServer(small_directory(*NAMES)) as server, setting([server]) as found:
        await found.bridge.list_users("/m", compressed=False)
        server.on_search = on_search
        with pytest.raises(SearchInvalid, match="can't be told apart"):
            await found.auth("anna", "Pass-anna")


async def test_owner_of_a_user_name_is_found_among_many_who_share_it_as_an_address() -> None:
    """A look-up that is limited to two doesn't choose among those whom a login filter finds: the userName does."""
    store = small_directory()
    for number in range(5):
        mail = ["info", f"z{number}@example.com"]
        attributes = {"objectClass": ["inetOrgPerson"], "uid": [f"z{number}"], "cn": ["z"], "mail": mail}
        store.add(f"uid=z{number},{PEOPLE}", {**attributes, "userPassword": [f"Pass-z{number}"]})
    store.add(
        f"uid=info,{PEOPLE}",
        {"objectClass": ["inetOrgPerson"], "uid": ["info"], "cn": ["i"], "userPassword": ["Pass-info"]},
    )
    async with FaultyServer(store) as server, setting([server], login_template=BY_MAIL_TOO) as found:
        for _ in range(2):  # before the first listing, and after it
            assert await found.auth("info", "Pass-info") == "a"
            assert await found.auth("info", "Pass-z0") is Rejection.WRONG_PASSWORD
            assert await found.auth("z1@example.com", "Pass-z1") == "a"
            await found.bridge.list_users("/m", compressed=False)


async def test_entry_that_comes_twice_is_an_error_and_no_refusal() -> None:
    """A server that sends one entry twice for a name says nothing of a second one, which would make it ambiguous."""

    async def twice(session: Session, message: wire.Message, request: wire.ReceivedSearch) -> bool:
        if request.size_limit != 2:
            return False
        found = ("uid", [b"anna"]), ("mail", [b"anna@example.com"]), ("entryUUID", [b"1"])
        session._writer.write(wire.write_entry(message.id, f"uid=anna,{PEOPLE}", found) * 2)
        session._writer.write(wire.write_result(message.id, wire.SEARCH_DONE, 0))
        return True

    async with FaultyServer(small_directory(*NAMES), on_search=twice) as server, setting([server]) as found:
        with pytest.raises(SearchIncomplete, match="an entry came twice"):
            await found.auth("anna", "Pass-anna")
        assert server.user_binds() == []


async def test_name_that_two_entries_have_as_their_user_name_stays_ambiguous() -> None:
    """The twin: asked for by userName alone, both are there."""
    store = small_directory("anna")
    store.add(
        f"uid=anna,ou=more,{PEOPLE}",
        {"objectClass": ["inetOrgPerson"], "uid": ["anna"], "cn": ["x"], "userPassword": ["Pass-x"]},
    )
    async with FaultyServer(store) as server, setting([server], login_template=BY_MAIL_TOO) as found:
        assert await found.auth("anna", "Pass-anna") is Rejection.AMBIGUOUS_USER


@pytest.mark.parametrize("way", [GroupWay.MEMBERS, GroupWay.MEMBER_OF])
async def test_log_says_that_a_group_shuts_somebody_out(way: GroupWay) -> None:
    """Not `unknown_user`: whoever reads the log would look for the entry."""
    store, group = small_directory("anna", "bert"), f"cn=staff,{PEOPLE}"
    store.add(group, {"objectClass": ["groupOfNames"], "cn": ["staff"], "member": [f"uid=anna,{PEOPLE}"]})
    rules = GroupRules((group,), way=way, nested=False)
    async with FaultyServer(store) as server, setting([server], groups=rules) as found:
        change(server, "anna", "memberOf", group)
        assert await found.auth("anna", "Pass-anna") == "a"
        assert await found.auth("bert", "Pass-bert") is Rejection.NOT_IN_GROUP
        assert await found.auth("nobody", "Pass-bert") is Rejection.UNKNOWN_USER
        assert f"uid=bert,{PEOPLE}" not in server.user_binds()


async def test_log_says_why_a_listed_user_is_no_user_any_more() -> None:
    """A withheld user whom the filter doesn't take any more: the clause stands in the log."""
    async with FaultyServer(small_directory(*NAMES)) as server:
        users_filter = parse_filter("(&(objectClass=inetOrgPerson)(!(cn=left)))")
        async with setting([server], users_filter=users_filter) as found:
            await found.bridge.list_users("/m", compressed=False)
            change(server, "anna", "cn", "left")
            assert await found.auth("anna", "Pass-anna") is Rejection.NOT_LISTED
            event = found.events[-1]
            assert isinstance(event, UserAuthenticated)
            assert "(!(cn=left)) does not match" in event.detail


async def test_server_that_takes_no_new_connections_is_not_bound_at_with_what_another_has_shown() -> None:
    """Its kept look-up connection works: entry, mark and verdict come from the next server together."""
    async with FaultyServer(small_directory(*NAMES)) as first, FaultyServer(small_directory(*NAMES)) as second:
        change(second, "anna", "userPassword", "old")
        async with setting([[first, second]], password_changed=()) as found:
            assert await found.auth("bert", "Pass-bert") == "a"
            await found.bridge.list_users("/m", compressed=False)
            await _drop_bind_connections(found)
            first._server.close()  # type: ignore[union-attr]
            # The second server knows the old password only, and says so; that is its word, not the first one's.
            assert await found.auth("anna", "Pass-anna") is Rejection.WRONG_PASSWORD
            assert second.user_binds() == [f"uid=anna,{PEOPLE}"]
            event = found.events[-1]
            assert isinstance(event, UserAuthenticated)
            assert str(second.port) in (event.server or "")


async def _drop_bind_connections(found: Setting) -> None:
    directory = found.bridge.directories["a"].source.directory
    for server in list(directory._binds._idle):  # type: ignore[attr-defined]
        directory._binds.suspect(server)  # type: ignore[attr-defined]


async def test_reconnections_are_one_for_each_server_however_many_ask() -> None:
    """A busy server isn't made busier: twenty doubtful answers on one connection open one other."""
    sessions: list[Session] = []

    async def on_search(session: Session, message: wire.Message, _request: wire.ReceivedSearch) -> bool:
        if session not in sessions:
            sessions.append(session)
        if session is sessions[0] and found.events:
            session._writer.write(wire.write_result(message.id, wire.SEARCH_DONE, 80, "an hour old"))
            return True
        return False

    async with FaultyServer(small_directory(*NAMES)) as server, setting([server]) as found:
        server.on_search = on_search
        assert await found.auth("anna", "Pass-anna") == "a"
        outcomes = await asyncio.gather(*(found.auth(name, f"Pass-{name}") for name in NAMES * 4))
        assert outcomes == ["a"] * 20
        assert len(sessions) == 2


@pytest.mark.parametrize("hidden", ["entryUUID", "uid"])
async def test_session_that_shows_less_than_before_is_asked_for_again_on_a_new_connection(hidden: str) -> None:
    """A kept connection is not bound any more as whom it was: the id is hidden from it, or the user name.

    A server that hides it from new connections as well has no further ones opened for that.
    """
    store, old = small_directory(*NAMES), set[Session]()

    async def on_search(session: Session, message: wire.Message, request: wire.ReceivedSearch) -> bool:
        if session in old:
            entry = store.find(request.base if request.scope == 0 else f"uid=anna,{PEOPLE}")
            assert entry is not None
            shown = [(name, values) for name, values in entry.attributes.items() if name.lower() != hidden.lower()]
            session._writer.write(wire.write_entry(message.id, entry.dn, shown))
            session._writer.write(wire.write_result(message.id, wire.SEARCH_DONE, 0))
        return session in old

    async with FaultyServer(store) as server, setting([server], login_template=BY_MAIL_TOO) as found:
        server.on_search = on_search
        await found.bridge.list_users("/m", compressed=False)
        for name in ("anna", "anna@example.com"):
            assert await found.auth(name, "Pass-anna") == "a"
            old |= server.sessions
            connection_count = server.connection_count
            assert await found.auth(name, "Pass-anna") == "a"
            assert server.connection_count == connection_count + 1
        server.on_search = None
        change(server, "anna", hidden)
        connection_count = server.connection_count
        for _ in range(3):
            with suppress(BridgeError):
                assert await found.auth("anna@example.com", "Pass-anna") is Rejection.NOT_LISTED
        assert server.connection_count <= connection_count + 2


async def test_directory_that_hangs_keeps_no_login_of_another_one_from_its_answer() -> None:
    """Right and wrong passwords of the one that works are told apart within the login's own time."""
    hanging = asyncio.Event()

    async def on_search(_session: Session, _message: wire.Message, _request: wire.ReceivedSearch) -> bool:
        return hanging.is_set()

    async with (
        FaultyServer(small_directory("zoe"), on_search=on_search) as slow,
        FaultyServer(small_directory(*NAMES)) as well,
    ):
        async with setting([slow, well]) as found:
            await found.bridge.list_users("/m", compressed=False)
            hanging.set()
            assert await found.auth("anna", "Pass-anna") == "b"
            assert await found.auth("anna", "wrong") is Rejection.WRONG_PASSWORD
            with pytest.raises(DirectoryUnavailable, match=str(slow.port)):
                await found.auth("zoe", "Pass-zoe")
