"""Sample people in several languages, the same ones each time."""

from __future__ import annotations

import unicodedata
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from bridge.demo.store import Store
from bridge.syntax.dn import escape_attribute_value

if TYPE_CHECKING:
    from collections.abc import Iterator

BASE = "dc=example,dc=com"
READER_DN = f"cn=reader,{BASE}"
READER_PASSWORD = "reads-only"  # noqa: S105 - sample data
SAMPLE_USER = "anna.mueller"
SAMPLE_PASSWORD = "Grüße & 100 % Spaß"  # noqa: S105 - sample data, with what a form must escape

# Given names, family names, and their spelling in user names, which are ASCII.
_NAMES: tuple[tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]], ...] = (
    (
        (("Anna", "anna"), ("Jürgen", "juergen"), ("Käthe", "kaethe"), ("Søren", "soeren")),
        (("Müller", "mueller"), ("Weiß", "weiss"), ("Öztürk", "oeztuerk"), ("Schröder", "schroeder")),
    ),
    (
        (("Chloé", "chloe"), ("François", "francois"), ("Zoë", "zoe")),
        (("Lefèvre", "lefevre"), ("D'Artagnan", "dartagnan"), ("Garçon", "garcon")),
    ),
    (
        (("Łukasz", "lukasz"), ("Žofie", "zofie"), ("Ağan", "agan")),
        (("Wójcik", "wojcik"), ("Dvořáková", "dvorakova"), ("Şahin", "sahin")),
    ),
    (
        (("Ελένη", "eleni"), ("Дмитрий", "dmitri"), ("太郎", "taro")),
        (("Παπαδοπούλου", "papadopoulou"), ("Иванов", "ivanov"), ("山田", "yamada")),
    ),
    (
        (("ליאת", "liat"), ("يوسف", "yusuf"), ("Thảo", "thao"), ("Seán", "sean")),
        (("כהן", "cohen"), ("حداد", "haddad"), ("Nguyễn", "nguyen"), ("O'Brien", "obrien")),
    ),
)
_DEPARTMENTS = ("Sales", "Research + Development", "Legal, Tax", "IT")


class Person(NamedTuple):
    """A sample person; `uid` is unique."""

    uid: str
    given_name: str
    family_name: str
    department: str
    number: int


def generate_people(count: int) -> Iterator[Person]:
    """So many people, the first one being the sample user."""
    names = [(given, family) for givens, families in _NAMES for family, given in product(families, givens)]
    for number in range(count):
        (given, given_ascii), (family, family_ascii) = names[number % len(names)]
        round_number = number // len(names)
        uid = f"{given_ascii}.{family_ascii}" + (str(round_number + 1) if round_number else "")
        if round_number % 2:  # decomposed letters are as right as composed ones
            family = unicodedata.normalize("NFD", family)
        yield Person(uid, given, family, _DEPARTMENTS[number % len(_DEPARTMENTS)], number)


def password_of(person: Person) -> str:
    """The person's sample password."""
    return SAMPLE_PASSWORD if person.uid == SAMPLE_USER else f"Pass-{person.uid}"


def sample_directory(count: int) -> Store:
    """A directory of so many people below `ou=people`, by department, and the account that reads it."""
    store = Store(BASE)
    store.add(BASE, {"objectClass": ["dcObject", "organization"], "dc": ["example"], "o": ["Example"]})
    store.add(READER_DN, {"objectClass": ["device"], "cn": ["reader"], "userPassword": [READER_PASSWORD]})
    people = f"ou=people,{BASE}"
    store.add(people, {"objectClass": ["organizationalUnit"], "ou": ["people"]})
    for department in _DEPARTMENTS:
        name = f"ou={escape_attribute_value(department)},{people}"
        store.add(name, {"objectClass": ["organizationalUnit"], "ou": [department]})
    for person in generate_people(count):
        store.add(_dn_of(person, people), _attributes_of(person))
    return store


def _dn_of(person: Person, people: str) -> str:
    """By uid; every tenth by name and uid, as a multi-valued RDN with letters that need escaping."""
    department = escape_attribute_value(person.department)
    if person.number % 10 == 9:  # noqa: PLR2004
        cn = escape_attribute_value(f"{person.family_name}, {person.given_name}")
        return f"cn={cn}+uid={person.uid},ou={department},{people}"
    return f"uid={person.uid},ou={department},{people}"


def _attributes_of(person: Person) -> dict[str, list[str]]:
    full_name = f"{person.given_name} {person.family_name}"
    found = {
        "objectClass": ["top", "person", "organizationalPerson", "inetOrgPerson"],
        "uid": [person.uid],
        "cn": [f"{person.family_name}, {person.given_name}", full_name],
        "sn": [person.family_name],
        "givenName": [person.given_name],
        "displayName": [full_name],
        "userPassword": [password_of(person)],
    }
    if person.number % 50 != 49:  # noqa: PLR2004 - some people have no mail
        found["mail"] = [f"{person.uid}@example.com"]
        if person.number % 3 == 0:
            found["mail"].append(f"{person.uid}@example.org")
    if person.number % 100 == 98:  # noqa: PLR2004 - and a few are locked out by an administrator
        found["pwdAccountLockedTime"] = ["000001010000Z"]
    return found
