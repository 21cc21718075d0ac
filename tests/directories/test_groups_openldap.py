"""Users chosen by groups: the whole service and a real slapd, with every kind of group that it knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import StartSlapd
from tests.directories.test_removals_openldap import EVERY_TIME, command, show
from tests.support.bridges import Client, configuration, running_bridge
from tests.support.ldap_proxy import LdapProxy
from tests.support.slapd import BASE, PEOPLE, READER, Entry, Slapd, person

pytestmark = pytest.mark.slapd

GROUPS = f"ou=groups,{BASE}"
NIS = "include /etc/ldap/schema/nis.schema\n"
MEMBER_OF = {"overlays": "moduleload memberof\n", "extra": "overlay memberof"}
NAMES = ("anna", "bert", "carl", "dora", "emil")
GROUP_FOLDER: Entry = (GROUPS, {"objectClass": ["organizationalUnit"], "ou": ["groups"]})


def user_dn(uid: str) -> str:
    return f"uid={uid},{PEOPLE}"


def group_dn(name: str) -> str:
    return f"cn={name},{GROUPS}"


def of_names(name: str, *members: str) -> Entry:
    """A groupOfNames; members are uids, or DNs."""
    dns = [member if "=" in member else user_dn(member) for member in members]
    return group_dn(name), {"objectClass": ["groupOfNames"], "cn": [name], "member": dns}


def of_unique_names(name: str, *members: str) -> Entry:
    dns = [user_dn(uid) for uid in members]
    return group_dn(name), {"objectClass": ["groupOfUniqueNames"], "cn": [name], "uniqueMember": dns}


def posix(name: str, *uids: str) -> Entry:
    return group_dn(name), {"objectClass": ["posixGroup"], "cn": [name], "gidNumber": ["5000"], "memberUid": list(uids)}


def people() -> list[Entry]:
    return [*map(person, NAMES), GROUP_FOLDER]


def choose(include: str = "", exclude: str = "", more: str = "") -> str:
    """Lines of YAML for groups, which are named by their cn."""
    lists = {"include": include.split(), "exclude": exclude.split()}
    parts = [
        f"{key}: [{', '.join(chr(34) + group_dn(name) + chr(34) for name in names)}]"
        for key, names in lists.items()
        if names
    ]
    return f'users: {{bases: ["{PEOPLE}"], groups: {{{", ".join([*parts, *([more] if more else [])])}}}}}'


async def names(client: Client) -> list[str]:
    return [user["userName"] for user in await client.list_users()]


async def who_logs_in(client: Client) -> list[str]:
    return [uid for uid in NAMES if await client.auth(uid, f"Pass-{uid}")]


@pytest.mark.parametrize(
    "staff",
    [of_names("staff", "anna", "bert"), of_unique_names("staff", "anna", "bert"), posix("staff", "anna", "bert")],
    ids=["member", "uniqueMember", "memberUid"],
)
@pytest.mark.parametrize("nested", ["nested: true", "nested: false"])
async def test_members_are_listed_and_log_in_and_nobody_else(
    start_slapd: StartSlapd, tmp_path: Path, staff: Entry, nested: str
) -> None:
    """With a group to include its members are the users; with the same one to exclude all others are."""
    slapd = start_slapd([*people(), staff], overlays=NIS)
    async with running_bridge(configuration(slapd.url, tmp_path, users=choose("staff", more=nested))) as client:
        assert await names(client) == ["anna", "bert"]
        assert await who_logs_in(client) == ["anna", "bert"]
        assert not await client.auth("anna", "wrong")
    file = configuration(slapd.url, tmp_path, users=choose(exclude="staff", more=nested))
    assert (await command(file, "removals", "reset", "--yes"))[0] == 0
    async with running_bridge(file) as client:
        assert await names(client) == ["carl", "dora", "emil"]
        assert await who_logs_in(client) == ["carl", "dora", "emil"]


async def test_member_of_is_compared_by_the_server(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """With the memberof overlay the filter does it all, for included and excluded groups."""
    slapd = start_slapd(people(), **MEMBER_OF)
    # slapadd runs no overlays: groups that are there before have no memberOf.
    slapd.add(of_names("staff", "anna", "bert", "carl"), of_names("leavers", "bert", "dora"))
    users = choose("staff", "leavers", "nested: false, way: member_of")
    async with running_bridge(configuration(slapd.url, tmp_path, users=users)) as client:
        assert await names(client) == ["anna", "carl"]
        assert await who_logs_in(client) == ["anna", "carl"]
    assert "memberOf=cn=staff" in (slapd.folder / "log").read_text()
    code, output = await command(tmp_path / "config.yaml", "check", "--json")
    assert (code, f"the server compares (memberOf={group_dn('staff')})" in output) == (0, True)


@pytest.mark.parametrize("cause", ["not kept", "can't be read"])
async def test_excluded_group_that_nobody_shows_is_an_error(
    start_slapd: StartSlapd, tmp_path: Path, cause: str
) -> None:
    """It has members and is in nobody's memberOf: everybody would pass for somebody who is not in it."""
    leavers = of_names("leavers", "bert", "dora")
    slapd = start_slapd([*people(), *([leavers] if cause == "not kept" else [])], **MEMBER_OF)
    if cause == "can't be read":
        slapd.add(leavers)
        everything = f'access to * by dn.exact="{READER}" read by anonymous auth by * none'
        slapd.restart_with_access(f"access to attrs=memberOf by * none\n{everything}")
    users = choose("", "leavers", "nested: false, way: member_of")
    async with running_bridge(configuration(slapd.url, tmp_path, users=users)) as client:
        for body in ("cmd=list", "cmd=auth&user=bert&pass=Pass-bert", "cmd=auth&user=anna&pass=Pass-anna"):
            status, answer = await client.post(body)
            assert (status, answer["error"]) == (503, "search_incomplete")
            assert "shows it in memberOf" in answer["message"]


async def test_primary_group_of_posix_accounts_counts(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """A gidNumber makes a member as memberUid does, for listings and logins."""

    def account(uid: str, gid: str) -> Entry:
        dn, attributes = person(uid, uidNumber=["1"], gidNumber=[gid], homeDirectory=["/"])
        return dn, {**attributes, "objectClass": ["inetOrgPerson", "posixAccount"]}

    accounts = [account("anna", "5000"), account("bert", "100"), account("carl", "100")]
    slapd = start_slapd([*accounts, GROUP_FOLDER, posix("staff", "bert")], overlays=NIS)
    async with running_bridge(configuration(slapd.url, tmp_path, users=choose("staff"))) as client:
        assert await names(client) == ["anna", "bert"]
        assert [await client.auth(uid, f"Pass-{uid}") for uid in ("anna", "bert", "carl")] == [True, True, False]


@pytest.mark.parametrize("is_excluded", [False, True])
async def test_members_that_the_server_makes_up_are_members(
    start_slapd: StartSlapd, tmp_path: Path, is_excluded: bool
) -> None:
    """A group with a search in the place of members (slapo-dynlist): who is listed can log in, and nobody else."""
    dynamic: Entry = (
        group_dn("staff"),
        {
            "objectClass": ["groupOfURLs"],
            "cn": ["staff"],
            "memberURL": [f"ldap:///{PEOPLE}??one?(employeeType=staff)"],
        },
    )
    found = [person(uid, employeeType=["staff"] if uid in ("anna", "bert") else ["guest"]) for uid in NAMES]
    overlays = "include /etc/ldap/schema/dyngroup.schema\nmoduleload dynlist\n"
    extra = "overlay dynlist\ndynlist-attrset groupOfURLs memberURL member"
    slapd = start_slapd([*found, GROUP_FOLDER, dynamic], overlays=overlays, extra=extra)
    users = choose("", "staff") if is_excluded else choose("staff")
    expected = ["carl", "dora", "emil"] if is_excluded else ["anna", "bert"]
    async with running_bridge(configuration(slapd.url, tmp_path, users=users, more=EVERY_TIME)) as client:
        assert await names(client) == expected
        assert await who_logs_in(client) == expected
        slapd.replace([user_dn("anna"), user_dn("carl")], "employeeType", "guest")
        assert ("anna" in await who_logs_in(client)) is is_excluded


async def test_groups_in_groups_are_followed_in_circles_too(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Members of members are users, however the groups hold each other; excluded ones are none, wherever they are."""
    groups = [
        of_names("staff", "anna", group_dn("sales"), f"uid=long-gone,{PEOPLE}"),
        of_names("sales", "bert", f"CN=North , {GROUPS.upper()}"),
        of_names("north", "carl", group_dn("staff"), group_dn("sales")),
        of_names("others", "dora"),
        of_names("out", group_dn("leavers")),
        of_names("leavers", "carl", group_dn("leavers")),
    ]
    slapd = start_slapd([*people(), *groups])
    file = configuration(slapd.url, tmp_path, users=choose("staff"))
    async with running_bridge(file) as client:
        assert await names(client) == ["anna", "bert", "carl"]
        assert await who_logs_in(client) == ["anna", "bert", "carl"]
        code, output = await command(file, "check", "--json")
        assert (code, "named, and 2 groups inside of it" in output) == (0, True)
    file = configuration(slapd.url, tmp_path, users=choose("staff others", "out"))
    assert (await command(file, "removals", "reset", "--yes"))[0] == 0
    async with running_bridge(file) as client:
        assert await names(client) == ["anna", "bert", "dora"]
        assert await who_logs_in(client) == ["anna", "bert", "dora"]
    file = configuration(slapd.url, tmp_path, users=choose("staff", more="nested: false"))
    assert (await command(file, "removals", "reset", "--yes"))[0] == 0
    async with running_bridge(file) as client:
        assert await names(client) == ["anna"]
        assert await who_logs_in(client) == ["anna"]


@pytest.mark.parametrize("users", [choose("staff missing"), choose("staff", "missing"), choose("", "missing")])
@pytest.mark.parametrize("way", ["", ", nested: false, way: member_of"])
async def test_missing_group_is_an_error_and_loses_nobody(
    start_slapd: StartSlapd, tmp_path: Path, users: str, way: str
) -> None:
    """Whether it is to include or to exclude: 502 that names it, for listings and logins, in every way."""
    slapd = start_slapd(people(), **MEMBER_OF)
    slapd.add(of_names("staff", "anna", "bert"))
    file = configuration(slapd.url, tmp_path, users=users.replace("]}}", f"]{way}}}}}"))
    async with running_bridge(file) as client:
        for body in ("cmd=list", "cmd=auth&user=anna&pass=Pass-anna"):
            status, answer = await client.post(body)
            assert (status, answer["error"]) == (502, "search_invalid")
            assert repr(group_dn("missing")) in answer["message"]
            assert "users.groups" in answer["message"]
        code, output = await command(file, "check")
        assert code != 0
        assert "cn=missing" in output


@pytest.mark.parametrize("way", ["", "way: member_of, nested: false"])
async def test_group_that_disappears_lets_nobody_in_and_nobody_out(
    start_slapd: StartSlapd, tmp_path: Path, way: str
) -> None:
    """An excluded group that is deleted: the last list is answered, and a login is an error, at once."""
    slapd = start_slapd(people(), **MEMBER_OF)
    slapd.add(of_names("staff", "anna", "bert", "carl"), of_names("leavers", "carl", "dora"))
    file = configuration(slapd.url, tmp_path, users=choose("staff", "leavers", way))
    async with running_bridge(file) as client:
        assert await names(client) == ["anna", "bert"]
        slapd.delete(group_dn("leavers"))
        for uid in ("carl", "anna"):
            status, answer = await client.post(f"cmd=auth&user={uid}&pass=Pass-{uid}")
            assert (status, answer["error"]) == (502, "search_invalid")
        assert (await command(file, "refresh"))[0] != 0
        assert await names(client) == ["anna", "bert"]
        assert client.service.bridge.health().status.value == "degraded"


@pytest.mark.parametrize(
    ("access", "sentence"),
    [
        (f'access to dn.subtree="{GROUPS}" by * none', "can't see it"),
        (f'access to dn.subtree="{GROUPS}" attrs=member by * none', "shows no member"),
        (f'access to dn.subtree="{GROUPS}" attrs=entry by * none', "can't see it"),
        (f'access to dn.exact="{BASE}" by dn.exact="{READER}" none', "can't be looked for"),
    ],
)
@pytest.mark.parametrize("users", [choose("staff"), choose("", "staff")])
async def test_group_that_cannot_be_read_is_an_error(
    start_slapd: StartSlapd, tmp_path: Path, access: str, sentence: str, users: str
) -> None:
    """Without rights a group looks missing or empty: never is it taken for an empty one."""
    slapd = start_slapd([*people(), of_names("staff", "anna", "bert")])
    everything = f'access to * by dn.exact="{READER}" read by anonymous auth by * none'
    slapd.restart_with_access(f"{access}\n{everything}")
    async with running_bridge(configuration(slapd.url, tmp_path, users=users)) as client:
        for body in ("cmd=list", "cmd=auth&user=anna&pass=Pass-anna"):
            status, answer = await client.post(body)
            assert (status, answer["error"]) in ((502, "search_invalid"), (503, "search_incomplete"))
            assert sentence in answer["message"]


async def test_member_who_leaves_is_removed_with_the_reason(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """At once no login, with the next listing no user, and the report says which group it was."""
    slapd = start_slapd([*people(), of_names("staff", "anna", "bert", "carl")])
    file = configuration(slapd.url, tmp_path, users=choose("staff"), more=EVERY_TIME)
    async with running_bridge(file) as client:
        assert await names(client) == ["anna", "bert", "carl"]
        take_out(slapd, "staff", "carl")
        assert not await client.auth("carl", "Pass-carl")
        assert await client.auth("anna", "Pass-anna")
        assert await names(client) == ["anna", "bert"]
        put_in(slapd, "staff", "dora")
        assert await client.auth("dora", "Pass-dora")
        assert await names(client) == ["anna", "bert", "dora"]


@pytest.mark.parametrize(
    ("way", "kind"),
    [("", of_names), ("nested: false, way: member_of", of_names), ("", posix)],
    ids=("member", "memberOf", "memberUid"),
)
@pytest.mark.parametrize("identity", ["", "attributes: {id: uid}"])
async def test_members_who_leave_in_numbers_are_withheld(
    start_slapd: StartSlapd, tmp_path: Path, way: str, kind: object, identity: str
) -> None:
    """A group that loses most of its members trips the guard: all are answered still, each with reason and group."""
    uids = [f"u{number:03}" for number in range(100)]
    options = {**MEMBER_OF, "overlays": f"{NIS}{MEMBER_OF['overlays']}"}
    slapd = start_slapd([*map(person, uids), GROUP_FOLDER], **options)
    slapd.add(kind("staff", *uids))  # type: ignore[operator]
    file = configuration(slapd.url, tmp_path, users=choose("staff", more=way), directory=identity, more=EVERY_TIME)
    async with running_bridge(file) as client:
        assert len(await client.list_users()) == 100
        attribute = "memberUid" if kind is posix else "member"
        rest = uids[:60] if kind is posix else map(user_dn, uids[:60])
        slapd.replace([group_dn("staff")], attribute, *rest)
        assert len(await client.list_users()) == 100
        (found,) = await show(file)
        assert len(found["withheld"]) == 40
        assert {(each["reason"], each["detail"]) for each in found["withheld"]} == {
            ("group", f"it is not in the group {group_dn('staff')}")
        }
        status, answer = await client.post("cmd=auth&user=u099&pass=Pass-u099")
        assert (status, answer["error"]) == (503, "directory_unavailable"), "the listing does not believe it, either"
        code, _ = await command(file, "removals", "approve", found["digest"])
        assert code == 0
        assert len(await client.list_users()) == 60
        assert not await client.auth("u099", "Pass-u099")


async def test_users_put_into_an_excluded_group_carry_its_name(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """The reason is the group, and the detail says which one and that it is excluded."""
    uids = [f"u{number:03}" for number in range(40)]
    slapd = start_slapd([*map(person, uids), GROUP_FOLDER, of_names("leavers", f"cn=nobody,{BASE}")])
    file = configuration(slapd.url, tmp_path, users=choose(exclude="leavers"), more=EVERY_TIME)
    async with running_bridge(file) as client:
        assert len(await client.list_users()) == 40
        slapd.replace([group_dn("leavers")], "member", *map(user_dn, uids[:15]))
        assert len(await client.list_users()) == 40
        (found,) = await show(file)
        assert {(each["reason"], each["detail"]) for each in found["withheld"]} == {
            ("group", f"it is in the excluded group {group_dn('leavers')}")
        }


async def test_login_by_another_attribute_means_the_one_who_is_in_the_group(
    start_slapd: StartSlapd, tmp_path: Path
) -> None:
    """Several bear it, one of them is a member: it is unambiguous, as it is where the server compares."""
    found = [person(uid, employeeNumber=["7"]) for uid in NAMES]
    slapd = start_slapd([*found, GROUP_FOLDER, of_names("staff", "dora"), of_names("two", "dora", "emil")])
    login = 'login_filter: "(|(uid={user})(employeeNumber={user}))"'
    file = configuration(slapd.url, tmp_path, users=choose("staff"), directory=login)
    async with running_bridge(file) as client:
        assert await client.auth("7", "Pass-dora")
        assert not await client.auth("7", "Pass-anna")
    async with running_bridge(configuration(slapd.url, tmp_path, users=choose("two"), directory=login)) as client:
        assert not await client.auth("7", "Pass-dora")


@pytest.mark.parametrize("members", ["info", "info x03", "x03"])
async def test_limit_of_a_look_up_chooses_nobody(start_slapd: StartSlapd, tmp_path: Path, members: str) -> None:
    """More share the name than are looked at, and its owner comes last: the owner is meant, or else nobody."""
    sharing = [person(f"x{number:02}", mail=["info"]) for number in range(25)]
    slapd = start_slapd([*sharing, person("info"), GROUP_FOLDER, of_names("staff", *members.split())])
    lines = 'login_filter: "(|(uid={user})(mail={user}))"'
    async with LdapProxy(("127.0.0.1", slapd.port)) as proxy:
        file = configuration(proxy.url, tmp_path, users=choose("staff"), directory=lines)
        async with running_bridge(file) as client:
            assert sorted(await names(client)) == members.split()
            assert await client.auth("info", "Pass-info") is ("info" in members)
            assert not await client.auth("info", "Pass-x03")
            assert proxy.binds_of(user_dn("x03")) == 0
            assert client.last_login()["reason"] == ("wrong_password" if "info" in members else "ambiguous_user")


async def test_composed_names_are_found_through_the_listing_and_asked_of_the_group(
    start_slapd: StartSlapd, tmp_path: Path
) -> None:
    """The listing knows who it is, and the group whether it is still one of its members."""
    slapd = start_slapd([*people(), of_names("staff", "anna", "bert")])
    names_of_mail = 'attributes: {userName: "{mail|localpart}.x"}'
    file = configuration(slapd.url, tmp_path, users=choose("staff"), directory=names_of_mail)
    async with running_bridge(file) as client:
        assert await names(client) == ["anna.x", "bert.x"]
        assert await client.auth("bert.x", "Pass-bert")
        take_out(slapd, "staff", "bert")
        assert not await client.auth("bert.x", "Pass-bert")
        assert await client.auth("anna.x", "Pass-anna")


async def test_emptied_group_removes_nobody_without_being_asked(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """An empty group is a legitimate thing; that it leaves nobody is for the guard."""
    slapd = start_slapd([*people(), posix("staff", "anna", "bert"), posix("empty")], overlays=NIS)
    file = configuration(slapd.url, tmp_path, users=choose("staff"), more=EVERY_TIME)
    async with running_bridge(file) as client:
        assert await names(client) == ["anna", "bert"]
        slapd.replace([group_dn("staff")], "memberUid")
        assert await names(client) == ["anna", "bert"]
        status, answer = await client.post("cmd=auth&user=anna&pass=Pass-anna")
        assert (status, answer["error"]) == (503, "directory_unavailable"), "the listing does not believe it, either"
        (found,) = await show(file)
        assert [each["reason"] for each in found["withheld"]] == ["group", "group"]
    file = configuration(slapd.url, tmp_path, users=choose("empty"))
    assert (await command(file, "removals", "reset", "--yes"))[0] == 0
    async with running_bridge(file) as client:
        status, answer = await client.post("cmd=list")
        assert (status, answer["error"]) == (503, "removals_refused")
        assert "no entry makes a user that is in the groups" in answer["message"]


async def test_large_group_is_read_as_a_whole(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """3,000 members, whatever the limits for entries are."""
    uids = [f"u{number:04}" for number in range(3200)]
    limits = "size=500 size.pr=500 size.prtotal=unlimited"
    slapd = start_slapd([*map(person, uids), GROUP_FOLDER, of_names("staff", *uids[:3000])], limits=limits)
    file = configuration(slapd.url, tmp_path, users=choose("staff"), directory="page_size: 500")
    async with running_bridge(file) as client:
        assert await names(client) == uids[:3000]
        assert await client.auth("u2999", "Pass-u2999")
        assert not await client.auth("u3000", "Pass-u3000")


async def test_many_groups_are_not_asked_one_by_one_at_a_login(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Beyond eight groups a login goes by what was last read of them; a refusal reads the entry once more."""
    inner = [of_names(f"team{number}", f"u{number}") for number in range(20)]
    staff = of_names("staff", *(dn for dn, _ in inner))
    slapd = start_slapd([*(person(f"u{number}") for number in range(21)), GROUP_FOLDER, staff, *inner])
    async with running_bridge(configuration(slapd.url, tmp_path, users=choose("staff"))) as client:
        assert len(await client.list_users()) == 20
        assert await client.auth("u8", "Pass-u8")  # the first login reads the lock-out policy, too
        before = (slapd.folder / "log").read_text().count("SRCH base=")
        assert await client.auth("u7", "Pass-u7")
        assert not await client.auth("u20", "Pass-u20")
        assert (slapd.folder / "log").read_text().count("SRCH base=") == before + 3
    file = configuration(slapd.url, tmp_path, users=choose("staff"), more=EVERY_TIME)
    async with running_bridge(file) as client:
        slapd.replace([group_dn("team7")], "member", user_dn("u20"))
        assert not await client.auth("u7", "Pass-u7")
        assert await client.auth("u20", "Pass-u20")


async def test_inner_group_that_goes_away_is_no_error_of_a_login(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """The groups are read anew, and who was in it alone is in none."""
    groups = [of_names("staff", "anna", group_dn("sales")), of_names("sales", "bert")]
    slapd = start_slapd([*people(), *groups])
    async with running_bridge(configuration(slapd.url, tmp_path, users=choose("staff"))) as client:
        assert await names(client) == ["anna", "bert"]
        slapd.delete(group_dn("sales"))
        assert await who_logs_in(client) == ["anna"]


def take_out(slapd: Slapd, group: str, uid: str) -> None:
    slapd.modify(f"dn: {group_dn(group)}\nchangetype: modify\ndelete: member\nmember: {user_dn(uid)}\n\n")


def put_in(slapd: Slapd, group: str, uid: str) -> None:
    slapd.modify(f"dn: {group_dn(group)}\nchangetype: modify\nadd: member\nmember: {user_dn(uid)}\n\n")


async def test_root_dse_that_hides_naming_contexts_lists_and_lets_in_nobody(
    start_slapd: StartSlapd, tmp_path: Path
) -> None:
    """Nobody knows where the group inside of the excluded one is, so that its member might be listed."""
    entries = [*people(), of_names("inner", "carl"), of_names("outer", group_dn("inner"))]
    hidden = 'access to dn.base="" attrs=namingContexts by * none\naccess to * by * read'
    shown, hiding = start_slapd(entries), start_slapd(entries, overlays=hidden)
    files = {}
    for name, slapd, more in (("shown", shown, ""), ("plain", hiding, "nested: false"), ("hidden", hiding, "")):
        folder = tmp_path / name
        folder.mkdir()
        files[name] = configuration(slapd.url, folder, users=choose(exclude="outer", more=more), more=EVERY_TIME)
    for name, expected in (("shown", {"anna", "bert", "dora", "emil"}), ("plain", set(NAMES))):
        async with running_bridge(files[name]) as client:
            assert {user["userName"] for user in await client.list_users()} == expected
    async with running_bridge(files["hidden"]) as client:
        for body in ("cmd=list", "cmd=auth&user=carl&pass=Pass-carl", "cmd=auth&user=anna&pass=Pass-anna"):
            status, answer = await client.post(body)
            assert status == 503
            assert "Let the service account read namingContexts of the root DSE" in answer["message"]


@pytest.mark.parametrize("way", ["include", "exclude"])
async def test_group_inside_of_another_may_lie_in_another_naming_context(
    start_slapd: StartSlapd, tmp_path: Path, way: str
) -> None:
    """One in each, in turns: the server's other databases are searched where a member lies in them."""
    (tmp_path / "db2").mkdir()
    database = (
        f'database mdb\nsuffix "o=other"\nrootdn "cn=admin,{BASE}"\ndirectory {tmp_path}/db2\n'
        f'access to * by dn.exact="{READER}" read by * none'
    )
    outer, far, near = of_names("outer", "anna", "cn=far,o=other"), "cn=far,o=other", group_dn("near")
    slapd = start_slapd([*people(), outer, of_names("near", "carl", "cn=end,o=other")], extra=database)
    slapd.add(
        ("o=other", {"objectClass": ["organization"], "o": ["other"]}),
        (far, {"objectClass": ["groupOfNames"], "cn": ["far"], "member": [near, user_dn("bert")]}),
        ("cn=end,o=other", {"objectClass": ["groupOfNames"], "cn": ["end"], "member": [user_dn("dora")]}),
    )
    users = choose(**{way: "outer"})
    inside = {"anna", "bert", "carl", "dora"}
    async with running_bridge(configuration(slapd.url, tmp_path, users=users, more=EVERY_TIME)) as client:
        listed = {user["userName"] for user in await client.list_users()}
        assert listed == (inside if way == "include" else set(NAMES) - inside)
        for name in NAMES:
            assert await client.auth(name, f"Pass-{name}") is (name in listed)
