"""The whole service in front of a real slapd."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import ssl
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
import trustme

from bridge.syntax.dn import escape_attribute_value
from tests.conftest import StartSlapd
from tests.support.bridges import CALLER, CALLER_PASSWORD, Client, configuration, running_bridge, url_of
from tests.support.slapd import PEOPLE, Entry, Slapd, person

pytestmark = pytest.mark.slapd

MakeCertificate = Callable[..., tuple[Path, Path]]


async def test_list_names_everybody_in_order(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Users come sorted by user name, addresses in the directory's order, and nothing is null."""
    people = [
        person("bert", mail=["b@example.com", "a@example.com"], displayName=["Bert B."]),
        person("Anna", mail=[]),
    ]
    slapd = start_slapd(people)
    async with running_bridge(configuration(slapd.url, tmp_path)) as client:
        assert await client.list_users() == [
            {"userName": "Anna", "distinguishedName": f"uid=Anna,{PEOPLE}", "fullName": "Name of Anna"},
            {
                "userName": "bert",
                "distinguishedName": f"uid=bert,{PEOPLE}",
                "fullName": "Bert B.",
                "emailAddresses": ["b@example.com", "a@example.com"],
            },
        ]


@pytest.mark.parametrize(
    ("user", "password", "expected"),
    [
        ("anna", "Pass-anna", True),
        ("ANNA", "Pass-anna", True),
        ("anna", "Pass-bert", False),
        ("anna", "pass-anna", False),
        ("anna", "Pass-anna ", False),
        ("anna", "", False),
        ("nobody", "Pass-anna", False),
        ("", "Pass-anna", False),
        ("*", "Pass-anna", False),
        ("anna)(uid=*", "Pass-anna", False),
        ("reader", "reads-only", False),
    ],
)
async def test_auth_says_what_slapd_says(
    start_slapd: StartSlapd, tmp_path: Path, user: str, password: str, expected: bool
) -> None:
    """The right password is accepted, and nothing else is."""
    slapd = start_slapd()
    async with running_bridge(configuration(slapd.url, tmp_path)) as client:
        assert await client.auth(user, password) is expected


@pytest.mark.parametrize(("scheme", "starttls"), [("ldaps", None), ("ldap", "required")])
async def test_tls_lists_and_authenticates_with_an_authority_of_its_own(
    start_slapd: StartSlapd,
    tmp_path: Path,
    authority_file: Path,
    make_certificate: MakeCertificate,
    scheme: str,
    starttls: str | None,
) -> None:
    """LDAPS and StartTLS work where the certificate is in order."""
    slapd = start_slapd(certificate=make_certificate())
    lines = f"tls: {{ca_file: {authority_file}}}" + (f"\n    starttls: {starttls}" if starttls else "")
    async with running_bridge(configuration(url_of(slapd, scheme), tmp_path, directory=lines)) as client:
        assert len(await client.list_users()) == 3
        assert await client.auth("anna", "Pass-anna")
        assert not await client.auth("anna", "wrong")


@pytest.mark.parametrize(("scheme", "starttls"), [("ldaps", None), ("ldap", "required")])
@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("other authority", "certificate is not trusted"),
        ("other host", "certificate is not made out to 127.0.0.1"),
        ("expired", "certificate has expired"),
    ],
)
async def test_tls_sends_no_password_to_a_server_with_a_wrong_certificate(
    start_slapd: StartSlapd,
    tmp_path: Path,
    authority_file: Path,
    make_certificate: MakeCertificate,
    scheme: str,
    starttls: str | None,
    fault: str,
    sentence: str,
) -> None:
    """Wrong authority, wrong host name, expired: 503 that says so, for listings and logins."""
    made = {
        "other authority": lambda: make_certificate(signed_by=trustme.CA()),
        "other host": lambda: make_certificate("ldap.example.org"),
        "expired": lambda: make_certificate(expired=True),
    }
    slapd = start_slapd(certificate=made[fault]())
    lines = f"tls: {{ca_file: {authority_file}}}" + (f"\n    starttls: {starttls}" if starttls else "")
    async with running_bridge(configuration(url_of(slapd, scheme), tmp_path, directory=lines)) as client:
        for body in ("cmd=list", "cmd=auth&user=anna&pass=Pass-anna"):
            status, answer = await client.post(body)
            assert (status, answer["error"]) == (503, "directory_unavailable")
            assert sentence in answer["message"]
    log = (slapd.folder / "log").read_text()
    assert "ACCEPT" in log
    assert "BIND dn" not in log


def fingerprint(certificate: Path) -> str:
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text())).digest()
    return digest.hex(":").upper()


@pytest.mark.parametrize(("scheme", "starttls"), [("ldaps", None), ("ldap", "required")])
@pytest.mark.parametrize(
    ("pinned", "has_authority", "certificate", "sentence"),
    [
        ("its own", False, "in order", None),
        ("its own", False, "of another authority, for another name, expired", None),
        ("its own and another", False, "in order", None),
        ("another", False, "in order", "is none of tls.fingerprint_sha256"),
        ("the authority's", False, "in order", "is none of tls.fingerprint_sha256"),
        ("its own", True, "in order", None),
        ("another", True, "in order", "is none of tls.fingerprint_sha256"),
        ("its own", True, "of another authority, for another name, expired", "is not trusted"),
    ],
)
async def test_fingerprint_is_what_the_server_must_have(
    start_slapd: StartSlapd,
    tmp_path: Path,
    authority_file: Path,
    make_certificate: MakeCertificate,
    scheme: str,
    starttls: str | None,
    pinned: str,
    has_authority: bool,
    certificate: str,
    sentence: str | None,
) -> None:
    """By itself it is enough, and beside an authority both must hold; a server that is another one gets no password."""
    strange = {"host": "ldap.example.org", "signed_by": trustme.CA(), "expired": True}
    made = make_certificate() if certificate == "in order" else make_certificate(**strange)
    slapd = start_slapd(certificate=made)
    own, other = fingerprint(made[0]), fingerprint(make_certificate()[0])
    known = {"its own": [own], "another": [other], "its own and another": [other, own.replace(":", "").lower()]}
    prints = known.get(pinned, [fingerprint(authority_file)])
    authority = f"ca_file: {authority_file}, " if has_authority else ""
    lines = f"tls: {{{authority}fingerprint_sha256: {json.dumps(prints)}}}"
    lines += f"\n    starttls: {starttls}" if starttls else ""
    async with running_bridge(configuration(url_of(slapd, scheme), tmp_path, directory=lines)) as client:
        if sentence is None:
            assert len(await client.list_users()) == 3
            assert await client.auth("anna", "Pass-anna")
            assert not await client.auth("anna", "wrong")
            return
        for body in ("cmd=list", "cmd=auth&user=anna&pass=Pass-anna"):
            status, answer = await client.post(body)
            assert (status, answer["error"]) == (503, "directory_unavailable")
            assert sentence in answer["message"]
    log = (slapd.folder / "log").read_text()
    assert "ACCEPT" in log
    assert " BIND " not in log


async def test_ldapi_is_served(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """A server on this machine is reached through its socket."""
    slapd = start_slapd()
    async with running_bridge(configuration(f"ldapi://{slapd.ldapi}", tmp_path)) as client:
        assert len(await client.list_users()) == 3
        assert await client.auth("bert", "Pass-bert")


async def test_bases_default_to_the_naming_context(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Where no base is configured, the directory's only naming context is searched."""
    slapd = start_slapd()
    async with running_bridge(configuration(slapd.url, tmp_path, users="users: {}")) as client:
        assert len(await client.list_users()) == 3


REFERRAL: Entry = (
    f"ou=elsewhere,{PEOPLE}",
    {
        "objectClass": ["referral", "extensibleObject"],
        "ou": ["elsewhere"],
        "ref": [f"ldap://127.0.0.9/ou=elsewhere,{PEOPLE}"],
    },
)
MISSING_BASE = f'users: {{bases: ["{PEOPLE}", "ou=missing,dc=example,dc=com"]}}'


@pytest.mark.parametrize(
    ("options", "users", "status", "code", "sentence"),
    [
        ({"limits": "size=500"}, "", 503, "search_incomplete", "sizeLimitExceeded (4)"),
        ({"limits": "size=unlimited size.pr=100"}, "", 503, "search_incomplete", "page"),
        ({"limits": "size=unlimited size.prtotal=disabled"}, "", 503, "search_incomplete", "adminLimitExceeded (11)"),
        ({"limits": "size=unlimited size.prtotal=550"}, "", 503, "search_incomplete", "sizeLimitExceeded (4)"),
        ({"entries": [person("anna"), REFERRAL]}, "", 503, "search_incomplete", "ldap://127.0.0.9/"),
        ({}, MISSING_BASE, 502, "search_invalid", "'ou=missing,dc=example,dc=com' does not exist"),
        ({"entries": []}, "", 503, "removals_refused", "the account can bind but sees nobody"),
    ],
)
async def test_list_is_an_error_where_it_cannot_be_proven_complete(
    start_slapd: StartSlapd,
    tmp_path: Path,
    options: dict[str, object],
    users: str,
    status: int,
    code: str,
    sentence: str,
) -> None:
    """Limits, referrals, missing bases, nobody at all: an error with its cause, never a shorter list."""
    slapd = start_slapd(**{"entries": [person(f"u{number:03}") for number in range(600)], **options})
    async with running_bridge(configuration(slapd.url, tmp_path, users=users)) as client:
        found, answer = await client.post("cmd=list")
        assert (found, answer["error"]) == (status, code)
        assert sentence in answer["message"]
        assert "company" in answer["message"]


async def test_list_is_complete_within_limits_like_those_of_active_directory(
    start_slapd: StartSlapd, tmp_path: Path
) -> None:
    """A limit of a thousand for each page and none for all of them, as MaxPageSize is, hinders nothing."""
    slapd = start_slapd(
        [person(f"u{number:04}") for number in range(2500)], limits="size=1000 size.pr=1000 size.prtotal=unlimited"
    )
    async with running_bridge(configuration(slapd.url, tmp_path)) as client:
        assert len(await client.list_users()) == 2500


async def test_ignored_referrals_leave_the_rest(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """With `referrals: ignore` the administrator has said that nobody behind them matters."""
    slapd = start_slapd([person("anna"), REFERRAL])
    async with running_bridge(configuration(slapd.url, tmp_path, directory="referrals: ignore")) as client:
        assert [user["userName"] for user in await client.list_users()] == ["anna"]


async def test_wrong_service_password_is_the_bridges_fault_not_the_users(
    start_slapd: StartSlapd, tmp_path: Path
) -> None:
    """A refused service account is 502 with the remedy, for listings and for logins."""
    slapd = start_slapd()
    file = configuration(slapd.url, tmp_path)
    (tmp_path / "reader.password").write_text("wrong")
    async with running_bridge(file) as client:
        for body in ("cmd=list", "cmd=auth&user=anna&pass=Pass-anna"):
            status, answer = await client.post(body)
            assert (status, answer["error"]) == (502, "directory_refused")
            assert "bind.dn" in answer["message"]


async def test_outage_is_stale_list_and_unavailable_login(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """While slapd is down the last good list is answered, and no login is answered `false`; then all is well."""
    slapd = start_slapd()
    file = configuration(slapd.url, tmp_path, more="cache: {refresh_ahead: false, ttl: 1ms}")
    async with running_bridge(file) as client:
        before = await client.list_users()
        slapd.stop()
        assert await client.list_users() == before
        assert client.service.bridge.health().status.value == "degraded"
        status, answer = await client.post("cmd=auth&user=anna&pass=Pass-anna")
        assert (status, answer["error"]) == (503, "directory_unavailable")
        slapd.start()
        assert await client.auth("anna", "Pass-anna")
        assert await client.list_users() == before
        assert client.service.bridge.health().status.value == "ok"


async def test_unusable_entries_are_left_out_and_told(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """An entry without a user name makes no user and is named in the report; an administrator's lock counts, too."""
    nameless: Entry = (f"cn=x,{PEOPLE}", {"objectClass": ["inetOrgPerson"], "cn": ["x"], "sn": ["x"]})
    slapd = start_slapd([person("anna"), nameless])
    async with running_bridge(configuration(slapd.url, tmp_path)) as client:
        assert [user["userName"] for user in await client.list_users()] == ["anna"]
        report = client.service.bridge.directories["company"].last_good.report  # type: ignore[union-attr]
        assert [(skipped.reason, skipped.count) for skipped in report.skipped] == [("no_user_name", 1)]
        assert "no_user_name" in client.log.getvalue()


async def test_templates_find_users_through_the_listing(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """A composed user name is found in the last listing and bound by its DN."""
    slapd = start_slapd()
    lines = 'attributes: {userName: "{uid}.{sn|lower}"}'
    async with running_bridge(configuration(slapd.url, tmp_path, directory=lines)) as client:
        assert await client.auth("Anna.s", "Pass-anna")
        assert not await client.auth("anna.s", "Pass-bert")
        assert not await client.auth("anna", "Pass-anna")
        slapd.delete(f"uid=anna,{PEOPLE}")
        assert not await client.auth("anna.s", "Pass-anna")


async def test_no_secret_stands_in_the_log(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Whatever is logged at level debug, no password of anybody is among it."""
    slapd = start_slapd()
    more = "cache: {refresh_ahead: false}\nlog: {level: debug}"
    async with running_bridge(configuration(slapd.url, tmp_path, more=more)) as client:
        await client.list_users()
        assert await client.auth("anna", "Pass-anna")
        assert not await client.auth("anna", "canary-wrong")
        await client.curl("-d", "cmd=auth&user=anna&pass=canary-uncalled")
        slapd.stop()
        await client.post("cmd=auth&user=anna&pass=canary-down")
        log = client.log.getvalue()
    assert "request.challenged" in log
    for secret in ("Pass-anna", "canary", "reads-only", "caller ü password"):
        for form in (secret, base64.b64encode(secret.encode()).decode(), secret.encode().hex()):
            assert form not in log


AWKWARD_NAMES = [
    "Müller",
    "Mu\u0308ller",
    "😀 smile",
    ',+"\\<>;=#*()',
    " leading",
    "trailing ",
    "#hash",
    "a=b",
    "O'Brien, Seán",
    "山田 太郎",
    "כהן",
    "a\\b",
]
AWKWARD_PASSWORDS = ["m²-ﬁ-Ⅷ", "&=+% ", " blanks ", "ä", "a\u0308", "😀", "+", "%41", "pass\tword", '"\\']


def awkward_person(number: int) -> tuple[Entry, str]:
    """A person whose name, DN and password are awkward in turn, and the password."""
    name = AWKWARD_NAMES[number % len(AWKWARD_NAMES)]
    password = f"{AWKWARD_PASSWORDS[number % len(AWKWARD_PASSWORDS)]}{number}"
    uid = f"u{number}"
    rdn = [f"uid={uid}", f"cn={escape_attribute_value(f'{name}{number}')}+uid={uid}"][number % 2]
    attributes = {
        "objectClass": ["inetOrgPerson"],
        "uid": [uid],
        "cn": [f"{name}{number}"],
        "displayName": [name],
        "sn": ["x"],
        "mail": [f"z{number}@example.com", f"a{number}@example.com", f"m{number}@example.org"][: number % 4],
        "userPassword": [password],
    }
    return (f"{rdn},{PEOPLE}", attributes), password


def parse_ldif(text: str) -> list[tuple[str, dict[str, list[str]]]]:
    """What ldapsearch prints, as DNs with their values."""
    found = []
    lines = [line for line in text.split("\n") if not line.startswith("#")]
    for block in filter(None, (block.strip("\n") for block in "\n".join(lines).split("\n\n"))):
        values: dict[str, list[str]] = {}
        for line in block.splitlines():
            name, _, rest = line.partition(":")
            value = base64.b64decode(rest[2:]).decode() if rest.startswith(":") else rest[1:]
            values.setdefault(name, []).append(value)
        found.append((values.pop("dn")[0], values))
    return found


async def test_five_thousand_awkward_people_are_listed_and_logged_in(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Each of 5,000 people is listed as ldapsearch shows them, logs in, and not with another's password."""
    made = [awkward_person(number) for number in range(5000)]
    slapd = start_slapd([entry for entry, _ in made])
    async with running_bridge(configuration(slapd.url, tmp_path)) as client:
        users = await client.list_users()
        assert users == expected_users(slapd)
        await log_everybody_in(client, [password for _, password in made])


def expected_users(slapd: Slapd) -> list[dict[str, object]]:
    text = slapd.ldapsearch(
        "-b", PEOPLE, "-E", "pr=1000/noprompt", "(objectClass=inetOrgPerson)", "uid", "displayName", "mail"
    )
    users = []
    for dn, values in parse_ldif(text):
        user: dict[str, object] = {"userName": values["uid"][0], "distinguishedName": dn}
        if any(values["displayName"]):
            user["fullName"] = values["displayName"][0]
        if "mail" in values:
            user["emailAddresses"] = values["mail"]
        users.append(user)
    return sorted(users, key=lambda user: str(user["userName"]))


async def log_everybody_in(client: Client, passwords: list[str]) -> None:
    """Over HTTP, twenty at a time: each with the own password, and with the next one's."""
    url = f"http://127.0.0.1:{client.port}/mailstore"
    authorization = "Basic " + base64.b64encode(f"{CALLER}:{CALLER_PASSWORD}".encode()).decode()
    connector = aiohttp.TCPConnector(limit=20)
    async with aiohttp.ClientSession(headers={"Authorization": authorization}, connector=connector) as session:

        async def succeeds(number: int, password: str) -> bool:
            form = {"cmd": "auth", "user": f"u{number}", "pass": password}
            async with session.post(url, data=form) as response:
                assert response.status == 200
                return bool((await response.json())["succeeded"])

        async def try_both(number: int) -> None:
            assert await succeeds(number, passwords[number]), number
            assert not await succeeds(number, passwords[(number + 1) % len(passwords)]), number

        await asyncio.gather(*(try_both(number) for number in range(len(passwords))))


async def test_content_type_is_the_configured_one(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Some callers want `text/json`, which the protocol's own examples use."""
    file = configuration(start_slapd().url, tmp_path)
    file.write_text(
        file.read_text().replace('listen: "127.0.0.1:0"}', 'listen: "127.0.0.1:0", answer_content_type: text/json}', 1)
    )
    async with running_bridge(file) as client:
        _, answer = await client.curl("-u", f"{CALLER}:{CALLER_PASSWORD}", "-i", "-d", "cmd=list")
    assert b"Content-Type: text/json; charset=utf-8" in answer


async def test_answers_are_the_same_bytes_each_time(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """The same directory gives the same bytes, whatever the cache does meanwhile."""
    slapd = start_slapd()
    file = configuration(slapd.url, tmp_path, more="cache: {refresh_ahead: false, ttl: 1ms}")
    async with running_bridge(file) as client:
        answers = {json.dumps(await client.list_users()) for _ in range(3)}
    assert len(answers) == 1
