from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ldap3.utils.dn import parse_dn as ldap3_parse_dn

from bridge.syntax.dn import (
    DNError,
    dn_key,
    escape_attribute_value,
    is_at_or_below,
    normalize_dn,
    parse_dn,
    render_dn,
)

AWKWARD = [
    "Müller",
    "Mu\u0308ller",
    "😀",
    ',+"\\<>;=#*()',
    " leading",
    "trailing ",
    "  both  ",
    "#hash",
    "",
    " ",
    "  ",
    "a\0b",
    "line\nbreak",
    "\\",
    "\\ ",
    "a=b",
    "\x7f",
]

values = st.tuples(st.sampled_from(["cn", "ou", "2.5.4.3"]), st.binary(max_size=8))
dns = st.lists(st.lists(values, min_size=1, max_size=2).map(tuple), max_size=3).map(tuple)


@pytest.mark.parametrize("value", AWKWARD)
def test_escape_attribute_value_is_read_back(value: str) -> None:
    """Each awkward value, the empty one and NUL too, comes back from a DN as it went in (RFC 4514 §2.4)."""
    assert parse_dn(f"cn={escape_attribute_value(value)},dc=example") == (
        (("cn", value.encode()),),
        (("dc", b"example"),),
    )


@given(st.text())
def test_escape_attribute_value_is_read_back_for_any_text(value: str) -> None:
    """No text can break out of its place in a DN."""
    assert parse_dn(f"cn={escape_attribute_value(value)}+sn=x,dc=e")[0] == (("cn", value.encode()), ("sn", b"x"))


@given(st.text(min_size=1).filter(lambda text: "#" not in text[1:]))
def test_escape_attribute_value_is_one_component_for_ldap3(value: str) -> None:
    """Another parser takes our text for one component, too (ldap3 wants each `#` escaped, RFC 4514 the first)."""
    assert len(ldap3_parse_dn(f"cn={escape_attribute_value(value)},dc=e")) == 2


@given(dns)
def test_render_dn_and_parse_dn_are_inverse(name: tuple[tuple[tuple[str, bytes], ...], ...]) -> None:
    """Names with bytes that are no text are written in hexadecimal and read back."""
    assert parse_dn(render_dn(name)) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", ()),
        ("  ", ()),
        ("uid=a,dc=b", ((("uid", b"a"),), (("dc", b"b"),))),
        ("UID = a , DC=b", ((("UID", b"a"),), (("DC", b"b"),))),
        ("cn=a+uid=b,dc=c", ((("cn", b"a"), ("uid", b"b")), (("dc", b"c"),))),
        ('cn="a,b",dc=c', ((("cn", b"a,b"),), (("dc", b"c"),))),
        ("cn=a;dc=c", ((("cn", b"a"),), (("dc", b"c"),))),
        (r"cn=Lu\C4\8Di\C4\87", ((("cn", "Lučić".encode()),),)),
        ("1.3.6.1.4.1.1466.0=#04024869", ((("1.3.6.1.4.1.1466.0", b"Hi"),),)),
        ("cn=a\\ ", ((("cn", b"a "),),)),
        ("cn=a\\\\ ", ((("cn", b"a\\"),),)),
        ("cn=", ((("cn", b""),),)),
    ],
)
def test_parse_dn_reads_each_notation(text: str, name: object) -> None:
    """The notations of RFC 4514 §3, and the older ones of RFC 2253 §4, are read."""
    assert parse_dn(text) == name


@pytest.mark.parametrize(
    "text", ["a", "=a", "cn=a,", ",", 'cn="a', "cn=a\\", "cn=#0", "cn=#zz", "cn=#0405", "c n=a", "cn=\udcff"]
)
def test_parse_dn_refuses_what_is_no_name(text: str) -> None:
    """What is no DN is refused rather than repaired."""
    with pytest.raises(DNError):
        parse_dn(text)


def test_normalize_dn_unites_spellings_of_one_name() -> None:
    """Case, blanks around separators and the order inside a multi-valued RDN don't matter."""
    assert normalize_dn("CN=A  B+UID=x , DC=Example") == normalize_dn("uid=X+cn=a b,dc=example")
    assert normalize_dn("cn=ab,dc=example") != normalize_dn("cn=a b,dc=example")


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("uid=anna,ou=people,dc=e", "UID=Anna, OU=People, DC=e", True),
        ("CN=M\u00fcller\\, Anna,DC=e", "cn=M\u00dcLLER\\2C  anna , dc=e", True),
        ("cn=a+uid=b,dc=e", "UID=B+CN=A,dc=e", True),
        ("cn=#040161,dc=e", "cn=A,dc=e", True),
        ('cn="a,b",dc=e', "cn=a\\,b,dc=e", True),
        ("cn=a\\ ,dc=e", "cn=a,dc=e", True),
        ("cn=a\\,b,dc=e", "cn=a,cn=b,dc=e", False),
        ("cn=a\\=b,dc=e", "cn=a,dc=e", False),
        ("cn=ab,dc=e", "cn=a b,dc=e", False),
        ("no name", "No Name", False),
        ("7=a", "7=A", False),
        ("2.5.4.3=a", "2.5.4.3=A", True),
        ("cn=\udcff", "cn=\udcff", True),
        ("cn=x\\00\udcff", "cn=x\\00\udcff", True),
    ],
)
def test_dn_key_unites_spellings_of_one_name(one: str, other: str, is_same: bool) -> None:
    """Plain names and all others have one kind of key, whichever way it is made; what is no name equals itself."""
    assert (dn_key(one) == dn_key(other)) is is_same


spellings = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from(["cn", "CN", "ou"]), st.text('aAß \u00a0,+\\=#"', max_size=3).map(escape_attribute_value)
        ).map("=".join),
        min_size=1,
        max_size=2,
    ).map("+".join),
    min_size=1,
    max_size=2,
).flatmap(lambda rdns: st.sampled_from([",", ", "]).map(lambda separator: separator.join(rdns)))


@given(spellings, spellings)
def test_dn_key_is_the_same_exactly_where_the_names_are(one: str, other: str) -> None:
    """The short way gives what the long way gives."""
    assert (dn_key(one) == dn_key(other)) is (normalize_dn(one) == normalize_dn(other))
    assert dn_key(one) == dn_key(render_dn(parse_dn(one)))


@pytest.mark.parametrize(
    ("text", "base", "expected"),
    [
        ("uid=a,ou=p,dc=e", "OU=P,dc=e", True),
        ("ou=p,dc=e", "ou=p,dc=e", True),
        ("dc=e", "ou=p,dc=e", False),
        ("uid=a,ou=q,dc=e", "ou=p,dc=e", False),
        ("uid=a,xou=p,dc=e", "ou=p,dc=e", False),
        ("uid=a", "", True),
    ],
)
def test_is_at_or_below_compares_whole_components(text: str, base: str, expected: bool) -> None:
    """An entry lies below a base if the base's components end its name."""
    assert is_at_or_below(text, base) is expected
