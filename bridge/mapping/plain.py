"""The short way from an entry to its user, which most entries take: plain attributes, all of them in order.

Whatever is out of the ordinary is left to `AttributeMap`, so that there is one place that judges it. The user is the
same either way, which tests prove; the time is half.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bridge.errors import EntryUnusable
from bridge.mapping.items import VALUES_MAX_COUNT
from bridge.model import User

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.directory import Entry
    from bridge.mapping.addresses import AddressRules
    from bridge.mapping.items import Item

_PLAIN_USER_NAME = re.compile(r"[\w.@+-]+")
"""Neither blanks nor control characters, nor what MailStore replaces in the name of an archive."""


class PlainMap:
    """What users are made of, where each item is an attribute."""

    __slots__ = ("_address_key", "_addresses", "_full_name_keys", "_id_key", "_id_of", "_user_name_key")

    def __init__(
        self,
        keys: tuple[str, tuple[str, ...], str],
        addresses: AddressRules,
        id_key: str | None,
        id_of: Callable[[Entry], str],
    ) -> None:
        """`id_key` is the attribute whose text is the id; where it is None, `id_of` makes it."""
        self._user_name_key, self._full_name_keys, self._address_key = keys
        self._addresses = addresses
        self._id_key = id_key
        self._id_of = id_of

    def user_of(self, entry: Entry) -> User | None:
        """The user, or None where the entry has to be looked at more closely."""
        dn, attributes = entry
        full_name = None
        try:
            (raw_name,) = attributes[self._user_name_key]
            user_name = raw_name.decode()
            if self._id_key is None:
                user_id = self._id_of(entry)
            else:
                (raw_id,) = attributes[self._id_key]
                user_id = raw_id.decode()
            for key in self._full_name_keys:
                if key in attributes:
                    (raw_full_name,) = attributes[key]
                    full_name = raw_full_name.decode() or None
                    if full_name is not None:
                        break
            raw_values = attributes.get(self._address_key, ())
            if len(raw_values) > VALUES_MAX_COUNT:
                return None
            addresses, unusable_count = self._addresses.choose(list(map(bytes.decode, raw_values)))
        except (KeyError, ValueError, EntryUnusable):
            return None
        if (
            unusable_count
            or not (user_name.isalnum() or _PLAIN_USER_NAME.fullmatch(user_name))
            or not (user_id and user_id.isprintable() and dn.isascii())
            or (self._addresses.require and not addresses)
        ):
            return None
        return tuple.__new__(User, (user_id, user_name, dn, full_name, addresses))


def make_plain_map(
    items: tuple[tuple[Item, ...], tuple[Item, ...], tuple[Item, ...]],
    addresses: AddressRules,
    id_key: str | None,
    id_of: Callable[[Entry], str],
) -> PlainMap | None:
    """The short way for items of the user name, the full name and the addresses, or None where there is none."""
    user_name, full_name, email_addresses = (tuple(item.plain_attribute for item in group) for group in items)
    full_name_keys = tuple(key for key in full_name if key is not None)
    if len(user_name) != 1 or len(email_addresses) > 1 or len(full_name_keys) < len(full_name):
        return None
    address_key = email_addresses[0] if email_addresses else ""
    if user_name[0] is None or address_key is None:
        return None
    return PlainMap((user_name[0], full_name_keys, address_key), addresses, id_key, id_of)
