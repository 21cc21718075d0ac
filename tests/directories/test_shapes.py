"""Presets for directories that no package brings: entries of their documented shape, served by the embedded server.

None of this was run against the products themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.demo import wire
from bridge.demo.server import EmbeddedServer, Session
from bridge.syntax import ber
from tests.support.bridges import Client, configuration, running_bridge
from tests.support.ldif import load_store

SHAPES = Path(__file__).parent / "shapes"
READERS = {
    "active_directory": "EXAMPLE\\reader",
    "freeipa": "uid=reader,cn=sysaccounts,cn=etc,dc=example,dc=com",
    "univention": "uid=reader,cn=users,dc=example,dc=com",
    "lldap": "uid=reader,ou=people,dc=example,dc=com",
    "edirectory": "cn=reader,o=example",
}
ROOTS: Mapping[str, Mapping[str, Sequence[bytes]]] = {
    "active_directory": {
        "namingContexts": [
            b"DC=example,DC=com",
            b"CN=Configuration,DC=example,DC=com",
            b"CN=Schema,CN=Configuration,DC=example,DC=com",
            b"DC=DomainDnsZones,DC=example,DC=com",
            b"DC=ForestDnsZones,DC=example,DC=com",
        ],
        "defaultNamingContext": [b"DC=example,DC=com"],
    },
    "freeipa": {
        "namingContexts": [b"cn=changelog", b"dc=example,dc=com", b"o=ipaca"],
        "defaultNamingContext": [b"dc=example,dc=com"],
    },
    # lldap names no control at all: it knows no paging.
    "lldap": {"supportedControl": [], "defaultNamingContext": [b"dc=example,dc=com"]},
}
"""What the root DSE says that the embedded server's own doesn't."""
REFERENCES = {
    "active_directory": [
        b"ldap://ForestDnsZones.example.com/DC=ForestDnsZones,DC=example,DC=com",
        b"ldap://DomainDnsZones.example.com/DC=DomainDnsZones,DC=example,DC=com",
        b"ldap://example.com/CN=Configuration,DC=example,DC=com",
    ]
}
CHILD = b"ldap://child.example.com/DC=child,DC=example,DC=com"

ANNA = {
    "active_directory": {
        "userName": "anna",
        "distinguishedName": "CN=Anna Müller,OU=Sales,DC=example,DC=com",
        "fullName": "Müller, Anna",
        "emailAddresses": ["anna.mueller@example.com", "anna@example.com"],
    },
    "freeipa": {
        "userName": "anna",
        "distinguishedName": "uid=anna,cn=users,cn=accounts,dc=example,dc=com",
        "fullName": "Anna Müller",
        "emailAddresses": ["anna@example.com", "anna.mueller@example.com"],
    },
    "univention": {
        "userName": "anna",
        "distinguishedName": "uid=anna,cn=users,dc=example,dc=com",
        "fullName": "Anna Müller",
        "emailAddresses": ["anna@example.com", "anna.mueller@example.com", "sales@example.com"],
    },
    "lldap": {
        "userName": "anna",
        "distinguishedName": "uid=anna,ou=people,dc=example,dc=com",
        "fullName": "Anna Müller",
        "emailAddresses": ["anna@example.com"],
    },
    "edirectory": {
        "userName": "anna",
        "distinguishedName": "cn=anna,ou=sales,o=example",
        "fullName": "Anna Müller",
        "emailAddresses": ["anna@example.com"],
    },
}
OTHERS = {"active_directory": ["reader"], "lldap": ["reader"]}
"""Who else is listed: here, service accounts are people like others."""


class ShapedServer(EmbeddedServer):
    """The embedded server with the root DSE and the references of a vendor, and who is bound by other names than DNs."""

    def __init__(self, preset: str, references: Sequence[bytes]) -> None:
        super().__init__(load_store(SHAPES / f"{preset}.ldif"))
        self.preset = preset
        self.references = references
        self.paged_count = 0

    def make_session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Session:
        return _ShapedSession(self, reader, writer)


class _ShapedSession(Session):
    def __init__(self, server: ShapedServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(server.store, reader, writer, server.tls)
        self.server = server

    def bind(self, request: wire.ReceivedBind) -> tuple[int, str]:
        names = {"EXAMPLE\\reader": "CN=reader,CN=Users,DC=example,DC=com"}
        return super().bind(wire.ReceivedBind(names.get(request.dn, request.dn), request.password))

    async def search(self, message: wire.Message, request: wire.ReceivedSearch) -> None:
        self.server.paged_count += wire.PAGED_RESULTS in message.controls
        if request.scope == 2:
            for uri in self.server.references:
                content = ber.write_element(wire.SEARCH_REFERENCE, ber.write_octets(uri))
                self._writer.write(ber.write_element(ber.SEQUENCE, ber.write_integer(message.id), content))
        await super().search(message, request)

    def _root_dse(self) -> dict[str, list[bytes]]:
        found = {**super()._root_dse(), **ROOTS.get(self.server.preset, {})}
        return {name: list(values) for name, values in found.items()}


@asynccontextmanager
async def bridge(
    preset: str, folder: Path, *, references: Sequence[bytes] | None = None, directory: str = ""
) -> AsyncIterator[tuple[Client, ShapedServer]]:
    async with ShapedServer(preset, REFERENCES.get(preset, ()) if references is None else references) as server:
        file = configuration(
            server.url,
            folder,
            preset=preset,
            reader=(READERS[preset], "reads-only"),
            users="users: {}",
            directory=directory,
        )
        async with running_bridge(file) as client:
            yield client, server


@pytest.mark.parametrize("preset", READERS)
async def test_preset_lists_the_people_of_a_directory_of_its_shape(preset: str, tmp_path: Path) -> None:
    """With nothing configured but server and service account: people, and neither groups, computers, trusts nor the disabled."""
    async with bridge(preset, tmp_path) as (client, server):
        users: list[dict[str, Any]] = await client.list_users()
    assert [user["userName"] for user in users] == ["anna", *OTHERS.get(preset, ())]
    assert users[0] == ANNA[preset]
    assert (server.paged_count > 0) is (preset != "lldap")


@pytest.mark.parametrize("preset", READERS)
async def test_preset_lets_people_log_in_and_nobody_else(preset: str, tmp_path: Path) -> None:
    """The right password of somebody who is listed; not a wrong one, nor that of somebody who is disabled or elsewhere."""
    async with bridge(preset, tmp_path) as (client, _):
        assert await client.auth("anna", "Pass-anna")
        assert await client.auth("ANNA", "Pass-anna")
        assert not await client.auth("anna", "Pass-bert")
        assert not await client.auth("bert", "Pass-bert")
        expected = "unknown_user" if preset == "lldap" else "account_disabled"
        assert client.last_login()["reason"] == expected
        assert not await client.auth("carl", "Pass-carl")
        assert client.last_login()["reason"] == ("account_expired" if preset == "edirectory" else "unknown_user")


@pytest.mark.parametrize("preset", [preset for preset in READERS if preset != "lldap"])
async def test_preset_lists_the_disabled_where_that_is_wanted(preset: str, tmp_path: Path) -> None:
    """With `disabled_accounts: list` they are in the list, and can't log in."""
    async with bridge(preset, tmp_path, directory="disabled_accounts: list") as (client, _):
        assert "bert" in {user["userName"] for user in await client.list_users()}
        assert not await client.auth("bert", "Pass-bert")


async def test_active_directory_without_people_of_another_domain_is_incomplete(tmp_path: Path) -> None:
    """The three partitions of a domain are ignored and counted; a child domain's people may be wanted: 503 names it."""
    async with bridge("active_directory", tmp_path) as (client, _):
        await client.list_users()
        assert client.last_refresh()["ignored_reference_count"] == 3
    other = tmp_path / "other"
    other.mkdir()
    references = [*REFERENCES["active_directory"], CHILD]
    async with bridge("active_directory", other, references=references) as (client, _):
        for body in ("cmd=list", "cmd=auth&user=anna&pass=Pass-anna"):
            status, answer = await client.post(body)
            assert (status, answer["error"]) == (503, "search_incomplete")
            assert CHILD.decode() in answer["message"]


@pytest.mark.parametrize("preset", ["active_directory", "edirectory"])
async def test_binary_ids_find_their_entries_again(preset: str, tmp_path: Path) -> None:
    """A removal is confirmed by the id: the octets of a GUID come back as they were."""
    async with bridge(preset, tmp_path, directory="removals: {max_percent: 100}") as (client, server):
        await client.list_users()
        directory = client.service.bridge.directories["company"]
        assert directory.last_good is not None
        anna = directory.last_good.roster.find("anna")
        assert anna is not None
        search = directory.source.login_search_by_id(server.store.base, anna.id)
        found = (await directory.source.directory.look_up(search)).entries
    assert [entry.dn for entry in found] == [ANNA[preset]["distinguishedName"]]
