from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.syntax import ber
from bridge.syntax.filter_ber import decode_filter, encode_filter
from bridge.syntax.filters import (
    And,
    Approximate,
    Equal,
    Extensible,
    Filter,
    FilterError,
    GreaterOrEqual,
    LessOrEqual,
    Not,
    Or,
    Present,
    Substrings,
    attributes_of,
    parse_filter,
    parse_filter_template,
    render_filter,
)

names = st.from_regex(r"[a-zA-Z][a-zA-Z0-9-]{0,8}(;[a-z0-9-]{1,5})?", fullmatch=True)
values = st.binary(max_size=12) | st.text(max_size=8).map(str.encode)
pieces = st.binary(min_size=1, max_size=5)
substrings = st.builds(
    Substrings, names, st.none() | pieces, st.lists(pieces, max_size=3).map(tuple), st.none() | pieces
).filter(lambda tree: tree.initial or tree.middle or tree.final)
leaves: st.SearchStrategy[Filter] = st.one_of(
    st.builds(Equal, names, values),
    st.builds(GreaterOrEqual, names, values),
    st.builds(LessOrEqual, names, values),
    st.builds(Approximate, names, values),
    st.builds(Present, names),
    substrings,
    st.builds(Extensible, names, st.none() | names.filter(lambda name: name.lower() != "dn"), values, st.booleans()),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(And, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Not, inner),
    ),
    max_leaves=8,
)

REALISTIC = {
    "(objectClass=*)": Present("objectClass"),
    "(uid=anna)": Equal("uid", b"anna"),
    "(&(objectClass=person)(!(uid=x)))": And((Equal("objectClass", b"person"), Not(Equal("uid", b"x")))),
    "(|(uid=a)(mail=a@b))": Or((Equal("uid", b"a"), Equal("mail", b"a@b"))),
    "(cn=M*ll*r)": Substrings("cn", b"M", (b"ll",), b"r"),
    "(cn=*x*)": Substrings("cn", None, (b"x",), None),
    "(cn;lang-de=Müller)": Equal("cn;lang-de", "Müller".encode()),
    r"(cn=a\2ab\28\29\5c)": Equal("cn", rb"a*b()" + b"\\"),
    "(userAccountControl:1.2.840.113556.1.4.803:=2)": Extensible("userAccountControl", "1.2.840.113556.1.4.803", b"2"),
    "(ou:dn:caseIgnoreMatch:=x)": Extensible("ou", "caseIgnoreMatch", b"x", dn_attributes=True),
    "(:caseExactMatch:=x)": Extensible(None, "caseExactMatch", b"x"),
    "(age>=5)": GreaterOrEqual("age", b"5"),
    "(age<=5)": LessOrEqual("age", b"5"),
    "(cn~=x)": Approximate("cn", b"x"),
    "(&)": And(()),
    "(|)": Or(()),
    "(uid=)": Equal("uid", b""),
    "(uid= a )": Equal("uid", b" a "),
    "  (uid=a)\n": Equal("uid", b"a"),
    r"(objectGUID=\00\ff)": Equal("objectGUID", b"\x00\xff"),
}


@pytest.mark.parametrize(("text", "tree"), REALISTIC.items())
def test_parse_filter_gives_the_tree_for_each_form(text: str, tree: Filter) -> None:
    """Each form of RFC 4515 §3 becomes its own node."""
    assert parse_filter(text) == tree


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'(' is missing at character 1"),
        ("uid=a", "'(' is missing at character 1"),
        ("(uid=a", "')' is missing at character 7"),
        ("(uid=a))", "something follows the end of the filter at character 8"),
        ("(uid=a)(uid=b)", "something follows"),
        ("(uid)", "an attribute and '=' are missing"),
        ("(=x)", "'' is no attribute description"),
        ("(u id=x)", "'u id' is no attribute description"),
        ("(uid=a(b)", "')' is missing at character 7"),
        (r"(uid=a\zz)", "two hexadecimal digits"),
        ("(uid=a\\)", "two hexadecimal digits"),
        ("(uid=a**b)", "two '*' stand beside each other"),
        ("(uid=**)", "two '*' stand beside each other"),
        ("(uid>=a*)", "'*' must be written"),
        ("(!(a=b)(c=d))", "'!' takes exactly one filter"),
        ("(!)", "'!' takes exactly one filter"),
        ("(:=x)", "is no attribute with a matching rule"),
        ("(a:b:c:=x)", "is no attribute with a matching rule"),
        ("(a:b c:=x)", "'b c' is no attribute description"),
        ("(&" * 60 + ")" * 60, "nested deeper than 50"),
    ],
)
def test_parse_filter_tells_the_place_of_a_fault(text: str, message: str) -> None:
    """What is no filter is refused with the fault and its place."""
    with pytest.raises(FilterError) as caught:
        parse_filter(text)
    assert message in str(caught.value)


@given(trees)
def test_render_filter_and_parse_filter_are_inverse(tree: Filter) -> None:
    """Whatever bytes a value holds, the text of a tree is parsed back to the tree."""
    assert parse_filter(render_filter(tree)) == tree


@given(trees)
def test_encode_filter_and_decode_filter_are_inverse(tree: Filter) -> None:
    """The BER of a tree is read back to the tree."""
    reader = ber.Reader(encode_filter(tree))
    assert decode_filter(reader) == tree
    assert reader.at_end


@given(st.binary(max_size=40))
def test_decode_filter_takes_or_refuses_any_bytes(data: bytes) -> None:
    """Bytes either are a filter or raise BerError; nothing else happens."""
    try:
        tree = decode_filter(ber.Reader(data))
    except ber.BerError:
        return
    assert decode_filter(ber.Reader(encode_filter(tree))) == tree


@pytest.mark.parametrize(
    "data",
    [
        b"\xaa\x00",
        b"\xa2\x00",
        b"\xa4\x05\x04\x01a\x30\x00",
        b"\xa3\x07\x04\x01a\x04\x01b\x00",
        b"\xa3\x06\x04\x01\xff\x04\x01b",
        b"\xa4\x09\x04\x01a\x30\x04\x82\x00\x80\x00",
        b"\xa0\x02" * 60,
    ],
)
def test_decode_filter_refuses_what_breaks_the_grammar(data: bytes) -> None:
    """Well-formed BER that is no filter is refused."""
    with pytest.raises(ber.BerError):
        decode_filter(ber.Reader(data))


def test_decode_filter_refuses_nesting_beyond_its_limit() -> None:
    """A filter nested deeper than any that makes sense can't exhaust the stack."""
    data = encode_filter(Present("a"))
    for _ in range(60):
        data = ber.write_element(0xA2, data)
    with pytest.raises(ber.BerError, match="too deeply"):
        decode_filter(ber.Reader(data))


@given(st.text())
def test_filter_template_keeps_the_shape_whatever_is_typed(user_name: str) -> None:
    """A user name, whatever it holds, becomes a value and nothing else (no injection)."""
    template = parse_filter_template("(|(uid={user})(mail={user}@example.com)(!(cn=a*{user}*{user})))")
    typed = user_name.encode()
    assert template.fill(user_name) == Or(
        (
            Equal("uid", typed),
            Equal("mail", typed + b"@example.com"),
            Not(Substrings("cn", b"a", (typed,), typed)),
        )
    )


def test_filter_template_fills_every_kind_of_assertion() -> None:
    """A placeholder counts in each node that has a value, and static parts stay as they are."""
    template = parse_filter_template("(&(objectClass=*)(a>={user})(b:caseExactMatch:={user})(c={user}*))")
    assert template.fill("x") == And(
        (
            Present("objectClass"),
            GreaterOrEqual("a", b"x"),
            Extensible("b", "caseExactMatch", b"x"),
            Substrings("c", b"x", (), None),
        )
    )


def test_filter_template_refuses_a_filter_without_placeholder() -> None:
    """A login filter that is the same for everybody would let one user in as another."""
    with pytest.raises(FilterError, match="no assertion value holds"):
        parse_filter_template("(uid=anna)")


def test_attributes_of_names_what_a_filter_asks_about() -> None:
    """Each attribute once, in lower case; a rule without attribute names none."""
    tree = parse_filter("(&(uid=a)(|(Mail=*)(!(CN=x*)))(:caseExactMatch:=x))")
    assert attributes_of(tree) == {"uid", "mail", "cn"}
