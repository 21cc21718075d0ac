"""Users chosen by groups: the whole service and a real Samba, by IN_CHAIN, by memberOf and by reading the groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.directories.test_samba import bridge
from tests.support.samba import PEOPLE, Attributes, Samba, account

pytestmark = pytest.mark.samba

GROUPED = f"OU=Grouped,{PEOPLE}"
NAMES = ("nina", "olga", "pavel", "rolf", "sven")
MANY_COUNT = 3_000
"""Twice the 1,500 values of one range (MS-ADTS §3.1.1.3.1.3.3)."""
STRANGE = f"CN=Sven\\, S.,{GROUPED}"


def dn(name: str) -> str:
    return STRANGE if name == "sven" else f"CN={name},{GROUPED}"


def group(name: str, *members: str) -> tuple[str, Attributes]:
    found: Attributes = {"objectClass": ["group"], "sAMAccountName": [f"g-{name}"], "member": [*map(dn, members)]}
    return dn(name), found


@pytest.fixture(scope="module")
def domain(samba: Samba) -> Samba:
    """Nina in staff; olga, pavel and sven in sales, which is in staff as staff is in it; sales is pavel's primary group."""
    people = [(dn(name), account(name)[1]) for name in NAMES]
    many = [
        (dn(f"m{number}"), account(f"m{number}", "", userAccountControl=["544"])[1]) for number in range(MANY_COUNT)
    ]
    samba.change(add=[(GROUPED, {"objectClass": ["organizationalUnit"]}), *people, *many])
    crowd = [f"m{number}" for number in range(MANY_COUNT)]
    samba.change(add=[group("sales", "olga", "pavel", "sven"), group("staff", "nina", "sales"), group("crowd", *crowd)])
    samba.change(modify={dn("sales"): {"member": [dn("olga"), dn("pavel"), STRANGE, dn("staff")]}})
    rid = samba.read(dn("sales"), "objectSid")["objectSid"][0].rpartition("-")[2]
    samba.change(modify={dn("pavel"): {"primaryGroupID": [rid]}})
    assert dn("pavel") not in samba.read(dn("sales"), "member")["member"]
    return samba


def users(lists: str, more: str = "") -> str:
    return f'users: {{bases: ["{GROUPED}"], groups: {{{lists}{more}}}}}'


STAFF = f'include: ["{dn("staff")}"]'
SALES = f'include: ["{dn("sales")}"]'
NOT_SALES = f'include: ["{dn("staff")}"], exclude: ["{dn("sales")}"]'
DIRECT, WALKED = ", nested: false", ", way: members"


@pytest.mark.parametrize(
    ("lists", "more", "expected"),
    [
        (STAFF, "", ["nina", "olga", "pavel", "sven"]),
        (STAFF, WALKED, ["nina", "olga", "pavel", "sven"]),
        (STAFF, DIRECT, ["nina"]),
        (STAFF, DIRECT + WALKED, ["nina"]),
        (SALES, DIRECT, ["olga", "pavel", "sven"]),
        (SALES, DIRECT + WALKED, ["olga", "pavel", "sven"]),
        (NOT_SALES, DIRECT, ["nina"]),
        (NOT_SALES, DIRECT + WALKED, ["nina"]),
    ],
)
async def test_members_are_listed_and_log_in_and_nobody_else(
    domain: Samba, tmp_path: Path, lists: str, more: str, expected: list[str]
) -> None:
    """Nested, in a circle, by the primary group: every way says the same, of listings and of logins."""
    async with bridge(domain, tmp_path, users=users(lists, more)) as client:
        assert [user["userName"] for user in await client.list_users()] == expected
        assert [name for name in NAMES if await client.auth(name, f"Pass-{name}-1")] == expected


@pytest.mark.parametrize("way", ["", DIRECT, WALKED])
async def test_large_group_is_read_as_a_whole(domain: Samba, tmp_path: Path, way: str) -> None:
    """1,600 members in every way."""
    async with bridge(domain, tmp_path, users=users(f'include: ["{dn("crowd")}"]', way)) as client:
        assert len(await client.list_users()) == MANY_COUNT


@pytest.mark.parametrize("way", ["", DIRECT, WALKED])
async def test_missing_group_is_an_error(domain: Samba, tmp_path: Path, way: str) -> None:
    """To exclude or to include: it would let people through, or shorten the list."""
    for lists in (f'exclude: ["{dn("missing")}"]', f'include: ["{dn("staff")}", "{dn("missing")}"]'):
        async with bridge(domain, tmp_path, users=users(lists, way)) as client:
            for body in ("cmd=list", "cmd=auth&user=nina&pass=Pass-nina-1"):
                status, answer = await client.post(body)
                assert (status, answer["error"]) == (502, "search_invalid")
                assert "CN=missing" in answer["message"]
