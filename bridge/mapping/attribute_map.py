"""The map of a directory's attributes: which entries make users, and what they are called."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from bridge.errors import EntryUnusable
from bridge.mapping.addresses import AddressRules
from bridge.mapping.items import VALUES_MAX_COUNT
from bridge.mapping.plain import PlainMap, make_plain_map
from bridge.model import Rejection, User
from bridge.syntax.times import parse_time_s

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bridge.directory import Entry
    from bridge.mapping.items import Item
    from bridge.syntax.times import TimeForm

_NUMBER = re.compile(r"-?[0-9]{1,20}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ARCHIVE_NAME_REPLACES = re.compile(r'["<>|:\\/]')
_GUID_BYTES = 16
_LASTING = frozenset((Rejection.ACCOUNT_DISABLED, Rejection.ACCOUNT_EXPIRED))
"""What takes somebody out of the list. A lock or a password to be changed doesn't: MailStore might delete the user."""


class IdForm(Enum):
    """How the id attribute's value becomes text."""

    TEXT = "text"
    GUID = "guid"
    """AD: 16 octets, the first three fields in little-endian order (MS-DTYP §2.3.4.2)."""


@dataclass(frozen=True, slots=True)
class AccountState:
    """An attribute that tells that an account may not be used.

    The test is one of `equals`, `bit`, `past` and `future`; without any, the attribute need only be there.
    """

    rejection: Rejection
    attribute: str
    equals: str | None = None
    """The value in this spelling, case ignored."""
    bit: int | None = None
    """A number of which this bit is set."""
    past: TimeForm | None = None
    """A time that has passed, written in this form."""
    future: TimeForm | None = None
    """A time that has not come yet."""
    is_hint: bool = False
    """Whether it says nothing by itself, and only explains why a server refuses: a lock may be over and leave it."""
    is_uncompared: bool = False
    """Whether a server that refuses a bind for it has compared no password, and so has counted nothing."""
    key: str = field(init=False, repr=False)
    """The attribute in lower case."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", self.attribute.lower())

    def applies(self, entry: Entry, now_s: float) -> bool:
        """Whether the entry is in this state at `now_s`, in seconds since 1970.

        What is no number has no bits, what is no time never passes.
        """
        raw_values = entry.attributes.get(self.key)
        if not raw_values:
            return False
        values = [value.decode("utf-8", "replace") for value in raw_values]
        if self.equals is not None:
            return any(value.lower() == self.equals.lower() for value in values)
        if self.bit is not None:
            return any(int(value) & self.bit for value in values if _NUMBER.fullmatch(value))
        form = self.past or self.future
        if form is not None:
            times_s = [found_s for value in values if (found_s := parse_time_s(value, form)) is not None]
            return any((found_s <= now_s) is (self.past is not None) for found_s in times_s)
        return True


class Mapped(NamedTuple):
    """A user, and what an administrator should know of how it came about."""

    user: User
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AttributeMap:
    """What users are made of. `id_attribute` None takes the DN."""

    id_attribute: str | None
    user_name: tuple[Item, ...]
    full_name: tuple[Item, ...] = ()
    email_addresses: tuple[Item, ...] = ()
    id_form: IdForm = IdForm.TEXT
    addresses: AddressRules = field(default_factory=AddressRules)
    account_states: tuple[AccountState, ...] = ()
    _plain: PlainMap | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        items = (self.user_name, self.full_name, self.email_addresses)
        is_text = self.id_attribute is not None and self.id_form is IdForm.TEXT
        id_key = self.id_attribute.lower() if self.id_attribute is not None and is_text else None
        object.__setattr__(self, "_plain", make_plain_map(items, self.addresses, id_key, self.id_of))

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attribute descriptions that a listing needs, each once.

        States that take nobody out of the list are asked for when somebody logs in: a server may have to compute them.
        """
        items = (*self.user_name, *self.full_name, *self.email_addresses)
        names = [self.id_attribute] if self.id_attribute else []
        names += [name for item in items for name in item.attributes]
        names += [state.attribute for state in self.account_states if state.rejection in _LASTING]
        return tuple({name.lower(): name for name in names}.values())

    @property
    def user_name_attribute(self) -> str | None:
        """The attribute that is the user name, where it is one attribute alone."""
        return self.user_name[0].plain_attribute if len(self.user_name) == 1 else None

    def id_of(self, entry: Entry) -> str:
        """The id that stays when the entry is renamed. Raises `EntryUnusable` with reason `id_missing`."""
        if self.id_attribute is None:
            return entry.dn
        values = entry.attributes.get(self.id_attribute.lower(), ())
        if len(values) != 1:
            raise EntryUnusable("id_missing", f"{self.id_attribute} is missing, or there are several")
        if self.id_form is IdForm.GUID:
            if len(values[0]) != _GUID_BYTES:
                raise EntryUnusable("id_missing", f"{self.id_attribute} is no GUID")
            return str(uuid.UUID(bytes_le=bytes(values[0])))
        try:
            found = values[0].decode()
        except UnicodeDecodeError as error:
            raise EntryUnusable("id_missing", f"{self.id_attribute} is no text") from error
        if not found or (not found.isprintable() and _CONTROL.search(found)):
            raise EntryUnusable("id_missing", f"{self.id_attribute} is empty or holds control characters")
        return found

    def id_value(self, user_id: str) -> bytes:
        """The value of the id attribute that makes this id: the inverse of `id_of`, if there is such an attribute."""
        return uuid.UUID(user_id).bytes_le if self.id_form is IdForm.GUID else user_id.encode()

    def account_rejection(self, entry: Entry, now_s: float) -> Rejection | None:
        """Why the account may not be used at `now_s`, in seconds since 1970; or None."""
        for state in self.account_states:
            if state.key in entry.attributes and not state.is_hint and state.applies(entry, now_s):
                return state.rejection
        return None

    def exclusion(self, entry: Entry, now_s: float) -> Rejection | None:
        """Why the account is left out of the list at `now_s`, in seconds since 1970; or None."""
        for state in self.account_states:
            if state.key in entry.attributes and state.rejection in _LASTING and state.applies(entry, now_s):
                return state.rejection
        return None

    def map_entry(self, entry: Entry) -> Mapped:
        """The user that the entry makes.

        Raises `EntryUnusable` where it makes none; its `reason` is one of a few words.
        """
        user = self._plain.user_of(entry) if self._plain is not None else None
        if user is not None:
            return tuple.__new__(Mapped, (user, ()))
        remarks: list[str] = []
        dn, attributes = entry
        user_name = _first(self.user_name, attributes, remarks)
        if not user_name:
            raise EntryUnusable("no_user_name", "userName is empty")
        if not user_name.isalnum():
            _check_user_name(user_name, remarks)
        if not (dn.isascii() or _is_text(dn)):
            raise EntryUnusable("bad_dn", "the DN is not UTF-8")
        addresses, unusable_count = self.addresses.choose(_all(self.email_addresses, attributes, remarks))
        if unusable_count:
            remarks.append("bad_address")
        if self.addresses.require and not addresses:
            raise EntryUnusable("no_address", "there is no e-mail address, and emails.require is set")
        full_name = _first(self.full_name, attributes, remarks) or None
        return Mapped(User(self.id_of(entry), user_name, dn, full_name, addresses), tuple(remarks))


def _check_user_name(user_name: str, remarks: list[str]) -> None:
    if user_name != user_name.strip(" ") or (not user_name.isprintable() and _CONTROL.search(user_name)):
        raise EntryUnusable("bad_user_name", "userName begins or ends in a blank, or holds control characters")
    if _ARCHIVE_NAME_REPLACES.search(user_name):
        remarks.append("user_name_replaced_in_archive")


class _Texts:
    """The attribute values of an entry that are text, decoded where they are asked for."""

    __slots__ = ("_attributes", "_remarks")

    def __init__(self, attributes: Mapping[str, Sequence[bytes]], remarks: list[str]) -> None:
        self._attributes = attributes
        self._remarks = remarks

    def get(self, description: str, default: Sequence[str]) -> Sequence[str]:
        """The texts of an attribute."""
        values = self._attributes.get(description)
        return default if values is None else _decode(description, values, self._remarks)


def _decode(description: str, values: Sequence[bytes], remarks: list[str]) -> list[str]:
    """The values of an attribute as texts; what is no UTF-8 is left out, and remarked once."""
    if len(values) > VALUES_MAX_COUNT:
        raise EntryUnusable("too_many_values", f"{description} has more than {VALUES_MAX_COUNT} values")
    try:
        return [values[0].decode()] if len(values) == 1 else list(map(bytes.decode, values))
    except UnicodeDecodeError:
        if "value_not_utf8" not in remarks:
            remarks.append("value_not_utf8")
        return [value.decode() for value in values if _is_utf8(value)]


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_text(text: str) -> bool:
    """Whether the text has no surrogates, which stand for bytes that were no UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _first(items: tuple[Item, ...], attributes: Mapping[str, Sequence[bytes]], remarks: list[str]) -> str:
    """The first text that is not empty, or "" where there is none."""
    for item in items:
        if item.plain_attribute is None:
            found = item.values(_Texts(attributes, remarks))
        elif item.plain_attribute in attributes:
            found = _decode(item.plain_attribute, attributes[item.plain_attribute], remarks)
        else:
            continue
        for text in found:
            if text:
                return text
    return ""


def _all(items: tuple[Item, ...], attributes: Mapping[str, Sequence[bytes]], remarks: list[str]) -> list[str]:
    """The texts of all items, one after the other."""
    if len(items) == 1 and (name := items[0].plain_attribute) is not None:
        return _decode(name, attributes.get(name, ()), remarks)
    return [text for item in items for text in item.values(_Texts(attributes, remarks))]
