"""Users chosen by groups: the whole service and a real 389 Directory Server, of which no plugin keeps memberOf."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.directories.test_389ds import person
from tests.support.bridges import Client, configuration, running_bridge
from tests.support.ds389 import BASE, PEOPLE, READ_ACCESS, READER, READER_PASSWORD, DirectoryServer389
from tests.support.slapd import Entry

pytestmark = pytest.mark.ds389

GROUPS = f"ou=groups,{BASE}"
NAMES = ("anna", "bert", "carl", "dora", "emil")
MANY_COUNT = 3000


def group(name: str, kind: str, attribute: str, *members: str, **more: list[str]) -> Entry:
    return f"cn={name},{GROUPS}", {"objectClass": [kind], "cn": [name], attribute: list(members), **more}


def dn(uid: str) -> str:
    return f"uid={uid},{PEOPLE}"


@pytest.fixture(scope="module")
def ds() -> Iterator[DirectoryServer389]:
    """Groups of each kind, one in another and in a circle, and one of 3,000 people."""
    reader = {"objectClass": ["device", "simpleSecurityObject"], "cn": ["reader"], "userPassword": [READER_PASSWORD]}
    many = [f"u{number:04}" for number in range(MANY_COUNT)]
    sales = f"cn=sales,{GROUPS}"
    entries: list[Entry] = [
        (READER, reader),
        (PEOPLE, {"objectClass": ["organizationalUnit"], "ou": ["people"]}),
        (GROUPS, {"objectClass": ["organizationalUnit"], "ou": ["groups"]}),
        *map(person, NAMES),
        *(person(uid, password=False) for uid in many),
        group("sales", "groupOfUniqueNames", "uniqueMember", dn("bert"), f"cn=staff,{GROUPS}"),
        group("staff", "groupOfNames", "member", dn("anna"), sales.upper()),
        group("posix", "posixGroup", "memberUid", "carl", gidNumber=["5000"]),
        group("crowd", "groupOfNames", "member", *map(dn, many)),
    ]
    with DirectoryServer389(entries) as server:
        server.replace(BASE, aci=READ_ACCESS)
        yield server


@asynccontextmanager
async def bridge(ds: DirectoryServer389, folder: Path, *, users: str) -> AsyncIterator[Client]:
    file = configuration(ds.url, folder, preset="389ds", reader=(READER, READER_PASSWORD), users=users)
    async with running_bridge(file) as client:
        yield client


def choose(include: str = "", exclude: str = "", more: str = "") -> str:
    lists = {"include": include.split(), "exclude": exclude.split()}
    found = []
    for key, names in lists.items():
        quoted = ", ".join(f'"cn={name},{GROUPS}"' for name in names)
        found += [f"{key}: [{quoted}]"] if names else []
    return f'users: {{bases: ["{PEOPLE}"], filter: "(!(uid=u*))", groups: {{{", ".join(found)}{more}}}}}'


@pytest.mark.parametrize(
    ("users", "expected"),
    [
        (choose("staff"), ["anna", "bert"]),
        (choose("staff", more=", nested: false"), ["anna"]),
        (choose("staff posix"), ["anna", "bert", "carl"]),
        (choose("", "staff posix"), ["dora", "emil"]),
        (choose("staff", "sales", ", nested: false"), ["anna"]),
    ],
)
async def test_members_are_listed_and_log_in_and_nobody_else(
    ds: DirectoryServer389, tmp_path: Path, users: str, expected: list[str]
) -> None:
    """member, uniqueMember and memberUid, nested and in a circle."""
    async with bridge(ds, tmp_path, users=users) as client:
        assert [user["userName"] for user in await client.list_users()] == expected
        assert [uid for uid in NAMES if await client.auth(uid, f"Pass-{uid}-1")] == expected


async def test_large_group_is_read_as_a_whole(ds: DirectoryServer389, tmp_path: Path) -> None:
    """3,000 members, whatever the limits for entries are."""
    users = choose("crowd").replace('filter: "(!(uid=u*))", ', "")
    async with bridge(ds, tmp_path, users=users) as client:
        assert len(await client.list_users()) == MANY_COUNT


async def test_missing_group_is_an_error(ds: DirectoryServer389, tmp_path: Path) -> None:
    """To include or to exclude: it is named."""
    for users in (choose("staff missing"), choose("", "missing")):
        async with bridge(ds, tmp_path, users=users) as client:
            status, answer = await client.post("cmd=list")
            assert (status, answer["error"]) == (502, "search_invalid"), answer
            assert "cn=missing" in answer["message"]


@pytest.mark.parametrize(
    "users",
    [choose("staff", more=", nested: false, way: member_of"), choose("", "staff", ", nested: false, way: member_of")],
)
async def test_member_of_that_nobody_keeps_is_an_error(ds: DirectoryServer389, tmp_path: Path, users: str) -> None:
    """Without the plugin nobody is in a group by memberOf: an empty list is refused, and so is one of everybody."""
    async with bridge(ds, tmp_path, users=users) as client:
        status, answer = await client.post("cmd=list")
        assert (status, answer["error"]) in ((503, "removals_refused"), (503, "search_incomplete"))
