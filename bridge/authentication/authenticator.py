"""Logins: one look-up in each directory, then exactly one user bind, and the same answer whatever the reason.

Knows neither HTTP nor sockets. Whoever isn't listed can't log in, and an outage is never a wrong password.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

from bridge.authentication.throttle import Permission
from bridge.directory import NO_SUCH_OBJECT
from bridge.errors import BridgeError, EntryUnusable, SearchInvalid
from bridge.events import UserAuthenticated
from bridge.model import Accepted, Rejected, Rejection, Secret
from bridge.roster.roster import fold_user_name
from bridge.sources.directory.admission import admit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bridge.authentication.throttle import Attempt
    from bridge.authentication.user_binds import UserBinds
    from bridge.directory import BindResult, Entry
    from bridge.events import Observer
    from bridge.model import User, Verdict
    from bridge.snapshots.directory_snapshots import DirectorySnapshots
    from bridge.sources.directory.source import DirectorySource

_REFUSED_FROM_MEMORY = {
    Permission.REMEMBERED_FAILURE: Rejection.REMEMBERED_FAILURE,
    Permission.HELD_BACK: Rejection.HELD_BACK,
}
_FROM_MEMORY = "accepted from memory, without a bind"
_PATIENCE_S = 0.1
"""How long directories that hold no such name by their listing are waited for: one that works answers by then."""


class _Decision(NamedTuple):  # made for each login, as everything else here
    """A verdict, and what the log should know beside it."""

    verdict: Verdict
    bind: BindResult | None = None
    detail: str = ""
    asked: str | None = None
    """The directory whose time a refusal must take; None where none was meant."""


class Candidate(NamedTuple):
    """An entry that a login may mean, and what it makes."""

    entry: Entry
    user_id: str
    user_name: str
    """"" where the entry makes no user."""
    rejection: Rejection | None
    """Why its owner may not log in, if so."""
    is_listed: bool


class Found(NamedTuple):
    """What one directory holds for a name: one candidate, or several between whom nobody can choose."""

    directory: DirectorySnapshots
    candidates: tuple[Candidate, ...]
    late: frozenset[asyncio.Task[Found | None]] = frozenset()
    """The look-ups in other directories that were not waited for."""

    def rank(self, user_name: str) -> int:
        """How much the name is this directory's: 0 as a listed userName, 1 in another way, 2 but not listed.

        A listing gives each userName to one entry; what else a login filter finds comes after that.
        """
        if len(self.candidates) > 1:
            return 0
        candidate = self.candidates[0]
        if not candidate.is_listed:
            return 2
        source = self.directory.source
        if source.finds_by_user_name or fold_user_name(candidate.user_name) == fold_user_name(user_name):
            return 0
        return 0 if self.directory.decides(user_name) else 1


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
        self._late: set[asyncio.Task[Found | None]] = set()
        self.contested: Mapping[str, str] = {}
        """Which directory has each folded userName that several claim, by what is answered to `list`."""

    async def authenticate(self, user_name: str, password: Secret) -> Verdict:
        """Whether the password is the user's.

        The password is forgotten afterwards. Raises a `BridgeError` where that could not be found out.
        """
        began_s = time.monotonic()
        try:
            decision = await self._decide(user_name, password, began_s)
        finally:
            # Security: errors are kept for a while here and there, and with their tracebacks whatever frames held.
            password.forget()
        bind = decision.bind
        if decision.asked is not None:
            await self._binds.level(decision.asked, began_s, was_bound=bind is not None)
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

    async def _decide(self, user_name: str, password: Secret, began_s: float) -> _Decision:
        if not password:
            # Security: a simple bind without a password is anonymous and succeeds (RFC 4513 §5.1.2).
            return _Decision(Rejected(Rejection.EMPTY_PASSWORD))
        found = await self._find(user_name) if user_name else None
        if found is None:
            return await self._bind_nobody(self._stand_in_for(user_name), password, Rejected(Rejection.UNKNOWN_USER))
        source = found.directory.source
        if len(found.candidates) > 1:
            names = " and ".join(candidate.entry.dn for candidate in found.candidates)
            verdict = Rejected(Rejection.AMBIGUOUS_USER, source.name)
            decision = await self._bind_nobody(source, password, verdict)
            await _see_out(found.late)
            return decision._replace(detail=f"the name belongs to {names}")
        candidate, mark = found.candidates[0], source.password_mark(found.candidates[0].entry)
        attempt = self._binds.throttle.identify(source.name, candidate.user_id, user_name, password, mark)
        decision = await self._bind_user(source, candidate, attempt, password, began_s)
        if found.late and decision.asked is not None:
            # Security: who exists nowhere waits for every directory, and a refusal may not tell that from a wrong one.
            await _see_out(found.late)
        return decision

    async def _find(self, user_name: str) -> Found | None:
        """The directory that holds the name, with what it holds, or None where none does.

        A directory that is slow keeps nobody waiting who is known to be another one's. Raises what kept a directory
        from answering, unless another is known to hold the name.
        """
        if len(self._directories) == 1:
            return await find_user(self._directories[0], user_name)
        holder = self._holder_of(user_name)
        if holder is not None:
            return await find_user(holder, user_name)
        best, failures = await self._ask_everywhere(user_name)
        if best is not None and (holder := self._holder_of(best.candidates[0].user_name)) is not None:
            return await find_user(holder, user_name)  # a spelling that the directories take for a contested name
        for directory, failure in failures:
            if best is None or self._may_outrank(directory, best, user_name):
                raise failure
        return best

    async def _ask_everywhere(
        self, user_name: str
    ) -> tuple[Found | None, list[tuple[DirectorySnapshots, BridgeError]]]:
        """What the name most likely means, and which directories could not be asked."""
        tasks = {asyncio.create_task(find_user(each, user_name)): each for each in self._directories}
        self._late.update(tasks)
        for task in tasks:
            task.add_done_callback(self._forget_look_up)
        best, pending, patience_s = None, set(tasks), None
        try:
            while pending:
                done, pending = await asyncio.wait(pending, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
                answers = [task.result() for task in tasks if task.done() and not _failure_of(task)]
                found = [answer for answer in answers if answer is not None]
                best = min(found, key=lambda each: each.rank(user_name), default=None)
                if best is None:
                    continue
                rivals = [tasks[task] for task in pending if not self._comes_before(best, tasks[task], user_name)]
                if not (rivals and done):
                    break
                is_open = any(self._may_outrank(rival, best, user_name) for rival in rivals)
                patience_s = None if is_open else _PATIENCE_S
        except asyncio.CancelledError:
            for task in pending:
                task.cancel()
            raise
        failures = [(tasks[task], error) for task in tasks if task.done() and (error := _failure_of(task))]
        return best._replace(late=frozenset(pending)) if best is not None else None, failures

    def _forget_look_up(self, task: asyncio.Task[Found | None]) -> None:
        self._late.discard(task)
        if not task.cancelled():
            task.exception()  # who does not wait for it is not told

    def _comes_before(self, best: Found, directory: DirectorySnapshots, user_name: str) -> bool:
        """Whether what was found counts whatever a directory will say."""
        order = self._directories.index
        return best.rank(user_name) == 0 and order(best.directory) < order(directory)

    def _holder_of(self, user_name: str) -> DirectorySnapshots | None:
        """The directory that has a userName which several claim."""
        name = self.contested.get(fold_user_name(user_name)) if self.contested else None
        return next((directory for directory in self._directories if directory.source.name == name), None)

    def _may_outrank(self, directory: DirectorySnapshots, best: Found, user_name: str) -> bool:
        """Whether a directory that can't be asked could hold the name before the one that does."""
        is_user_name = best.rank(user_name) == 0
        if self._comes_before(best, directory, user_name):
            return False
        if directory.last_good is None:
            return True
        names = (user_name, best.candidates[0].user_name)
        if any(find_holder(directory, name) is not None for name in names if name):
            return True
        return not (is_user_name or directory.source.finds_by_user_name)

    async def _bind_user(
        self, source: DirectorySource, candidate: Candidate, attempt: Attempt, password: Secret, began_s: float
    ) -> _Decision:
        """The one bind of this request. Who may not log in is bound all the same, so that time tells nothing."""
        entry, user_id, _, refusal, _ = candidate
        answer = await self._binds.bind(source.directory, entry.dn, password, attempt, began_s)
        bind, notice, reason = None, None, refusal
        if isinstance(answer, Permission):
            reason = _REFUSED_FROM_MEMORY.get(answer) or refusal
            notice = _FROM_MEMORY
        else:
            bind, notice, reason = answer, answer.notice, answer.rejection or refusal
            if reason is Rejection.ACCOUNT_LOCKED:  # ppolicy says so of accounts that are disabled or have ended, too
                reason = refusal or reason
        if reason is None:
            return _Decision(Accepted(source.name, user_id, notice), bind)
        if refusal is not None:
            self._binds.throttle.forget_successes(source.name, (user_id,))
        return _Decision(Rejected(reason, source.name, user_id), bind, asked=source.name)

    async def _bind_nobody(self, source: DirectorySource, password: Secret, verdict: Rejected) -> _Decision:
        """A bind that must fail, as neither time nor number may tell who exists.

        Security: the DN is random. One made of the user's text could be somebody outside of the users' filter, whose
        account would count the failure.
        """
        base = (await source.resolve_bases())[0]
        bind = await source.directory.bind(f"cn={self._make_token()},{base}", password)
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


async def find_user(directory: DirectorySnapshots, user_name: str) -> Found | None:
    """What the directory holds for the name, or None."""
    source = directory.source
    candidates = tuple([judge_entry(source, entry) for entry in await find_entries(directory, user_name)])
    if len(candidates) > 1:
        holder = find_holder(directory, user_name)
        if holder is not None:  # two claim the userName, and the listing has given it to the one that had it before
            candidates = tuple(each for each in candidates if each.user_id == holder.id) or candidates
    return Found(directory, candidates) if candidates else None


async def find_entries(directory: DirectorySnapshots, user_name: str) -> tuple[Entry, ...]:
    """The entries that a login by this name may mean, live from the directory: none, one, or two.

    This is the one place that chooses between a look-up by a filter and one through the listing. A name that the
    listing has given to nobody, because several claim it, is looked up by the filter, which finds and names them all.
    """
    source = directory.source
    if source.groups is None:
        return await _find_entries(directory, user_name)
    await source.current_groups()
    return await admit(source, await _find_entries(directory, user_name))


async def _find_entries(directory: DirectorySnapshots, user_name: str) -> tuple[Entry, ...]:
    template = directory.source.login_template
    if template is None or (directory.decides(user_name) and find_holder(directory, user_name) is not None):
        return await _find_listed(directory, user_name)
    source, login_filter = directory.source, template.fill(user_name)
    bases = source.bases or await source.resolve_bases()
    if len(bases) == 1:
        return await source.directory.look_up(source.login_search(bases[0], login_filter))
    entries: dict[str, Entry] = {}
    for base in bases:
        for entry in await source.directory.look_up(source.login_search(base, login_filter)):
            entries.setdefault(entry.dn, entry)  # bases may overlap
    return tuple(entries.values())


def find_holder(directory: DirectorySnapshots, user_name: str) -> User | None:
    """Whom the last listing knows by this userName."""
    return directory.last_good.roster.find(user_name) if directory.last_good is not None else None


def judge_entry(source: DirectorySource, entry: Entry) -> Candidate:
    """Whom the entry makes, and whether its owner may log in."""
    attribute_map, now_s = source.attribute_map, source.clock.now_s()
    rejection = attribute_map.account_rejection(entry, now_s)
    try:
        user = attribute_map.map_entry(entry).user
    except EntryUnusable:
        return Candidate(entry, _id_or_dn(source, entry), "", rejection or Rejection.NOT_LISTED, is_listed=False)
    is_listed = rejection is None or source.list_disabled or attribute_map.exclusion(entry, now_s) is None
    return Candidate(entry, user.id, user.user_name, rejection, is_listed)


def _id_or_dn(source: DirectorySource, entry: Entry) -> str:
    try:
        return source.attribute_map.id_of(entry)
    except EntryUnusable:
        return entry.dn


async def _find_listed(directory: DirectorySnapshots, user_name: str) -> tuple[Entry, ...]:
    """The live entry of the user whom the last listing knows by this name, if it is still the same one."""
    source = directory.source
    if directory.last_good is None:
        await directory.current()
    user = find_holder(directory, user_name)
    if user is None:
        return ()
    found = await _read_entry(source, user.distinguished_name)
    entries = tuple(entry for entry in found if judge_entry(source, entry).user_id == user.id)
    if entries or source.attribute_map.id_attribute is None:
        return entries
    # The entry has another DN than when it was listed, as happens to whoever is renamed.
    bases = await source.resolve_bases()
    searches = (source.login_search_by_id(base, user.id) for base in bases)
    moved = [entry for search in searches for entry in await source.directory.look_up(search)]
    return tuple({entry.dn: entry for entry in moved}.values())


async def _read_entry(source: DirectorySource, dn: str) -> tuple[Entry, ...]:
    """The entry of that DN, if it is there and one of the users."""
    try:
        return await source.directory.look_up(source.entry_search(dn))
    except SearchInvalid as error:
        if error.result_code == NO_SUCH_OBJECT:  # it was deleted or moved since it was listed
            return ()
        raise


async def _see_out(late: frozenset[asyncio.Task[Found | None]]) -> None:
    """Look-ups that nobody needs any more have ended."""
    if late:
        await asyncio.wait(late)


def _failure_of(task: asyncio.Task[Found | None]) -> BridgeError | None:
    """What kept a look-up that is done from being answered. Raises what is a bug."""
    error = task.exception()
    if error is None or isinstance(error, BridgeError):
        return error
    raise error
