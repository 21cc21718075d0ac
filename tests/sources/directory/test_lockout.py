"""When a directory locks accounts, as far as it shows that, and what follows for the number of wrong passwords."""

from __future__ import annotations

import pytest

from bridge.cli.check import describe_lockout
from bridge.config.presets import load_preset
from bridge.config.schema import AuthSection
from bridge.directory import Entry
from bridge.errors import BridgeError, DirectoryRefused, DirectoryUnavailable, SearchIncomplete
from bridge.sources.directory.lockout import LockoutPolicy, budget_of, read_lockout, window_of
from bridge.sources.directory.source import DirectorySource
from tests.support.memory_directory import MemoryDirectory, make


def shown_by(preset: str, directory: MemoryDirectory, *, default_bases: bool = False) -> DirectorySource:
    bases = {"bases": ()} if default_bases else {}
    return make(directory, lockout=tuple(rule.build() for rule in load_preset(preset).lockout), **bases)[0].source


def entry(dn: str, **attributes: str) -> Entry:
    return Entry(dn, {name.lower().replace("_", "-"): [value.encode()] for name, value in attributes.items()})


def ppolicy(name: str, **attributes: str) -> Entry:
    return entry(f"cn={name},ou=policies,dc=e", objectClass="pwdPolicy", **attributes)


def domain(threshold: str, window: str) -> Entry:
    return entry("dc=e", objectClass="domainDNS", lockoutThreshold=threshold, lockOutObservationWindow=window)


LEAST = str(-(2**63))
PSO = "CN=strict,CN=Password Settings Container,CN=System,dc=e"


@pytest.mark.parametrize(
    ("preset", "entries", "threshold", "window_s"),
    [
        ("active_directory", [domain("5", "-18000000000")], 5, 1800.0),
        ("active_directory", [domain("5", LEAST)], 5, None),
        ("active_directory", [domain("5", "0")], 5, None),
        ("active_directory", [domain("0", "-18000000000")], 0, 1800.0),
        ("samba", [domain("3", "-50000000")], 3, 5.0),
        ("custom", [domain("3", "-50000000")], 3, 5.0),
        ("openldap", [ppolicy("a", pwdLockout="TRUE", pwdMaxFailure="3", pwdFailureCountInterval="60")], 3, 60.0),
        ("openldap", [ppolicy("a", pwdLockout="TRUE", pwdMaxFailure="3", pwdFailureCountInterval="0")], 3, None),
        ("openldap", [ppolicy("a", pwdLockout="FALSE", pwdMaxFailure="3")], 0, None),
        ("openldap", [ppolicy("a", pwdLockout="TRUE", pwdMaxFailure="0")], 0, None),
        ("openldap", [ppolicy("a", pwdMaxFailure="3")], 3, None),
        (
            "openldap",
            [
                ppolicy("a", pwdLockout="TRUE", pwdMaxFailure="5", pwdFailureCountInterval="7200"),
                ppolicy("b", pwdLockout="TRUE", pwdMaxFailure="3", pwdFailureCountInterval="60"),
                ppolicy("c", pwdLockout="FALSE", pwdMaxFailure="2", pwdFailureCountInterval="9000"),
                ppolicy("d", pwdLockout="TRUE"),
            ],
            3,
            7200.0,
        ),
        (
            "389ds",
            [
                entry("cn=config", objectClass="top", passwordMaxFailure="3", passwordLockout="off"),
                entry("cn=p,dc=e", objectClass="ldapsubentry", passwordMaxFailure="2", passwordLockout="on"),
                entry("cn=cos,dc=e", objectClass="ldapsubentry"),
            ],
            2,
            None,
        ),
        (
            "389ds",
            [
                entry(
                    "cn=config",
                    objectClass="top",
                    passwordMaxFailure="3",
                    passwordLockout="on",
                    passwordResetFailureCount="600",
                )
            ],
            3,
            600.0,
        ),
        (
            "freeipa",
            [
                entry("cn=kerberos,dc=e", objectClass="krbContainer"),
                entry(
                    "cn=global_policy,cn=E,cn=kerberos,dc=e",
                    objectClass="krbPwdPolicy",
                    krbPwdMaxFailure="6",
                    krbPwdFailureCountInterval="60",
                ),
            ],
            6,
            60.0,
        ),
        (
            "edirectory",
            [
                entry(
                    "ou=people,dc=e",
                    objectClass="organizationalUnit",
                    detectIntruder="TRUE",
                    loginIntruderLimit="3",
                    intruderAttemptResetInterval="1800",
                )
            ],
            3,
            1800.0,
        ),
    ],
)
async def test_policy_is_what_the_directory_shows(
    preset: str, entries: list[Entry], threshold: int, window_s: float | None
) -> None:
    """Of several the smallest threshold and the longest window, as nobody can tell whose they are; 0 locks nobody."""
    policy = await read_lockout(shown_by(preset, MemoryDirectory(*entries)))
    assert policy is not None
    assert (policy.threshold_count, policy.window_s) == (threshold, window_s)
    assert policy.source in {each.dn for each in entries}


@pytest.mark.parametrize(
    ("preset", "entries"),
    [
        *((name, []) for name in ("active_directory", "openldap", "389ds", "freeipa", "edirectory", "lldap", "custom")),
        ("active_directory", [entry("dc=e", objectClass="domainDNS")]),
        ("active_directory", [entry(PSO, objectClass="msDS-PasswordSettings")]),
        ("active_directory", [domain("many", "-1")]),
        ("openldap", [ppolicy("a", pwdLockout="TRUE")]),
    ],
)
async def test_nothing_is_known_where_nothing_is_shown(preset: str, entries: list[Entry]) -> None:
    """An entry that isn't there, that shows no threshold, or one that is no number; no default base either."""
    directory = MemoryDirectory(*entries)
    assert await read_lockout(shown_by(preset, directory)) is None
    directory.default_context = None
    assert await read_lockout(shown_by(preset, directory, default_bases=True)) is None


@pytest.mark.parametrize("kind", [DirectoryRefused, SearchIncomplete])
async def test_directory_that_refuses_to_tell_shows_nothing(kind: type[DirectoryRefused]) -> None:
    """That is how most service accounts find it, and no fault."""
    directory = MemoryDirectory(domain("3", "-50000000"))
    directory.look_up_failures = [kind("no rights", directory="memory")]
    assert await read_lockout(shown_by("active_directory", directory)) is None


async def test_directory_that_cannot_be_asked_is_unavailable() -> None:
    """What was known before holds on; nothing is concluded from an outage."""
    directory = MemoryDirectory(domain("3", "-50000000"))
    directory.look_up_failures = list[BridgeError]([DirectoryUnavailable("it broke", directory="memory")])
    with pytest.raises(DirectoryUnavailable):
        await read_lockout(shown_by("active_directory", directory))


@pytest.mark.parametrize(
    ("answer", "threshold"),
    [
        ([], 3),
        (DirectoryRefused("no rights", directory="memory"), 3),
        (SearchIncomplete("too many", directory="memory"), 3),
        ([domain("5", "-18000000000")], 5),
        ([domain("2", "-18000000000")], 2),
        ([domain("0", "-18000000000")], 0),
    ],
)
async def test_what_was_shown_before_holds_on_where_nothing_is(
    answer: list[Entry] | BridgeError, threshold: int
) -> None:
    """No error makes the budget larger; a policy that was changed is followed both ways."""
    before = LockoutPolicy(3, 1800.0, "dc=e")
    is_error = isinstance(answer, BridgeError)
    directory = MemoryDirectory(*(() if is_error else answer))
    directory.look_up_failures = [answer] if is_error else []
    policy = await read_lockout(shown_by("active_directory", directory), before)
    assert policy is not None
    assert policy.threshold_count == threshold


async def test_fine_grained_policy_that_can_be_read_counts() -> None:
    """Where the right to read it was delegated, the stricter of both is what follows."""
    strict = entry(PSO, objectClass="msDS-PasswordSettings", msDS_LockoutThreshold="2")
    container = entry("CN=Password Settings Container,CN=System,dc=e", objectClass="container")
    policy = await read_lockout(
        shown_by("active_directory", MemoryDirectory(domain("5", "-18000000000"), container, strict))
    )
    assert policy == LockoutPolicy(2, 1800.0, PSO)


@pytest.mark.parametrize(
    ("configured", "threshold", "expected"),
    [
        (None, None, 4),
        (None, 0, 4),
        (None, 1, 1),
        (None, 2, 1),
        (None, 3, 2),
        (None, 5, 4),
        (None, 10, 4),
        (7, None, 7),
        (7, 3, 7),
        (1, 10, 1),
    ],
)
def test_budget_is_one_below_the_threshold(configured: int | None, threshold: int | None, expected: int) -> None:
    """At least 1, at most 4, and what an administrator has configured in any case."""
    policy = None if threshold is None else LockoutPolicy(threshold, None, "dc=e")
    assert budget_of(configured, policy) == expected


@pytest.mark.parametrize(
    ("policy", "expected_s"),
    [
        (None, 1800.0),
        (LockoutPolicy(3, None, "dc=e"), 1800.0),
        (LockoutPolicy(3, 600.0, "dc=e"), 1800.0),
        (LockoutPolicy(3, 3600.0, "dc=e"), 3600.0),
        (LockoutPolicy(0, 3600.0, "dc=e"), 1800.0),
    ],
)
def test_window_is_no_shorter_than_the_directorys(policy: LockoutPolicy | None, expected_s: float) -> None:
    """Where the directory never forgets, or never locks, the configured one stays."""
    assert window_of(1800.0, policy) == expected_s


@pytest.mark.parametrize(
    ("configured", "policy", "result", "words"),
    [
        ("auto", None, "ok", ("doesn't show", "4 different", "within 30 minutes", "below the directory's threshold")),
        ("auto", LockoutPolicy(0, None, "dc=e"), "ok", ("no wrong password locks", "4 different")),
        ("auto", LockoutPolicy(3, 3600.0, "dc=e"), "ok", ("number 3 locks", "for 60 minutes", "2 different")),
        ("auto", LockoutPolicy(5, None, "dc=e"), "ok", ("until a success", "(dc=e)", "4 different")),
        ("auto", LockoutPolicy(1, None, "dc=e"), "warning", ("number 1 locks", "Raise the directory's threshold")),
        (3, LockoutPolicy(3, None, "dc=e"), "warning", ("3 different", "auth.max_failures: auto, or 2 at most")),
        (2, LockoutPolicy(3, None, "dc=e"), "ok", ("2 different",)),
    ],
)
def test_check_says_what_the_directory_shows_and_what_follows(
    configured: int | str, policy: LockoutPolicy | None, result: str, words: tuple[str, ...]
) -> None:
    """A number that locks accounts is a warning with its remedy."""
    auth = AuthSection.model_validate({"max_failures": configured})
    found = describe_lockout("company", policy, auth)
    assert (found.name, found.directory, found.result) == ("lockout", "company", result)
    for word in words:
        assert word in f"{found.message} {found.remedy}"
