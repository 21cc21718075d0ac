from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.directory import Entry
from bridge.errors import EntryUnusable
from bridge.mapping import AccountState, AddressRules, AttributeMap, IdForm, MappingError, parse_item
from bridge.model import Rejection, User
from bridge.syntax.times import TimeForm

VALUES = {
    "uid": ["Anna"],
    "givenname": ["Anna Maria"],
    "sn": ["Müller"],
    "mail": ["a@example.com", "b@example.org"],
    "empty": [""],
    "proxyaddresses": ["smtp:x@example.com", "SMTP:y@example.com"],
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("uid", ["Anna"]),
        ("UID", ["Anna"]),
        ("missing", []),
        ("mail", ["a@example.com", "b@example.org"]),
        ("{uid}", ["Anna"]),
        ("{givenName} {sn}", ["Anna Maria Müller"]),
        ("{givenName} {missing}", []),
        ("{empty}", []),
        ("x{empty}", []),
        ("{uid|lower}", ["anna"]),
        ("{uid|upper}", ["ANNA"]),
        ("{ uid | lower }", ["anna"]),
        ("{mail|localpart}", ["a", "b"]),
        ("{mail|domain}", ["example.com", "example.org"]),
        ("{mail|domain|upper}", ["EXAMPLE.COM", "EXAMPLE.ORG"]),
        ("{mail|first}", ["a@example.com"]),
        ("{uid|localpart}", ["Anna"]),
        ("{uid|domain}", []),
        ("{proxyAddresses|primary}", ["y@example.com"]),
        ("{mail|primary}", ["a@example.com"]),
        ("{mail}x{mail}", ["a@example.comxa@example.com"]),
        ("{{{uid}}}", ["{Anna}"]),
    ],
)
def test_item_takes_from_an_entry_what_it_says(text: str, expected: list[str]) -> None:
    """The whole grammar: attributes, templates, operations one after the other, braces."""
    assert parse_item(text).values(VALUES) == expected


@pytest.mark.parametrize(
    "text", ["", "two words", "{", "}", "{uid", "uid}", "{}", "{ä}", "{uid|}", "{uid|nope}", "{{x}}", "{a{b}}"]
)
def test_parse_item_refuses_what_is_none(text: str) -> None:
    """A misspelt item is told, never taken for text."""
    with pytest.raises(MappingError):
        parse_item(text)


@pytest.mark.parametrize(
    ("values", "rules", "addresses", "unusable"),
    [
        (["a@e.com", "b@e.com"], AddressRules(), ("a@e.com", "b@e.com"), 0),
        (["b@e.com", "A@e.com", "a@E.com"], AddressRules(), ("b@e.com", "A@e.com"), 0),
        (["smtp:b@e.com", "SMTP:a@e.com"], AddressRules(), ("a@e.com", "b@e.com"), 0),
        (["b@e.com", "SMTP:b@e.com", "smtp:c@e.com"], AddressRules(), ("b@e.com", "c@e.com"), 0),
        (["X500:/o=x", "SIP:a@e.com", "EUM:1", "x400:c=de", "sip:b@e.com"], AddressRules(), (), 0),
        ([" a@e.com ", "\ta@e.com"], AddressRules(), ("a@e.com",), 0),
        (["no address", "@e.com", "a@", "a@b@c", "", "a b@e.com"], AddressRules(), (), 5),
        (["ä@müller.de", "x@xn--mller-kva.de"], AddressRules(), ("ä@müller.de", "x@xn--mller-kva.de"), 0),
        (["O'Brien+x@e.com", '"a b"@e.com'], AddressRules(), ("O'Brien+x@e.com", '"a b"@e.com'), 0),
        (["A@E.com"], AddressRules(lowercase=True), ("a@e.com",), 0),
        (["a@e.com", "a@x.com", "a@E.COM"], AddressRules(domains=frozenset({"e.com"})), ("a@e.com",), 0),
        (
            ["a@xn--mller-kva.de", "a@sub.müller.de"],
            AddressRules(domains=frozenset({"müller.de"})),
            ("a@xn--mller-kva.de",),
            0,
        ),
    ],
)
def test_addresses_are_chosen_in_order(
    values: list[str], rules: AddressRules, addresses: tuple[str, ...], unusable: int
) -> None:
    """Prefixes, order, duplicates, domains: the first address is the primary one."""
    assert rules.choose(values) == (addresses, unusable)


@given(st.lists(st.text(max_size=12) | st.sampled_from(["a@e.com", "A@e.com", "SMTP:b@e.com", "smtp:c@e.com"])))
def test_addresses_are_addresses_without_duplicates(values: list[str]) -> None:
    """Whatever a directory holds, what comes out has an at sign, no blanks around, and no twin."""
    addresses, _ = AddressRules().choose(values)
    assert all("@" in address and address == address.strip() for address in addresses)
    assert len({address.lower() for address in addresses}) == len(addresses)


STATES = (
    AccountState(Rejection.ACCOUNT_DISABLED, "userAccountControl", bit=2),
    AccountState(Rejection.ACCOUNT_LOCKED, "locked", equals="TRUE"),
    AccountState(Rejection.ACCOUNT_EXPIRED, "expired"),
)
MAP = AttributeMap(
    "entryUUID",
    (parse_item("uid"), parse_item("{mail|localpart}")),
    (parse_item("displayName"), parse_item("{givenName} {sn}")),
    (parse_item("mail"),),
    account_states=STATES,
)


def entry(dn: str = "uid=a,dc=e", **attributes: list[bytes]) -> Entry:
    return Entry(dn, {"entryuuid": [b"id-1"], "uid": [b"anna"], **attributes})


def test_attribute_map_asks_for_each_attribute_once() -> None:
    """A listing names what the mapping needs, and no more: a lock, which takes nobody out of the list, isn't asked for."""
    names = ("entryUUID", "uid", "mail", "displayName", "givenName", "sn", "userAccountControl", "expired")
    assert MAP.attributes == names
    assert MAP.user_name_attribute is None
    assert AttributeMap(None, (parse_item("uid"),)).user_name_attribute == "uid"


@pytest.mark.parametrize(
    ("form", "value", "expected"),
    [
        (TimeForm.FILETIME, b"116444736010000000", True),
        (TimeForm.FILETIME, b"116444736010000001", False),
        (TimeForm.FILETIME, b"0", False),
        (TimeForm.FILETIME, b"9223372036854775807", False),
        (TimeForm.GENERALIZED_TIME, b"19700101000001Z", True),
        (TimeForm.GENERALIZED_TIME, b"19700101000002Z", False),
        (TimeForm.GENERALIZED_TIME, b"soon", False),
        (TimeForm.DAYS, b"0", True),
        (TimeForm.DAYS, b"1", False),
        (TimeForm.DAYS, b"\xff", False),
    ],
)
def test_account_ends_at_its_time(form: TimeForm, value: bytes, expected: bool) -> None:
    """From the moment on that the attribute names, by the clock; never, where it names none."""
    state = AccountState(Rejection.ACCOUNT_EXPIRED, "ends", past=form)
    assert state.applies(entry(ends=[value]), 1.0) is expected
    assert not state.applies(entry(), 1.0)


@pytest.mark.parametrize("value", [b"9" * 5000, b"-" + b"9" * 5000, b"0" * 5000, b"2" * 21, b"", b"-", b"2 ", b"\xb2"])
@pytest.mark.parametrize(
    "state",
    [
        AccountState(Rejection.ACCOUNT_DISABLED, "number", bit=2),
        *(AccountState(Rejection.ACCOUNT_EXPIRED, "number", past=form) for form in TimeForm),
    ],
)
def test_number_that_no_directory_means_is_none(state: AccountState, value: bytes) -> None:
    """Python itself refuses to read some of them."""
    assert not state.applies(entry(number=[value]), 1.0)


def test_only_lasting_states_exclude() -> None:
    """A lock bars the login and leaves the user in the list; of two states, each question has its own answer."""
    locked, expired = entry(locked=[b"true"]), entry(locked=[b"TRUE"], expired=[b"x"])
    assert (MAP.account_rejection(locked, 0.0), MAP.exclusion(locked, 0.0)) == (Rejection.ACCOUNT_LOCKED, None)
    assert MAP.account_rejection(expired, 0.0) is Rejection.ACCOUNT_LOCKED
    assert MAP.exclusion(expired, 0.0) is Rejection.ACCOUNT_EXPIRED
    assert MAP.exclusion(entry(), 0.0) is None


def test_map_entry_makes_a_user() -> None:
    """The first non-empty item counts for names, all values for addresses."""
    mapped = MAP.map_entry(entry(givenname=[b"Anna"], sn=["Müller".encode()], mail=[b"z@e.com", b"a@e.com"]))
    assert mapped.user == User("id-1", "anna", "uid=a,dc=e", "Anna Müller", ("z@e.com", "a@e.com"))
    assert mapped.remarks == ()


def test_map_entry_falls_back_to_the_next_item() -> None:
    """No uid: the mail's local part; no name: none."""
    mapped = MAP.map_entry(entry(uid=[b""], mail=[b"fallback@e.com"]))
    assert (mapped.user.user_name, mapped.user.full_name) == ("fallback", None)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"uid": []}, "no_user_name"),
        ({"uid": [b""]}, "no_user_name"),
        ({"uid": [b"\xff"]}, "no_user_name"),
        ({"uid": [b" anna"]}, "bad_user_name"),
        ({"uid": [b"anna "]}, "bad_user_name"),
        ({"uid": [b"an\nna"]}, "bad_user_name"),
        ({"uid": [b"an\0na"]}, "bad_user_name"),
        ({"uid": ["an\u2028na".encode()]}, "bad_user_name"),
        ({"dn": "uid=\udcff"}, "bad_dn"),
        ({"entryuuid": []}, "id_missing"),
        ({"entryuuid": [b"1", b"2"]}, "id_missing"),
        ({"entryuuid": [b"\xff"]}, "id_missing"),
        ({"entryuuid": [b""]}, "id_missing"),
        ({"mail": [b"%d@e.com" % number for number in range(10_001)]}, "too_many_values"),
        ({"displayname": [b"%d" % number for number in range(10_001)]}, "too_many_values"),
        ({"uid": [b"%d" % number for number in range(10_001)]}, "too_many_values"),
    ],
)
def test_map_entry_tells_why_an_entry_makes_no_user(attributes: dict[str, object], reason: str) -> None:
    """Each reason has its word, which the report counts."""
    with pytest.raises(EntryUnusable) as caught:
        MAP.map_entry(entry(**attributes))  # type: ignore[arg-type]
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("attributes", "remarks"),
    [
        ({"mail": [b"no address"]}, ("bad_address",)),
        ({"displayname": [b"\xff"]}, ("value_not_utf8",)),
        ({"uid": [b"a/b"]}, ("user_name_replaced_in_archive",)),
        ({"uid": [b"a|b"], "mail": [b"x"]}, ("user_name_replaced_in_archive", "bad_address")),
    ],
)
def test_map_entry_remarks_what_should_be_known(attributes: dict[str, list[bytes]], remarks: tuple[str, ...]) -> None:
    """The user is listed all the same."""
    assert MAP.map_entry(entry(**attributes)).remarks == remarks


def test_map_entry_requires_an_address_where_that_is_configured() -> None:
    """With `emails.require`, somebody without an address makes no user; its twin makes one."""
    found = AttributeMap(None, (parse_item("uid"),), (), (parse_item("mail"),), addresses=AddressRules(require=True))
    with pytest.raises(EntryUnusable):
        found.map_entry(entry())
    assert found.map_entry(entry(mail=[b"a@e.com"])).user.id == "uid=a,dc=e"


def test_guid_becomes_text_as_active_directory_writes_it() -> None:
    """The first three fields are little-endian (MS-DTYP §2.3.4.2)."""
    found = AttributeMap("objectGUID", (parse_item("uid"),), id_form=IdForm.GUID)
    value = bytes(range(16))
    assert found.id_of(entry(objectguid=[value])) == "03020100-0504-0706-0809-0a0b0c0d0e0f"
    with pytest.raises(EntryUnusable):
        found.id_of(entry(objectguid=[b"short"]))


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, None),
        ({"useraccountcontrol": [b"512"]}, None),
        ({"useraccountcontrol": [b"514"]}, Rejection.ACCOUNT_DISABLED),
        ({"useraccountcontrol": [b"nonsense"]}, None),
        ({"locked": [b"true"]}, Rejection.ACCOUNT_LOCKED),
        ({"locked": [b"false"]}, None),
        ({"expired": [b""]}, Rejection.ACCOUNT_EXPIRED),
    ],
)
def test_account_states_are_tested_as_the_preset_says(
    attributes: dict[str, list[bytes]], expected: Rejection | None
) -> None:
    """A bit, a value, or the attribute being there at all."""
    assert MAP.account_rejection(entry(**attributes), 0.0) is expected


@given(
    st.dictionaries(
        st.sampled_from(["uid", "mail", "displayname", "sn", "entryuuid"]), st.lists(st.binary(max_size=9), max_size=3)
    )
)
def test_map_entry_makes_a_user_or_tells_why_for_any_entry(attributes: dict[str, list[bytes]]) -> None:
    """No bytes in a directory end the program; who is listed has a clean name."""
    with contextlib.suppress(EntryUnusable):
        user = MAP.map_entry(Entry("cn=x", attributes)).user
        assert user.user_name == user.user_name.strip(" ")
        assert user.id


_ODD_VALUES = """\
anna
anna.m
 anna
a<b
a\x1fb

\xff
Müller
a@example.com
A@example.com
SMTP:b@example.com
x500:c
no address"""
odd_values = st.lists(st.sampled_from([line.encode("latin-1") for line in _ODD_VALUES.split("\n")]), max_size=3)


@given(
    st.sampled_from(["uid=a", "uid=\u00fc", "uid=\udcff"]),
    st.dictionaries(st.sampled_from(["uid", "displayname", "cn", "mail", "entryuuid"]), odd_values),
    st.builds(AddressRules, st.sampled_from([frozenset(), frozenset({"example.com"})]), st.booleans(), st.booleans()),
    st.sampled_from([("entryUUID", IdForm.TEXT), ("entryUUID", IdForm.GUID), (None, IdForm.TEXT)]),
)
def test_short_way_makes_the_user_that_the_long_one_makes(
    dn: str, attributes: dict[str, list[bytes]], rules: AddressRules, id_rule: tuple[str | None, IdForm]
) -> None:
    """Plain entries are mapped in fewer steps, and none of them is mapped otherwise."""
    items = {name: (parse_item(name),) for name in ("uid", "mail")}
    full_name = (parse_item("displayName"), parse_item("cn"))
    short = AttributeMap(id_rule[0], items["uid"], full_name, items["mail"], id_rule[1], rules)
    long = AttributeMap(id_rule[0], items["uid"], full_name, items["mail"], id_rule[1], rules)
    object.__setattr__(long, "_plain", None)

    def outcome(attribute_map: AttributeMap) -> object:
        try:
            return attribute_map.map_entry(Entry(dn, attributes))
        except EntryUnusable as error:
            return (error.reason, error.detail)

    assert outcome(short) == outcome(long)
