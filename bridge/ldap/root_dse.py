"""What a server says of itself: its root DSE (RFC 4512 §5.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.directory import RootDSE, Scope, SearchRequest
from bridge.ldap.results import ASK_ANOTHER_SERVER, SUCCESS, check_entries, search_error
from bridge.syntax.filters import Present

if TYPE_CHECKING:
    from bridge.directory import Entry
    from bridge.ldap.connection import Connection

_READ_ROOT_DSE = SearchRequest(
    base="",
    scope=Scope.BASE,
    filter=Present("objectClass"),
    attributes=(
        "namingContexts",
        "defaultNamingContext",
        "supportedControl",
        "supportedExtension",
        "vendorName",
        "vendorVersion",
        "objectClass",
    ),
)

# AD: configuration and schema are naming contexts like the domain, and nobody in there is a person.
_NEVER_DEFAULT = ("cn=configuration,", "cn=schema,", "dc=domaindnszones,", "dc=forestdnszones,")


async def read_root_dse(connection: Connection) -> RootDSE | None:
    """The server's root DSE, or None where it shows us none. Raises `DirectoryUnavailable` and `SearchIncomplete`."""
    exchange = connection.send_search(_READ_ROOT_DSE)
    response = await connection.wait(exchange)
    if response.result_code in ASK_ANOTHER_SERVER:
        raise search_error(response, connection.peer, _READ_ROOT_DSE)
    if response.result_code != SUCCESS or not exchange.entries:
        return None
    check_entries(exchange.entries, _READ_ROOT_DSE, connection)
    return _parse_root_dse(exchange.entries[0], connection.peer.server)


def _parse_root_dse(entry: Entry, server: str) -> RootDSE:
    contexts = _texts(entry, "namingcontexts")
    return RootDSE(
        server=server,
        naming_contexts=contexts,
        default_naming_context=_default_context(_texts(entry, "defaultnamingcontext"), contexts),
        supported_controls=frozenset(_texts(entry, "supportedcontrol")),
        vendor=_vendor(entry),
    )


def _default_context(named: tuple[str, ...], contexts: tuple[str, ...]) -> str | None:
    if named:
        return named[0]
    candidates = [context for context in contexts if context and not context.lower().startswith(_NEVER_DEFAULT)]
    return candidates[0] if len(candidates) == 1 else None


def _vendor(entry: Entry) -> str:
    names = (*_texts(entry, "vendorname"), *_texts(entry, "vendorversion"))
    if names:
        return " ".join(names)
    return "OpenLDAP" if "OpenLDAProotDSE" in _texts(entry, "objectclass") else ""


def _texts(entry: Entry, attribute: str) -> tuple[str, ...]:
    return tuple(value.decode("utf-8", "replace") for value in entry.attributes.get(attribute, ()))
