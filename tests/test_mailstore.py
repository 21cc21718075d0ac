from __future__ import annotations

import base64
import gzip
import json
from urllib.parse import quote_from_bytes, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import errors
from bridge.errors import BridgeError, CallerRejected, Malformed, TooLarge, UnknownCommand
from bridge.mailstore import (
    BODY_LIMIT_BYTES,
    AuthCommand,
    Credentials,
    ListCommand,
    compress,
    parse_caller,
    parse_command,
    render_error,
    render_verdict,
)
from bridge.model import Accepted, Rejected, Rejection, Secret, User
from bridge.roster.builder import RosterBuilder
from bridge.roster.merging import merge_rosters
from bridge.roster.roster import Roster

FORM = "application/x-www-form-urlencoded"


def basic(data: bytes) -> str:
    return "Basic " + base64.b64encode(data).decode()


@pytest.mark.parametrize(
    ("header", "username", "password"),
    [
        (basic(b"mailstore:secret"), "mailstore", b"secret"),
        (basic("müller:²ﬁ".encode()), "müller", "²ﬁ".encode()),
        (basic(b"a:b:c"), "a", b"b:c"),
        (basic(b"a:"), "a", b""),
        (basic(b":p"), "", b"p"),
        ("basic  " + base64.b64encode(b"a: b ").decode(), "a", b" b "),
        (" BASIC " + base64.b64encode(b"a:b").decode() + " ", "a", b"b"),
    ],
)
def test_parse_caller_reads_basic_credentials(header: str, username: str, password: bytes) -> None:
    """Name and password are split at the first colon, in UTF-8 (RFC 7617 §2)."""
    assert parse_caller(header) == Credentials(username, Secret(password))


def test_parse_caller_tells_a_missing_header_from_a_wrong_one() -> None:
    """The first call of a .NET program has none."""
    assert parse_caller(None) is None


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic ",
        "Bearer x",
        "Basic !!!",
        "Basic YTpiY",
        basic(b"nocolon"),
        basic(b"a:\xff"),
        basic(b"\xff:a"),
        "Basic ä",
    ],
)
def test_parse_caller_refuses_what_it_cannot_read(header: str) -> None:
    """Bytes that are no UTF-8, no Base64, another scheme: refused as the caller's fault."""
    with pytest.raises(CallerRejected):
        parse_caller(header)


@pytest.mark.parametrize(
    "content_type", [None, "", FORM, FORM.upper(), f"{FORM}; charset=utf-8", f'{FORM};charset="UTF-8"']
)
def test_parse_command_takes_a_form(content_type: str | None) -> None:
    """A missing content type is a form, too."""
    assert parse_command(b"cmd=list", content_type) == ListCommand()


@pytest.mark.parametrize(
    ("body", "user", "password"),
    [
        (b"cmd=auth&user=john.doe&pass=Passw0rd", "john.doe", b"Passw0rd"),
        (b"pass=a&user=b&cmd=auth", "b", b"a"),
        (b"cmd=auth&user=a+b&pass=c%20d+", "a b", b"c d "),
        (b"cmd=auth&user=%C3%BC&pass=%C3%9F%26%3D%2B%25", "ü", "ß&=+%".encode()),
        (b"cmd=auth&user=\xc3\xbc&pass=\xc3\x9f", "ü", "ß".encode()),
        (b"cmd=auth&user=a&pass=", "a", b""),
        (b"cmd=auth&user=&pass=x", "", b"x"),
        (b"cmd=auth&user=a&pass=b=c", "a", b"b=c"),
        (b"cmd=auth&user=a&pass=b&other=%FF&other=2", "a", b"b"),
        (b"c%6dd=auth&user=a%00&pass=%00", "a\0", b"\0"),
        (b"&cmd=auth&&user=a&pass=b&", "a", b"b"),
        (b"cmd=auth&user=a&pass=m%C2%B2-%EF%AC%81", "a", "m²-ﬁ".encode()),
    ],
)
def test_parse_command_keeps_user_and_password_as_they_were_typed(body: bytes, user: str, password: bytes) -> None:
    """Decoded once, neither trimmed nor normalised; unknown fields are passed over."""
    assert parse_command(body, FORM) == AuthCommand(user, Secret(password))


@given(st.text(), st.text())
def test_parse_command_takes_what_a_form_can_write(user: str, password: str) -> None:
    """Whatever somebody types arrives byte for byte."""
    body = f"cmd=auth&user={quote_plus(user)}&pass={quote_plus(password)}"[:BODY_LIMIT_BYTES].encode()
    assert parse_command(body, FORM) == AuthCommand(user, Secret(password.encode()))


@pytest.mark.parametrize(
    ("body", "content_type", "kind"),
    [
        (b"", FORM, UnknownCommand),
        (b"user=a", FORM, UnknownCommand),
        (b"cmd=", FORM, UnknownCommand),
        (b"cmd=LIST", FORM, UnknownCommand),
        (b"cmd=delete", FORM, UnknownCommand),
        (b"cmd=list&cmd=list", FORM, Malformed),
        (b"cmd=auth&user=a&user=b&pass=c", FORM, Malformed),
        (b"cmd=auth&user=a&pass=b&p%61ss=c", FORM, Malformed),
        (b"cmd=auth&user=a", FORM, Malformed),
        (b"cmd=auth&pass=a", FORM, Malformed),
        (b"cmd=auth&user=%FF&pass=a", FORM, Malformed),
        (b"cmd=auth&user=a&pass=%FF", FORM, Malformed),
        (b"cmd=auth&user=a&pass=\xff", FORM, Malformed),
        (b"cmd=%FF", FORM, Malformed),
        (b"cmd=auth&user=%&pass=a", FORM, Malformed),
        (b"cmd=auth&user=%4&pass=a", FORM, Malformed),
        (b"cmd=auth&user=%zz&pass=a", FORM, Malformed),
        (b"cmd=auth&user=%+1&pass=a", FORM, Malformed),
        (b"cmd=list", "application/json", Malformed),
        (b"cmd=list", "multipart/form-data; boundary=x", Malformed),
        (b"cmd=list", f"{FORM}; charset=iso-8859-1", Malformed),
        (b"cmd=list&x=" + b"x" * BODY_LIMIT_BYTES, FORM, TooLarge),
    ],
)
def test_parse_command_refuses_what_means_nothing_or_two_things(
    body: bytes, content_type: str, kind: type[BridgeError]
) -> None:
    """Each fault of a form has its error."""
    with pytest.raises(kind):
        parse_command(body, content_type)


@given(st.binary(max_size=80), st.binary(min_size=1, max_size=20))
def test_no_error_of_a_form_shows_its_password(user: bytes, password: bytes) -> None:
    """Whatever is wrong with a form, the message holds nothing of it."""
    canary = b"canary" + password
    body = b"cmd=auth&user=" + user + b"&pass=" + quote_from_bytes(canary).encode() + b"%"
    with pytest.raises(errors.RequestError) as caught:
        parse_command(body, FORM)
    assert "canary" not in caught.value.message
    assert "canary" not in repr(caught.value.__cause__)


def test_render_verdict_is_the_same_for_every_reason() -> None:
    """The caller learns yes or no, never why."""
    assert json.loads(render_verdict(Accepted("d", "1"))) == {"succeeded": True}
    assert {render_verdict(Rejected(reason)) for reason in Rejection} == {b'{"succeeded":false}'}


ERRORS = [
    (errors.CallerRejected(), 401, "unauthorized"),
    (errors.CallerElsewhere(), 401, "unauthorized"),
    (errors.Malformed("x"), 400, "bad_request"),
    (errors.UnknownCommand("x"), 400, "bad_request"),
    (errors.NoEndpoint(), 404, "not_found"),
    (errors.TooLarge("x"), 413, "too_large"),
    (errors.TooBusy(), 503, "too_busy"),
    (errors.DirectoryUnavailable("x", directory="d"), 503, "directory_unavailable"),
    (errors.SearchIncomplete("x", directory="d"), 503, "search_incomplete"),
    (errors.SnapshotMissing(), 503, "snapshot_missing"),
    (errors.RemovalsRefused("x", directory="d"), 503, "removals_refused"),
    (errors.DirectoryRefused("x", directory="d"), 502, "directory_refused"),
    (errors.SecretWithheld("x", directory="d"), 502, "directory_refused"),
    (errors.SearchInvalid("x", directory="d"), 502, "search_invalid"),
    (errors.EntryUnusable("x"), 500, "internal"),
    (errors.BridgeError("cause"), 500, "internal"),
]


@pytest.mark.parametrize(("error", "status", "code"), ERRORS, ids=lambda value: type(value).__name__)
def test_render_error_has_a_status_for_each_error(error: BridgeError, status: int, code: str) -> None:
    """One table tells what HTTP says of an error; temporary ones say when to come again."""
    reply = render_error(error, "id1")
    body = json.loads(reply.body)
    assert (reply.status, body["error"], body["request_id"]) == (status, code, "id1")
    assert ("message" in body) is (status != 500)
    assert ("Retry-After" in dict(reply.headers)) is (status == 503)
    if status == 401:
        assert dict(reply.headers)["WWW-Authenticate"].startswith('Basic realm="')
        assert dict(reply.headers)["WWW-Authenticate"].endswith('charset="UTF-8"')


def test_render_error_says_when_to_come_again_where_that_is_known() -> None:
    """Whole seconds, never too early."""
    error = errors.OutcomeUnknown("x", directory="d")
    assert ("Retry-After", "30") in render_error(error, "x").headers
    error.retry_after_s = 1799.2
    assert ("Retry-After", "1800") in render_error(error, "x").headers


def test_render_error_names_directory_server_cause_and_remedy_on_one_line() -> None:
    """What the administrator reads in MailStore tells where to look; what a server has written there can be seen."""
    said = "it\nbroke \x1b]0;x\x07 \x9b2J \u202egnp"
    error = errors.DirectoryUnavailable(said, directory="company", server="ldaps://dc1:636", remedy="Mend it")
    message = json.loads(render_error(error, "x").body)["message"]
    shown = r"it\nbroke \x1b]0;x\x07 \x9b2J \u202egnp"
    assert message == f"The directory can't be asked (directory company, ldaps://dc1:636): {shown}. Mend it."
    long = errors.DirectoryUnavailable("x" * 9000, directory="company")
    assert len(json.loads(render_error(long, "x").body)["message"]) == 2000


def roster(*names: str, prefix: str = "") -> Roster:
    builder = RosterBuilder()
    for name in names:
        builder.add([User(f"{prefix}{name}-id", name, f"uid={name},{prefix}")])
    return builder.build().roster


def test_merge_rosters_of_one_directory_are_its_own_bytes() -> None:
    """What is merged with nothing stays the same."""
    one = roster("b", "a")
    assert merge_rosters({"a": one}, {}).json == one.json


def test_merge_rosters_gives_a_name_to_the_first_directory() -> None:
    """Sorted over all, each name once, whatever its case."""
    merged = merge_rosters({"one": roster("b", "Max", prefix="1"), "two": roster("a", "max", "z", prefix="2")}, {})
    users = json.loads(merged.json)
    assert [user["userName"] for user in users] == ["a", "b", "Max", "z"]
    assert users[2]["distinguishedName"] == "uid=Max,1"
    assert (merged.user_count, merged.holders) == (4, {"max": "one"})


def test_merge_rosters_leaves_a_name_to_whoever_has_it() -> None:
    """By what is recorded; where nothing is, or somebody who doesn't claim it any more, to the first."""
    both = {"one": roster("max", prefix="1"), "two": roster("max", prefix="2")}
    for holders, expected in (({"max": "two"}, "two"), ({"max": "gone"}, "one"), ({}, "one"), ({"max": "one"}, "one")):
        merged = merge_rosters(both, holders)
        assert merged.holders == {"max": expected}
        assert json.loads(merged.json)[0]["distinguishedName"] == f"uid=max,{'1' if expected == 'one' else '2'}"


def test_merge_rosters_of_nobody_is_an_empty_list() -> None:
    """Two empty directories make valid JSON."""
    assert merge_rosters({"a": roster(), "b": roster()}, {}).json == b"[]"


def test_compress_gives_the_same_bytes_each_time() -> None:
    """No time stamp makes two answers differ."""
    assert compress(b"x" * 99) == compress(b"x" * 99)
    assert gzip.decompress(compress(b"abc")) == b"abc"
