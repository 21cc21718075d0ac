"""Logins: one look-up in each directory, then exactly one user bind, and the same answer whatever the reason.

Knows neither HTTP nor sockets. Whoever isn't listed can't log in, and an outage is never a wrong password.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.directory import NO_SUCH_OBJECT
from bridge.errors import BridgeError, EntryUnusable, SearchInvalid
from bridge.events import UserAuthenticated
from bridge.model import Accepted, Rejected, Rejection, Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bridge.directory import BindResult, Entry
    from bridge.events import Observer
    from bridge.model import Verdict
    from bridge.snapshots import DirectorySnapshots
    from bridge.source import DirectorySource


@dataclass(frozen=True, slots=True)
class _Decision:
    """A verdict, and what the log should know beside it."""

    verdict: Verdict
    bind: BindResult | None = None
    detail: str = ""


class Authenticator:
    """Checks passwords against the directories of one endpoint, which come in order of their priority."""

    def __init__(
        self,
        endpoint: str,
        directories: Sequence[DirectorySnapshots],
        clock: Callable[[], float],
        make_token: Callable[[], str],
        observe: Observer,
    ) -> None:
        self._endpoint = endpoint
        self._directories = directories
        self._clock = clock
        self._make_token = make_token
        self._observe = observe

    async def authenticate(self, user_name: str, password: Secret) -> Verdict:
        """Whether the password is the user's.

        Raises a `BridgeError` where that could not be found out.
        """
        started_s = self._clock()
        decision = await self._decide(user_name, password)
        bind = decision.bind
        self._observe(
            UserAuthenticated(
                endpoint=self._endpoint,
                user_name=user_name,
                verdict=decision.verdict,
                duration_s=self._clock() - started_s,
                server=bind.server if bind else None,
                result_code=bind.result_code if bind else None,
                diagnostic_message=bind.diagnostic_message if bind else "",
                detail=decision.detail,
            )
        )
        return decision.verdict

    async def _decide(self, user_name: str, password: Secret) -> _Decision:
        if not password:
            # Security: a simple bind without a password is anonymous and succeeds (RFC 4513 §5.1.2).
            return _Decision(Rejected(Rejection.EMPTY_PASSWORD))
        if not user_name:
            return await self._bind_nobody(self._directories[0].source, password, Rejected(Rejection.UNKNOWN_USER))
        source, entries = await self._find(user_name)
        if not entries:
            return await self._bind_nobody(source, password, Rejected(Rejection.UNKNOWN_USER))
        if len(entries) > 1:
            names = " and ".join(entry.dn for entry in entries)
            verdict = Rejected(Rejection.AMBIGUOUS_USER, source.name)
            return await self._bind_nobody(source, password, verdict, f"the name belongs to {names}")
        return await self._bind_user(source, entries[0], password)

    async def _find(self, user_name: str) -> tuple[DirectorySource, tuple[Entry, ...]]:
        """The directory that holds the name, with what it holds; the first one with nothing where none does.

        Raises what kept a directory from answering, unless another is known to hold the name.
        """
        if len(self._directories) == 1:
            return self._directories[0].source, await find_entries(self._directories[0], user_name)
        found = await asyncio.gather(
            *(find_entries(directory, user_name) for directory in self._directories), return_exceptions=True
        )
        failure: BridgeError | None = None
        for directory, outcome in zip(self._directories, found, strict=True):
            if isinstance(outcome, BridgeError):
                failure = failure or outcome
                if _may_hold(directory, user_name):
                    raise outcome
            elif isinstance(outcome, BaseException):
                raise outcome
            elif outcome:
                return directory.source, outcome
        if failure is not None:
            raise failure
        return self._directories[0].source, ()

    async def _bind_user(self, source: DirectorySource, entry: Entry, password: Secret) -> _Decision:
        """The one bind of this request. Who may not log in is bound all the same, so that time tells nothing."""
        refusal, user_id = judge_entry(source, entry)
        bind = await source.directory.bind(entry.dn, password)
        reason = bind.rejection or refusal
        if reason is not None:
            return _Decision(Rejected(reason, source.name, user_id), bind)
        return _Decision(Accepted(source.name, user_id, bind.notice), bind)

    async def _bind_nobody(
        self, source: DirectorySource, password: Secret, verdict: Rejected, detail: str = ""
    ) -> _Decision:
        """A bind that must fail, as neither time nor number may tell who exists.

        Security: the DN is random. One made of the user's text could be somebody outside of the users' filter, whose
        account would count the failure.
        """
        base = (await source.resolve_bases())[0]
        bind = await source.directory.bind(f"cn={self._make_token()},{base}", password)
        return _Decision(verdict, bind, detail)


async def find_entries(directory: DirectorySnapshots, user_name: str) -> tuple[Entry, ...]:
    """The entries that a login by this name may mean, live from the directory: none, one, or two."""
    source = directory.source
    if source.login_template is None or directory.decides(user_name):
        return await _find_listed(directory, user_name)
    login_filter = source.login_template.fill(user_name)
    entries: dict[str, Entry] = {}
    for base in await source.resolve_bases():
        for entry in await source.directory.look_up(source.login_search(base, login_filter)):
            entries.setdefault(entry.dn, entry)  # bases may overlap
    return tuple(entries.values())


def judge_entry(source: DirectorySource, entry: Entry) -> tuple[Rejection | None, str]:
    """Why the entry's owner may not log in, if so, and the id."""
    attribute_map = source.attribute_map
    rejection = attribute_map.account_rejection(entry)
    try:
        user_id = attribute_map.id_of(entry)
        attribute_map.map_entry(entry)
    except EntryUnusable:
        return rejection or Rejection.NOT_LISTED, entry.dn
    return rejection, user_id


async def _find_listed(directory: DirectorySnapshots, user_name: str) -> tuple[Entry, ...]:
    """The live entry of the user whom the last listing knows by this name, if it is still the same one."""
    source = directory.source
    snapshot = directory.last_good or await directory.current()
    user = snapshot.roster.find(user_name)
    if user is None:
        return ()
    found = await _read_entry(source, user.distinguished_name)
    entries = tuple(entry for entry in found if judge_entry(source, entry)[1] == user.id)
    if entries or source.attribute_map.id_attribute is None:
        return entries
    # The entry has another DN than when it was listed, as happens to whoever is renamed.
    bases = await source.resolve_bases()
    searches = (source.ids_search(base, (user.id,), source.users_filter, scope=source.scope) for base in bases)
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


def _may_hold(directory: DirectorySnapshots, user_name: str) -> bool:
    """Whether a directory that can't be asked could hold the name, as far as its last listing tells."""
    snapshot = directory.last_good
    return snapshot is None or snapshot.roster.find(user_name) is not None
