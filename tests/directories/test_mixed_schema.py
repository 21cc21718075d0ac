"""What real directories mix: attributes that the schema doesn't have, options, octets, operational attributes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import StartSlapd
from tests.support.bridges import configuration, running_bridge
from tests.support.slapd import PEOPLE, person

pytestmark = pytest.mark.slapd

LATIN_1 = "müller@example.com".encode("latin-1")


async def test_attributes_that_the_schema_does_not_have_are_passed_over(
    start_slapd: StartSlapd, tmp_path: Path
) -> None:
    """A server leaves out what it doesn't know (RFC 4511 §4.5.1.8); the next item of the mapping counts."""
    lines = "attributes: {fullName: [msDS-PhoneticDisplayName, cn], emailAddresses: [proxyAddresses, mail, shadowMail]}"
    slapd = start_slapd([person("anna")])
    async with running_bridge(configuration(slapd.url, tmp_path, directory=lines)) as client:
        (anna,) = await client.list_users()
        assert (anna["fullName"], anna["emailAddresses"]) == ("Name of anna", ["anna@example.com"])
        assert await client.auth("anna", "Pass-anna")


async def test_filter_on_an_attribute_that_the_schema_does_not_have_finds_nobody_and_is_no_list(
    start_slapd: StartSlapd, tmp_path: Path
) -> None:
    """It is undefined (RFC 4511 §4.5.1.7), so that nobody matches: that is an error, not an empty list."""
    users = f'users: {{bases: ["{PEOPLE}"], filter: "(proxyAddresses=*)"}}'
    slapd = start_slapd([person("anna")])
    async with running_bridge(configuration(slapd.url, tmp_path, users=users)) as client:
        status, answer = await client.post("cmd=list")
    assert status == 503
    assert "sees nobody" in answer["message"]


async def test_options_tell_values_of_one_attribute_apart(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """`cn;lang-de` (RFC 3866) is asked for by its whole description; a value with an option is none without it."""
    lines = 'attributes: {fullName: ["cn;lang-de", cn], userName: "{uid}"}\n    login_filter: "(uid={user})"'
    people = [
        person("anna", **{"cn;lang-de": ["Anna auf Deutsch"], "cn;lang-fr": ["Anna en français"]}),
        person("bert"),
        person("carl", cn=[], **{"cn;lang-fr": ["Carl en français"]}),
    ]
    slapd = start_slapd(people)
    async with running_bridge(configuration(slapd.url, tmp_path, directory=lines)) as client:
        names = {user["userName"]: user.get("fullName") for user in await client.list_users()}
        assert names == {"anna": "Anna auf Deutsch", "bert": "Name of bert", "carl": None}
        assert await client.auth("carl", "Pass-carl")


async def test_description_without_options_takes_no_value_with_one(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Asked for `cn`, a server sends its subtypes, too (RFC 4512 §2.5): they don't become the full name."""
    slapd = start_slapd([person("anna", displayName=[], **{"cn;lang-de": ["Anna auf Deutsch"]})])
    async with running_bridge(configuration(slapd.url, tmp_path)) as client:
        (anna,) = await client.list_users()
    assert anna["fullName"] == "Name of anna"


async def test_values_that_are_no_text_are_skipped_and_reported(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Octets in Latin-1, and a picture: what is text beside them counts, and the report tells of the rest."""
    lines = "attributes: {fullName: [jpegPhoto, displayName, cn], emailAddresses: [audio, mail]}"
    people = [
        person("anna", audio=[LATIN_1, b"second@example.com"], jpegPhoto=[b"\xff\xd8\xff\xe0\x00\x10JFIF\xff\xd9"]),
        person("bert"),
    ]
    slapd = start_slapd(people)
    async with running_bridge(configuration(slapd.url, tmp_path, directory=lines)) as client:
        anna, bert = await client.list_users()
        report = client.last_refresh()
        assert await client.auth("anna", "Pass-anna")
    assert anna["fullName"] == "Name of anna"
    assert anna["emailAddresses"] == ["second@example.com", "anna@example.com"]
    assert bert["emailAddresses"] == ["bert@example.com"]
    assert report["skipped"] == {"value_not_utf8": 1}


async def test_user_name_that_is_no_text_makes_no_user(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """The entry is left out and counted, with its reason; the others are listed."""
    lines = 'attributes: {userName: audio}\n    login_filter: "(uid={user})"'  # audio can't be compared
    slapd = start_slapd([person("anna", audio=[LATIN_1]), person("bert", audio=[b"bert"])])
    async with running_bridge(configuration(slapd.url, tmp_path, directory=lines)) as client:
        assert [user["userName"] for user in await client.list_users()] == ["bert"]
        assert client.last_refresh()["skipped"] == {"no_user_name": 1}
        assert await client.auth("bert", "Pass-bert")


async def test_operational_attributes_come_where_they_are_named(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """They are sent to who asks for them by name (RFC 4512 §3.4): as the id, and in a template as well."""
    lines = (
        'attributes: {id: entryDN, userName: uid, fullName: "{cn} by {creatorsName}", '
        'emailAddresses: "{entryUUID}@example.com"}'
    )
    slapd = start_slapd([person("anna", entryUUID=["11111111-2222-3333-4444-555555555555"])])
    async with running_bridge(configuration(slapd.url, tmp_path, directory=lines)) as client:
        (anna,) = await client.list_users()
        assert await client.auth("anna", "Pass-anna")
    assert anna["emailAddresses"] == ["11111111-2222-3333-4444-555555555555@example.com"]
    assert anna["fullName"].startswith("Name of anna by cn=")
