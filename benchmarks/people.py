"""People as a company's directory holds them: half a kilobyte each, the same ones each time."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from bridge.demo.people import generate_people
from tests.support.slapd import PEOPLE, Entry

if TYPE_CHECKING:
    from collections.abc import Iterator

ATTRIBUTES = ("entryUUID", "uid", "displayName", "cn", "mail", "pwdAccountLockedTime")
"""What the preset `openldap` asks for, so every program asks for the same."""
FILTER = "(objectClass=inetOrgPerson)"


def user_name(number: int) -> str:
    """The uid of the person with that number, counted from 0."""
    return f"user{number:07d}"


def password(number: int) -> str:
    """The password of the person with that number."""
    return f"Secret-{number}"


def make_entries(count: int) -> Iterator[Entry]:
    """So many entries: every third has a second address, every tenth no display name."""
    for number, person in enumerate(generate_people(count)):
        uid, name = user_name(number), f"{person.given_name} {person.family_name}"
        attributes: dict[str, list[str | bytes]] = {
            "objectClass": ["inetOrgPerson"],
            "uid": [uid],
            "cn": [f"{name} {number}"],
            "sn": [person.family_name],
            "givenName": [person.given_name],
            "displayName": [name],
            "mail": [f"{person.uid}.{number}@example.com", f"{uid}@mail.example.com"],
            "telephoneNumber": [f"+49 30 {number:08d}"],
            "departmentNumber": [person.department],
            "title": ["Head of whatever needs to be done"],
            "employeeNumber": [str(number)],
            "userPassword": [_hash(password(number))],
        }
        if number % 3:
            attributes["mail"].pop()
        if number % 10 == 0:
            del attributes["displayName"]
        yield f"uid={uid},{PEOPLE}", attributes


def _hash(text: str) -> bytes:
    """The value of `userPassword` as OpenLDAP keeps it: a salted SHA-1 (RFC 2307 §5.3, slappasswd(8))."""
    salt = b"salt"
    digest = hashlib.sha1(text.encode() + salt, usedforsecurity=False).digest()
    return b"{SSHA}" + base64.b64encode(digest + salt)
