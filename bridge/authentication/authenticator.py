"""Logins: one look-up, then exactly one user bind at the same server, and the same answer whatever the reason.

Knows neither HTTP nor sockets. Whoever isn't listed can't log in, and an outage is never a wrong password.
"""

from __future__ import annotations

import hashlib
import time
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

from bridge.authentication.evidence import find_evidence
from bridge.authentication.selection import Selection, wait_for
from bridge.authentication.throttle import Permission
from bridge.authentication.user_binds import too_many_unknown
from bridge.deadlines import LOGIN_S, VERDICT_S, Deadlines
from bridge.errors import BridgeError, DirectoryUnavailable, OutcomeUnknown
from bridge.events import UserAuthenticated
from bridge.model import Accepted, Rejected, Rejection, Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bridge.authentication.candidates import Candidate, Found
    from bridge.authentication.evidence import Evidence
    from bridge.authentication.user_binds import UserBinds
    from bridge.directory import BindResult
    from bridge.events import Observer
    from bridge.model import Problem, Verdict
    from bridge.snapshots.directory_snapshots import DirectorySnapshots
    from bridge.sources.directory.login_state import LoginState
    from bridge.sources.directory.source import DirectorySource

_REFUSED_FROM_MEMORY = {
    Permission.REMEMBERED_FAILURE: Rejection.REMEMBERED_FAILURE,
    Permission.HELD_BACK: Rejection.HELD_BACK,
    Permission.UNDECIDED: Rejection.HELD_BACK,
}
_FROM_MEMORY = "accepted from memory, without a bind"
_STATES = frozenset((Rejection.ACCOUNT_DISABLED, Rejection.ACCOUNT_EXPIRED, Rejection.ACCOUNT_LOCKED))
"""What an entry says of its account comes before what a bind says of the password."""
_DELETE = 0x7F


class _Decision(NamedTuple):  # made for each login, as everything else here
    """A verdict, and what the log should know beside it."""

    verdict: Verdict
    bind: BindResult | None = None
    detail: str = ""
    asked: str | None = None
    """The directory whose time a refusal must take; None where none was meant."""


class Authenticator:
    """Checks passwords against the directories of one endpoint, which come in order of their priority."""

    def __init__(
        self,
        endpoint: str,
        directories: Sequence[DirectorySnapshots],
        binds: UserBinds,
        *,
        make_token: Callable[[], str],
        observe: Observer,
    ) -> None:
        self._endpoint = endpoint
        self._directories = directories
        self._binds = binds
        self._make_token = make_token
        self._key = make_token().encode()
        self._observe = observe
        self._time = Deadlines(LOGIN_S)
        self.selection = Selection(directories)

    async def authenticate(self, user_name: str, password: Secret) -> Verdict:
        """Whether the password is the user's.

        The password is forgotten afterwards. Raises a `BridgeError` where that could not be found out.
        """
        began_s = time.monotonic()
        try:
            with self._time.begin():
                decision = await self._decide(user_name, password, began_s)
                if decision.asked is not None:
                    await self._binds.pad_refusal(decision.asked, began_s, was_bound=decision.bind is not None)
        except TimeoutError as error:
            failure = self._too_slow()
            self._note_failure(failure)
            raise failure from error
        except BridgeError as error:
            self._note_failure(error)
            raise
        finally:
            # Security: errors are kept for a while here and there, and with their tracebacks whatever frames held.
            password.forget()
        bind = decision.bind
        directory = decision.verdict.directory
        if bind is not None and directory is not None:  # that nobody has a name is no sign that logins work
            self._binds.health.note_answer(directory)
        self._observe(
            UserAuthenticated(
                endpoint=self._endpoint,
                user_name=user_name,
                verdict=decision.verdict,
                duration_s=time.monotonic() - began_s,
                server=bind.server if bind else None,
                result_code=bind.result_code if bind else None,
                diagnostic_message=bind.diagnostic_message if bind else "",
                detail=decision.detail,
            )
        )
        return decision.verdict

    def problems(self, directory: str) -> Iterator[Problem]:
        """What is wrong with the logins of a directory."""
        return self._binds.health.problems(directory)

    async def _decide(self, user_name: str, password: Secret, began_s: float) -> _Decision:
        if not password:
            # Security: a simple bind without a password is anonymous and succeeds (RFC 4513 §5.1.2).
            return _Decision(Rejected(Rejection.EMPTY_PASSWORD))
        if not _can_be_carried(user_name, password):
            return _Decision(Rejected(Rejection.IMPOSSIBLE))
        if not user_name:
            verdict = Rejected(Rejection.UNKNOWN_USER)
            return await self._bind_nobody(self._stand_in_for(user_name), password, verdict, began_s)
        failed: set[str] = set()
        while True:
            try:
                return await self._look_up_and_bind(user_name, password, began_s)
            except DirectoryUnavailable as error:
                if not self._may_go_elsewhere(error, failed):
                    raise

    def _may_go_elsewhere(self, error: DirectoryUnavailable, failed: set[str]) -> bool:
        """Whether another server may be asked for the entry and bound at, as no password was sent to this one."""
        if isinstance(error, OutcomeUnknown) or error.server is None or error.result_code is not None:
            return False
        if error.server in failed:
            return False  # those that are left are not asked now: they have to show first that they are replicas
        failed.add(error.server)
        servers = (each.source.directory.servers for each in self._directories if each.source.name == error.directory)
        return any(not failed.issuperset(urls) for urls in servers)

    async def _look_up_and_bind(self, user_name: str, password: Secret, began_s: float) -> _Decision:
        found, late = await self.selection.find(user_name)
        if not found.candidates:
            verdict = Rejected(found.reason)
            decision = await self._bind_nobody(self._stand_in_for(user_name), password, verdict, began_s)
            return decision._replace(detail=found.detail)
        source = found.directory.source
        if len(found.candidates) > 1:
            names = " and ".join(candidate.entry.dn for candidate in found.candidates)
            verdict = Rejected(Rejection.AMBIGUOUS_USER, source.name)
            decision = await self._bind_nobody(source, password, verdict, began_s)
            await wait_for(late)
            return decision._replace(detail=f"the name belongs to {names}")
        decision = await self._bind_user(found, user_name, password, began_s)
        if late and decision.asked is not None:
            # Security: who exists nowhere waits for every directory, and a refusal may not tell that from a wrong one.
            await wait_for(late)
        return decision

    async def _bind_user(self, found: Found, user_name: str, password: Secret, began_s: float) -> _Decision:
        """The one bind of this request. Who may not log in is bound all the same, so that time tells nothing."""
        source, candidate = found.directory.source, found.candidates[0]
        entry, user_id, _, refusal, _ = candidate
        state = source.login_state(entry)
        attempt = self._binds.throttle.identify((source.name, user_id), user_name, password, found.server, state)

        async def prove() -> Evidence:
            return await find_evidence(source, entry.dn, state, found.server, timeout_s=_left_s(began_s))

        await self._binds.budgets.learn(source)
        answer = await self._binds.bind(source.directory, entry.dn, password, attempt, started_s=began_s, prove=prove)
        if answer is Permission.UNDECIDED and refusal not in _STATES:
            # Whoever may not log in anyway is refused, whatever the password is.
            raise too_many_unknown(source.name, found.server, self._binds.throttle.wait_s(attempt.user))
        bind, notice = None, None
        if isinstance(answer, Permission):
            reason = _REFUSED_FROM_MEMORY.get(answer)
            notice = _FROM_MEMORY
        else:
            bind, notice, reason = answer, answer.notice, answer.rejection
        reason = _choose_reason(reason, candidate, state)
        if reason is None:
            return _Decision(Accepted(source.name, user_id, notice), bind)
        if refusal is not None:
            self._binds.throttle.forget_successes(source.name, (user_id,))
        return _Decision(Rejected(reason, source.name, user_id), bind, asked=source.name)

    async def _bind_nobody(
        self, source: DirectorySource, password: Secret, verdict: Rejected, began_s: float
    ) -> _Decision:
        """A bind that must fail, as neither time nor number may tell who exists.

        Security: the DN is random. One made of the user's text could be somebody outside of the users' filter, whose
        account would count the failure. What is read after a wrong password is read here, too.
        """
        base = (await source.resolve_bases())[0]
        dn = f"cn={self._make_token()},{base}"
        bind = await source.directory.bind(dn, password)
        await find_evidence(source, dn, None, bind.server, timeout_s=_left_s(began_s))
        return _Decision(verdict, bind, asked=source.name)

    def _stand_in_for(self, user_name: str) -> DirectorySource:
        """The directory in which a name is bound that none holds, the same one each time.

        Security: if it were always the first one, whoever takes another directory's time would be known to exist.
        """
        if len(self._directories) == 1:
            return self._directories[0].source
        folded = unicodedata.normalize("NFKC", user_name).strip().casefold().encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(folded, key=self._key, digest_size=8).digest()
        return self._directories[int.from_bytes(digest, "big") % len(self._directories)].source

    def _note_failure(self, error: BridgeError) -> None:
        for directory in self._directories:
            name = directory.source.name
            if getattr(error, "directory", name) == name:
                self._binds.health.note_failure(name, error)

    def _too_slow(self) -> DirectoryUnavailable:
        names = ", ".join(directory.source.name for directory in self._directories)
        return DirectoryUnavailable(
            f"the login took longer than {LOGIN_S:g} s",
            directory=names,
            remedy="Check the load of the servers, and `timeouts` in the configuration.",
        )


def _choose_reason(said: Rejection | None, candidate: Candidate, state: LoginState) -> Rejection | None:
    """Why a login is refused: what the entry shows of the account first, then what was said of the password.

    OpenLDAP says "locked" whatever bars the account.
    """
    shown = candidate.rejection
    if said is Rejection.ACCOUNT_LOCKED and state.bars:
        said = state.bars[0].rejection
    return shown if shown in _STATES else said or shown


def _left_s(began_s: float) -> float:
    """How long a login that began then may go on until its verdict is there."""
    return began_s + VERDICT_S - time.monotonic()


def _can_be_carried(user_name: str, password: Secret) -> bool:
    """Whether no server makes something else of the name or the password.

    Samba and 389 Directory Server take what stands before NUL for the whole, and 389 Directory Server folds tabs and
    line ends in names; no userName holds control characters.
    """
    if b"\0" in password.reveal():
        return False
    if user_name.isprintable():  # nearly always
        return True
    return not any(character < " " or ord(character) == _DELETE for character in user_name) and _is_utf8(user_name)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
