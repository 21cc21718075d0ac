"""Who is meant by a name in one directory: asked live, and no absence believed that a listing would not believe.

Chooses between a look-up by a filter and one through the listing. A user who is listed and not found is looked for on a
new connection, then at the other servers; where the directory is in doubt, nobody knows whether they are there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bridge.directory import LookUp
from bridge.errors import DirectoryError, DirectoryUnavailable
from bridge.model import Rejection
from bridge.removals.model import RemovalReason
from bridge.roster.roster import fold_user_name
from bridge.sources.directory.admission import admit
from bridge.sources.directory.confirmation import confirm
from bridge.sources.directory.eligibility import Excluded, id_of, judge, make_user

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bridge.directory import Entry, SearchRequest
    from bridge.model import User
    from bridge.snapshots.directory_snapshots import DirectorySnapshots
    from bridge.sources.directory.source import DirectorySource

_WITNESSES_COUNT = 3
"""So many other listed users are asked for before an absence is believed."""
_REASONS = {
    RemovalReason.GROUP: Rejection.NOT_IN_GROUP,
    RemovalReason.DISABLED: Rejection.ACCOUNT_DISABLED,
    RemovalReason.DELETED: Rejection.UNKNOWN_USER,
}
"""What the log says of a listed user who isn't found, by what the directory says when it is asked for the entry."""


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
    """What one server holds for a name: one candidate, several between whom nobody can choose, or none."""

    directory: DirectorySnapshots
    server: str
    candidates: tuple[Candidate, ...] = ()
    reason: Rejection = Rejection.UNKNOWN_USER
    """For the log: why there is no candidate."""
    detail: str = ""

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

    def of(self, user: User) -> Found | None:
        """What it holds of this very user, or None; an entry that makes no user any more shows as little of them."""
        candidates = tuple(each for each in self.candidates if each.user_id == user.id and each.user_name)
        return self._replace(candidates=candidates) if candidates else None


async def find_user(directory: DirectorySnapshots, user_name: str) -> Found:
    """What the directory holds for the name.

    Raises a `DirectoryError` where that can't be found out, or where nobody is found and that can't be believed.
    """
    source = directory.source
    if source.login_template is None and directory.last_good is None:
        await directory.current()
    found = await _find_at_any(directory, user_name)
    is_user = len(found.candidates) == 1 and bool(found.candidates[0].user_name)
    if is_user and len(source.directory.servers) == 1 and not directory.is_doubted:
        return found
    listed = find_holder(directory, user_name) or _find_nameless(directory, found)
    if listed is None:
        is_certain = bool(found.candidates) or source.finds_by_user_name
        return found if is_certain else await _believe_absence(directory, user_name, found)
    mine = found.of(listed)
    if mine is None and not found.candidates:
        found = await _find_at(directory, user_name, found.server, must_find=True)
        mine = found.of(listed)
    return mine or await _find_elsewhere(directory, user_name, listed, found)


def find_holder(directory: DirectorySnapshots, user_name: str) -> User | None:
    """Whom the last listing knows by this userName."""
    return directory.last_good.roster.find(user_name) if directory.last_good is not None else None


def _find_nameless(directory: DirectorySnapshots, found: Found) -> User | None:
    """The listed user whose entry is found, and makes no user: somebody who is known by a name, and shows none now."""
    if directory.last_good is None or len(found.candidates) != 1 or found.candidates[0].user_name:
        return None
    roster, wanted = directory.last_good.roster, found.candidates[0].user_id.encode("utf-8", "surrogateescape")
    position = next((at for at, user_id in enumerate(roster.ids()) if user_id == wanted), None)
    return None if position is None else roster[position]


async def _find_at_any(directory: DirectorySnapshots, user_name: str) -> Found:
    """What the first server holds that answers all that is asked."""
    port = directory.source.directory
    if len(port.servers) == 1:
        return await _find_at(directory, user_name)
    for _ in port.servers[1:]:
        try:
            return await _find_at(directory, user_name)
        except DirectoryError as error:
            # A server that has answered the first question fails at another one: the next server is asked all of them.
            if error.server not in port.servers[:-1]:
                raise
            port.set_aside(error.server, error)
    return await _find_at(directory, user_name)


async def _find_elsewhere(directory: DirectorySnapshots, user_name: str, listed: User, found: Found) -> Found:
    """The listed user at another server than the one that has not shown them; or what that one has found instead.

    Raises `DirectoryUnavailable` where the directory is in doubt, or the server that has shown them can't be asked: a
    listing would wait for its word.
    """
    source, witness, has_witness = directory.source, directory.witness_of(listed), True
    for url in source.directory.servers:
        if url == found.server:
            continue
        try:
            other = (await _find_at(directory, user_name, url, must_find=True)).of(listed)
            if other is None and url == witness:
                has_witness = await _shows_others(directory, listed, url)
        except DirectoryError:
            has_witness &= url != witness
            continue
        if other is not None:
            return other
    if not has_witness:
        what = f"a user who is listed is not found; {witness} has shown them, and can't be asked"
        raise _not_believed(what, source, found.server)
    if directory.is_doubted or not await _shows_others(directory, listed, found.server):
        raise _not_believed("a user who is listed is not found", source, found.server)
    if found.candidates:
        return found
    finding = (await confirm(source, [listed], ()))[listed.id]
    if finding.reason is None:
        return found
    return found._replace(reason=_REASONS.get(finding.reason, Rejection.NOT_LISTED), detail=finding.detail)


async def _believe_absence(directory: DirectorySnapshots, user_name: str, found: Found) -> Found:
    """What a server that shows listed users holds for a name by which a login filter may mean any of them.

    Such a name, an address for one, is none by which the listing knows anybody. Raises `DirectoryUnavailable` where no
    server shows those whom it lists; for an address, where they show none of theirs.
    """
    if not directory.last_good or not directory.last_good.roster:
        return found
    is_address = "@" in user_name
    if await _shows_others(directory, None, found.server, with_addresses=is_address):
        return found
    source = directory.source
    for url in dict.fromkeys((found.server, *source.directory.servers)):
        try:
            other = await _find_at(directory, user_name, url, must_find=True)
            if other.candidates or await _shows_others(directory, None, url, with_addresses=is_address):
                return other
        except DirectoryError:
            continue
    raise _not_believed("nobody of that name is found", source, found.server)


def _not_believed(what: str, source: DirectorySource, server: str) -> DirectoryUnavailable:
    return DirectoryUnavailable(
        f"{what}, and what the directory shows now is not believed",
        directory=source.name,
        server=server,
        remedy="Look at `mailstore-bridge status` and `check`: rights, search bases, a server that is no replica.",
    )


async def _shows_others(
    directory: DirectorySnapshots, absent: User | None, server: str, *, with_addresses: bool = False
) -> bool:
    """Whether the server shows any of a few other listed users, as the same questions find them.

    A server that shows none of them has lost its data or its rights, or was never a replica. `with_addresses`: as
    somebody who has addresses still, where they had some.
    """
    roster = directory.last_good.roster if directory.last_good is not None else ()
    step = max(1, len(roster) // (_WITNESSES_COUNT + 1))
    others = [roster[position] for position in range(step - 1, len(roster), step)]
    if absent is not None:
        others = [each for each in others if each.id != absent.id]
    for other in others[:_WITNESSES_COUNT]:
        shown = await _show(directory, other, server)
        if shown is None:
            continue
        made = make_user(directory.source, shown.candidates[0].entry)
        has_addresses = not isinstance(made, Excluded) and bool(made.user.email_addresses)
        if not with_addresses or has_addresses or not other.email_addresses:
            return True
    return False


async def _show(directory: DirectorySnapshots, user: User, server: str) -> Found | None:
    """What the server shows of a listed user: by a name that a login filter may know them by, or by their DN."""
    source = directory.source
    names = (user.user_name,) if source.finds_by_user_name else (user.user_name, *user.email_addresses[:1])
    for name in names:
        if (shown := (await _find_at(directory, name, server)).of(user)) is not None:
            return shown
    if source.finds_by_user_name:
        return None
    questions = _Questions(source, server)
    return (await _judge(directory, questions, await questions.read(user))).of(user)


async def _find_at(
    directory: DirectorySnapshots, user_name: str, server: str | None = None, *, must_find: bool = False
) -> Found:
    """What one server holds for the name: the named one, or the first that answers."""
    source, questions = directory.source, _Questions(directory.source, server)
    if source.groups is not None:
        await source.current_groups()
    template = source.login_template
    holder = find_holder(directory, user_name) if template is None or directory.decides(user_name) else None
    if template is None or holder is not None:
        entries = await questions.read(holder, must_find=must_find) if holder is not None else ()
        return await _judge(directory, questions, entries)
    bases = source.bases or await source.resolve_bases()
    searches = [source.login_search(base, template.fill(user_name)) for base in bases]
    entries = await questions.search(searches, must_find=must_find)
    found = await _judge(directory, questions, entries)
    is_cut = len(entries) >= searches[0].size_limit_count
    if is_cut or len(found.candidates) > 1:
        by_name = await _choose_by_user_name(found, questions, user_name)
        # Of more than were looked at, nobody knows who else is in the groups.
        return by_name or (found._replace(candidates=_candidates(source, entries)) if is_cut else found)
    if not found.candidates and source.resolved_groups.clauses:
        return await _explain_by_groups(found, questions, searches)
    return found


class _Questions:
    """Look-ups that all go to one server: the named one, or the one that answers the first of them."""

    def __init__(self, source: DirectorySource, server: str | None) -> None:
        self._source = source
        self._server = server

    @property
    def server(self) -> str:
        """The server that has answered, or would be asked."""
        return self._server or next(iter(self._source.directory.servers), "")

    async def ask(self, search: SearchRequest, *, must_find: bool = False) -> tuple[Entry, ...]:
        """The entries that match."""
        answer = await self._source.directory.look_up(search, self._server, must_find=must_find)
        self._server = answer.server
        return answer.entries

    async def search(self, searches: Sequence[SearchRequest], *, must_find: bool = False) -> tuple[Entry, ...]:
        """The entries of all searches, each once: bases may overlap."""
        if len(searches) == 1:
            return await self.ask(searches[0], must_find=must_find)
        entries = {entry.dn: entry for search in searches for entry in await self.ask(search)}
        if must_find and not entries:
            # One question on a new connection takes the place of the old one for those that follow.
            first = await self.ask(searches[0], must_find=True)
            entries = {entry.dn: entry for entry in first}
            entries |= {entry.dn: entry for search in searches[1:] for entry in await self.ask(search)}
        return tuple(entries.values())

    async def read(self, user: User, *, must_find: bool = False) -> tuple[Entry, ...]:
        """The live entry of a listed user, if it is still the same one and one of the users."""
        source = self._source
        found = await self.ask(source.entry_search(user.distinguished_name), must_find=must_find)
        entries = tuple(entry for entry in found if judge_entry(source, entry).user_id == user.id)
        if entries or source.attribute_map.id_attribute is None:
            return entries
        # The entry has another DN than when it was listed, as happens to whoever is renamed.
        return await self.search([source.login_search_by_id(base, user.id) for base in await source.resolve_bases()])


async def _judge(directory: DirectorySnapshots, questions: _Questions, entries: tuple[Entry, ...]) -> Found:
    """The candidates that the entries make, but for those whom a group shuts out."""
    source, server = directory.source, questions.server
    admitted = entries
    if source.groups is not None:
        admitted = (await admit(source, LookUp(entries, server))).entries
    candidates = _candidates(source, admitted)
    found = Found(directory, server, candidates)
    return found if candidates or not entries else found._replace(reason=Rejection.NOT_IN_GROUP)


def _candidates(source: DirectorySource, entries: Iterable[Entry]) -> tuple[Candidate, ...]:
    return tuple([judge_entry(source, entry) for entry in entries])


async def _choose_by_user_name(found: Found, questions: _Questions, user_name: str) -> Found | None:
    """The one whose userName it is, where a login filter finds others by it, too; None where that is no single one.

    The limit that shows that there are several doesn't choose among them: the userName alone is asked for.
    """
    source = found.directory.source
    searches = [source.user_name_search(base, user_name) for base in await source.resolve_bases()]
    if None in searches or source.finds_by_user_name:
        return None
    entries = await questions.search([search for search in searches if search is not None])
    by_name = await _judge(found.directory, questions, entries)
    return by_name if len(by_name.candidates) == 1 else None


async def _explain_by_groups(found: Found, questions: _Questions, searches: Sequence[SearchRequest]) -> Found:
    """For the log: whether it is the groups alone, which the server compares, that shut somebody out."""
    source = found.directory.source
    if await questions.search([source.without_groups(search) for search in searches]):
        return found._replace(reason=Rejection.NOT_IN_GROUP)
    return found


def judge_entry(source: DirectorySource, entry: Entry) -> Candidate:
    """Whom the entry makes, and whether its owner may log in. Its groups were asked before.

    Raises `SearchInvalid` where nobody can say so: it doesn't show its id, or holds more than is read.
    """
    now_s = source.clock.now_s()
    rejection = source.attribute_map.account_rejection(entry, now_s)
    found = judge(source, entry, None, now_s)
    is_listed = not isinstance(found, Excluded)
    if isinstance(found, Excluded) and found.removal is RemovalReason.DISABLED:
        found = make_user(source, entry)  # whose name it would be
    if isinstance(found, Excluded):
        return Candidate(entry, id_of(source, entry), "", rejection or Rejection.NOT_LISTED, is_listed)
    return Candidate(entry, found.user.id, found.user.user_name, rejection, is_listed)
