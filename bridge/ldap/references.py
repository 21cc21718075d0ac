"""Continuation references (RFC 4511 §4.5.3): which of them lead to nobody, so that nothing is missing without them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from bridge.syntax.dn import normalize_dn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bridge.ldap.settings import LdapSettings

_URI_MAX_CHARACTERS = 8 * 1024
_SHOWN_CHARACTERS = 200
_SERVER = re.compile(r"(ldaps?://[a-z0-9_.:\[\]-]+)(?:[/?].*)?", re.IGNORECASE | re.DOTALL)
_LDAP_URL = re.compile(r"ldaps?://(?:\[[0-9a-f:.]+\])?[a-z0-9_.:-]*/([^?]*)", re.IGNORECASE)


def is_ignored(uri: str, ignored: Iterable[str]) -> bool:
    """Whether the URI (RFC 4516 §2) names a partition of a domain whose first RDN is one of `ignored`.

    The rest of the DN must be a domain's (`DC=…` throughout): `CN=Configuration,OU=staff,DC=example,DC=com` is no
    partition, but somebody's folder. What can't be read is not ignored.
    """
    found = _LDAP_URL.fullmatch(uri.partition("?")[0])
    if found is None or len(uri) > _URI_MAX_CHARACTERS:
        return False
    try:
        name = normalize_dn(unquote_to_bytes(found[1]).decode())
    except ValueError:  # no UTF-8, or no DN
        return False
    domain = name[1:]
    return bool(domain) and all(map(_is_of_domain, domain)) and any(name[:1] == normalize_dn(rdn) for rdn in ignored)


def _is_of_domain(rdn: Iterable[tuple[str, str]]) -> bool:
    return all(kind == "dc" for kind, _ in rdn)


def server_of(uri: str) -> str:
    """The scheme, the host and the port of a URI (RFC 4516 §2): what follows may be the entry of a person."""
    found = _SERVER.fullmatch(uri)
    return found[1] if found is not None else "another server"


def find_needed(uris: Iterable[str], settings: LdapSettings) -> str | None:
    """The first reference behind which there may be users, or the beginning of it; or None."""
    if settings.ignore_references:
        return None
    needed = next((uri for uri in uris if not is_ignored(uri, settings.ignored_references)), None)
    return needed if needed is None or len(needed) <= _SHOWN_CHARACTERS else f"{needed[:_SHOWN_CHARACTERS]}…"
