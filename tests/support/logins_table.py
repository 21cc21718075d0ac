"""The tables of docs/logins.md: what each answer of a directory means for a login."""

from __future__ import annotations

from typing import NamedTuple

from tests.support.logins import AD, INACTIVATED

SLAPD, SAMBA, DS = "slapd", "Samba", "389 DS"
EVERYWHERE = (SLAPD, SAMBA, DS)
LOCKING = "slapd that locks"
"""slapd with a policy whose pwdLockout is TRUE."""
COUNTING = "slapd that only counts"


class Effect(NamedTuple):
    """What a login leaves behind."""

    remembered: str
    """`no`, for the `window`, or for a `day` while it is repeated."""
    counted: str
    """What the bridge counts: `no`, `wrong` or `unknown`."""
    directory: str
    """How many failures the directory counts; `?` where that is not certain."""
    again: str
    """What an equal login costs a moment later: `one bind`, or `none`."""


NOTHING = Effect("no", "no", "0", "one bind")
FOR_WINDOW = Effect("window", "wrong", "1", "none")
FOR_DAY = Effect("day", "wrong", "1", "none")
UNCOUNTED = Effect("window", "wrong", "0", "none")
UNKNOWN = Effect("no", "unknown", "1", "one bind")
UNCERTAIN = NOTHING._replace(directory="?")


class Row(NamedTuple):
    """A line of the table. Texts are those of the document, in the order of its columns."""

    account: str
    password: str
    servers: tuple[str, ...]
    says: str
    """Result code, and what else the server says."""
    reason: str
    """`accepted`, or the reason in the log."""
    effect: Effect
    afterwards: str = "accepted"
    """What the right password gets once the state has ended."""


STATES = {
    "in order": "",
    "in order, with a password mark": "marked",
    "locked by another program, unlocked": "locked by another",
    "locked by another program, for 2 s": "locked by time",
    "locked by another program, new password": "locked by another, new password",
    "one failure below the threshold, unlocked": "nearly locked",
    "lock that is over, its mark is left": "stale lock",
    "disabled, enabled again": "disabled",
    "password expired, new password": "expired",
    "password expired, grace logins left": "grace",
    "password must be changed, put right": "must change",
    "account has ended, prolonged": "ended",
    "login not allowed yet or now, allowed": "not yet",
    "no password, new password": "no password",
    "password changed within the hour": "changed",
    "password changed twice": "changed twice",
}
"""The accounts of the table, by what `tests.support.login_servers` calls them."""

ROWS = (
    Row("in order", "right", EVERYWHERE, "0", "accepted", NOTHING),
    Row("in order", "wrong", (SLAPD, DS), "49", "wrong_password", FOR_WINDOW),
    Row("in order, with a password mark", "wrong", (SLAPD, DS), "49", "wrong_password", FOR_DAY),
    Row("in order", "wrong", (SAMBA,), "49 data 52e", "wrong_password", FOR_DAY),
    Row("locked by another program, unlocked", "right", (LOCKING,), "49", "account_locked", NOTHING),
    Row("locked by another program, unlocked", "wrong", (LOCKING,), "49", "account_locked", NOTHING),
    Row("locked by another program, for 2 s", "right", (LOCKING,), "49", "account_locked", NOTHING),
    Row("locked by another program, for 2 s", "wrong", (LOCKING,), "49", "account_locked", NOTHING),
    Row("locked by another program, new password", "right", (LOCKING,), "49", "account_locked", NOTHING),
    Row("locked by another program, new password", "wrong", (LOCKING,), "49", "account_locked", NOTHING),
    Row("locked by another program, unlocked", "right", (SAMBA,), "49 data 775", "account_locked", NOTHING),
    Row("locked by another program, unlocked", "wrong", (SAMBA,), "49 data 775", "account_locked", NOTHING),
    Row(
        "locked by another program, new password",
        "right",
        (SAMBA,),
        "49 data 775",
        "account_locked",
        NOTHING,
        "account_locked",
    ),
    Row("locked by another program, unlocked", "right", (DS,), "19 ppolicy accountLocked", "account_locked", NOTHING),
    Row("locked by another program, unlocked", "wrong", (DS,), "19 ppolicy accountLocked", "account_locked", NOTHING),
    Row(
        "locked by another program, new password",
        "right",
        (DS,),
        "19 ppolicy accountLocked",
        "account_locked",
        NOTHING,
        "accepted",
    ),
    Row("one failure below the threshold, unlocked", "wrong", (LOCKING,), "49", "account_locked", UNKNOWN),
    Row("one failure below the threshold, unlocked", "wrong", (SAMBA,), "49 data 52e", "account_locked", UNKNOWN),
    Row("one failure below the threshold, unlocked", "wrong", (DS,), "49", "wrong_password", FOR_WINDOW),
    Row("lock that is over, its mark is left", "right", EVERYWHERE, "0", "accepted", NOTHING),
    Row("lock that is over, its mark is left", "wrong", (LOCKING,), "49", "wrong_password", FOR_WINDOW),
    Row("lock that is over, its mark is left", "wrong", (COUNTING,), "49", "account_locked", FOR_WINDOW),
    Row("lock that is over, its mark is left", "wrong", (SAMBA,), "49 data 52e", "wrong_password", FOR_DAY),
    Row("lock that is over, its mark is left", "wrong", (DS,), "49", "wrong_password", FOR_WINDOW, "account_locked"),
    Row("disabled, enabled again", "right", (LOCKING,), "49", "account_disabled", NOTHING),
    Row("disabled, enabled again", "wrong", (LOCKING,), "49", "account_disabled", NOTHING),
    Row("disabled, enabled again", "right", (COUNTING,), "0", "account_disabled", NOTHING),
    Row("disabled, enabled again", "wrong", (COUNTING,), "49", "account_disabled", FOR_WINDOW),
    Row("disabled, enabled again", "right", (SAMBA,), "49 data 533", "account_disabled", NOTHING),
    Row("disabled, enabled again", "wrong", (SAMBA,), "49 data 52e", "account_disabled", FOR_WINDOW),
    Row("disabled, enabled again", "right", (DS,), "53 Account inactivated", "account_disabled", NOTHING),
    Row("disabled, enabled again", "wrong", (DS,), "53 Account inactivated", "account_disabled", NOTHING),
    Row("password expired, new password", "right", (SLAPD,), "49 ppolicy passwordExpired", "password_expired", NOTHING),
    Row("password expired, new password", "right", (SAMBA,), "49 data 532", "password_expired", NOTHING),
    Row("password expired, new password", "right", (DS,), "49 ppolicy passwordExpired", "password_expired", UNCERTAIN),
    Row("password expired, new password", "wrong", (SLAPD,), "49", "wrong_password", FOR_DAY),
    Row("password expired, new password", "wrong", (SAMBA,), "49 data 52e", "wrong_password", FOR_DAY),
    Row("password expired, new password", "wrong", (DS,), "49", "wrong_password", FOR_WINDOW),
    Row(
        "password expired, grace logins left", "right", (SLAPD,), "0 ppolicy graceAuthNsRemaining", "accepted", NOTHING
    ),
    Row(
        "password must be changed, put right",
        "right",
        (SLAPD, DS),
        "0 ppolicy changeAfterReset",
        "must_change_password",
        NOTHING,
    ),
    Row("password must be changed, put right", "right", (SAMBA,), "49 data 773", "must_change_password", NOTHING),
    Row("password must be changed, put right", "wrong", (SLAPD,), "49", "wrong_password", FOR_WINDOW),
    Row("password must be changed, put right", "wrong", (DS,), "49", "wrong_password", FOR_DAY),
    Row("password must be changed, put right", "wrong", (SAMBA,), "49 data 52e", "wrong_password", FOR_DAY),
    Row("account has ended, prolonged", "right", (SLAPD,), "49", "account_expired", NOTHING),
    Row("account has ended, prolonged", "wrong", (SLAPD,), "49", "account_expired", NOTHING),
    Row("account has ended, prolonged", "right", (SAMBA,), "49 data 701", "account_expired", NOTHING),
    Row("account has ended, prolonged", "wrong", (SAMBA,), "49 data 52e", "account_expired", FOR_WINDOW),
    Row("login not allowed yet or now, allowed", "right", (SLAPD,), "49", "not_at_this_time", NOTHING),
    Row("login not allowed yet or now, allowed", "wrong", (SLAPD,), "49", "not_at_this_time", NOTHING),
    Row("login not allowed yet or now, allowed", "right", (SAMBA,), "49 data 530", "not_at_this_time", NOTHING),
    Row("login not allowed yet or now, allowed", "wrong", (SAMBA,), "49 data 52e", "wrong_password", FOR_DAY),
    Row("no password, new password", "wrong", (SLAPD,), "49", "wrong_password", UNCOUNTED),
    Row("no password, new password", "wrong", (SAMBA,), "49 data 52e", "wrong_password", FOR_DAY),
    Row("no password, new password", "wrong", (DS,), "49", "wrong_password", FOR_WINDOW),
    Row("password changed within the hour", "the one before", (SAMBA,), "0", "accepted", NOTHING),
    Row("password changed twice", "the first one", (SAMBA,), "49 data 52e", "wrong_password", UNCOUNTED),
)


class Answer(NamedTuple):
    """An answer to a bind that real servers give only where something is amiss; it is never remembered."""

    says: str
    causes: tuple[tuple[int, str], ...]
    """Result code and diagnostic message, each of them tried."""
    reason: str
    """The reason in the log, or the code of the error."""
    counted: str = "no"


LOCKED_BY_IPA = "Too many failed logins.\n"
ANSWERS = (
    Answer("49 data 775", ((49, AD.format("775")),), "account_locked"),
    Answer("49 data 533", ((49, AD.format("533")),), "account_disabled"),
    Answer("49 data 525", ((49, AD.format("525")),), "entry_gone"),
    Answer(
        "49 data 51f, 6ba, 6fb, 576, 5 or any other",
        tuple((49, AD.format(cause)) for cause in ("51f", "6ba", "6fb", "576", "5", "1f", "abc1")),
        "outcome_unknown",
        "unknown",
    ),
    Answer(
        "49, the server can't reach what knows the password", ((49, "proxy timed out"),), "outcome_unknown", "unknown"
    ),
    Answer("19 without any words", ((19, ""),), "account_locked"),
    Answer(
        "19 or 53 with words about a lock",
        ((19, "Exceed password retry limit."), (53, LOCKED_BY_IPA)),
        "account_locked",
    ),
    Answer("53 with words about a disabled account", ((53, INACTIVATED),), "account_disabled"),
    Answer(
        "53 otherwise, 2, 7, 8, 12, 13, 50",
        tuple((code, "unwilling") for code in (53, 2, 7, 8, 12, 13, 50)),
        "directory_refused",
    ),
    Answer("48", ((48, ""),), "no_password"),
    Answer("32, 34", ((32, ""), (34, "invalid DN")), "entry_gone"),
    Answer("10, 51, 52", tuple((code, "") for code in (10, 51, 52)), "directory_unavailable"),
    Answer("1, 3, 11, 80 or any other", tuple((code, "") for code in (1, 3, 11, 80, 71)), "outcome_unknown", "unknown"),
)


def cells(*values: str) -> str:
    """A line of a table of the document."""
    return f"| {' | '.join(values)} |"


def render(row: Row) -> str:
    """The line of the document."""
    servers = ", ".join(row.servers)
    return cells(row.account, row.password, servers, row.says, f"`{row.reason}`", *row.effect, f"`{row.afterwards}`")
