"""At what a server can fail: the steps of a list and of a login, and by which request each is known."""

from __future__ import annotations

from enum import StrEnum

from bridge.demo import wire
from bridge.demo.people import BASE
from bridge.syntax.filters import Equal
from tests.faults.server import FaultySession
from tests.support.slapd import PEOPLE, READER

PAGE_SIZE_COUNT = 2
USERS = ("anna", "bert", "carl", "dora", "emil")
"""Who is listed: three pages."""
BARRED = "fritz"
"""Who is in the excluded group: a user where there are no groups."""
STAFF, GUESTS, EXCLUDED, INNER = (f"cn={name},{BASE}" for name in ("staff", "guests", "excluded", "inner"))
"""Groups: users are in one of the first two, and not in the third, which holds the fourth."""


class Stage(StrEnum):
    """A step of a list or of a login."""

    CONNECT = "connect"
    START_TLS = "starttls"
    TLS = "tls"
    SERVICE_BIND = "service-bind"
    ROOT_DSE = "root-dse"
    GROUP_READ = "group-read"
    """The second of two included groups is read, with its members."""
    EXCLUDED_READ = "excluded-read"
    """The excluded group is read."""
    INNER_READ = "inner-read"
    """The group inside of that is read."""
    GROUP_SEARCH = "group-search"
    """The groups that may be inside of others are looked for, page by page."""
    FIRST_PAGE = "first-page"
    MIDDLE_PAGE = "middle-page"
    LAST_PAGE = "last-page"
    LOOK_UP = "look-up"
    MEMBER_TEST = "member-test"
    """A group is asked whether somebody is in it."""
    POLICY = "policy"
    """The directory's password policies are read."""
    USER_BIND = "user-bind"
    SECOND_LOOK = "second-look"
    """The entry is read again after a refusal."""
    OTHER = "other"


PAGES = (Stage.FIRST_PAGE, Stage.MIDDLE_PAGE, Stage.LAST_PAGE)
LIST_STAGES = (Stage.SERVICE_BIND, Stage.ROOT_DSE, *PAGES)
GROUP_READS = (Stage.GROUP_READ, Stage.EXCLUDED_READ, Stage.INNER_READ)
LIST_GROUP_STAGES = (*GROUP_READS, Stage.GROUP_SEARCH)
AUTH_STAGES = (Stage.SERVICE_BIND, Stage.LOOK_UP, Stage.POLICY, Stage.USER_BIND, Stage.SECOND_LOOK)
AUTH_GROUP_STAGES = (*GROUP_READS, Stage.MEMBER_TEST)
KEPT_STAGES = (Stage.LOOK_UP, Stage.USER_BIND, Stage.SECOND_LOOK)
"""What a login does on connections that were there before."""
KEPT_GROUP_STAGES = (Stage.MEMBER_TEST,)
GROUP_STAGES = frozenset((*LIST_GROUP_STAGES, *AUTH_GROUP_STAGES))
BIND_STAGES = frozenset((Stage.SERVICE_BIND, Stage.USER_BIND))

_READS = {STAFF: Stage.OTHER, GUESTS: Stage.GROUP_READ, EXCLUDED: Stage.EXCLUDED_READ, INNER: Stage.INNER_READ}


def stage_of(session: FaultySession, message: wire.Message) -> Stage:
    """What the bridge is doing with this request."""
    match message.operation:
        case wire.ReceivedBind(dn):
            return Stage.SERVICE_BIND if dn == READER else Stage.USER_BIND
        case wire.ReceivedExtended(name) if name == wire.START_TLS:
            return Stage.START_TLS
        case wire.ReceivedSearch() as search:
            return _stage_of_search(session, search, is_paged=wire.PAGED_RESULTS in message.controls)
    return Stage.OTHER


def _stage_of_search(session: FaultySession, search: wire.ReceivedSearch, *, is_paged: bool) -> Stage:
    if not search.base:
        return Stage.ROOT_DSE
    if search.base in _READS:
        return Stage.MEMBER_TEST if search.attributes == ("1.1",) else _READS[search.base]
    if search.base == BASE:
        is_policy = search.filter == Equal("objectClass", b"pwdPolicy")
        return Stage.POLICY if is_policy else Stage.GROUP_SEARCH
    if search.base != PEOPLE:
        return Stage.SECOND_LOOK
    if is_paged:
        return PAGES[min(session.page_count, len(PAGES)) - 1]
    return Stage.OTHER if search.attributes == ("1.1",) else Stage.LOOK_UP
