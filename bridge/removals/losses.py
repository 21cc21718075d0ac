"""What is lost of a user who is still listed: e-mail addresses, and the name to which the archive belongs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.removals.model import Removal, RemovalKind
from bridge.roster.roster import fold_user_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bridge.model import User


def find_alterations(old: User, new: User, *, keeps_name: bool) -> Iterator[Removal]:
    """What is lost of a user who is still there."""
    lost = lost_addresses(old, new)
    if lost:
        yield Removal(old.id, old.user_name, RemovalKind.ADDRESSES, lost=lost)
    if not keeps_name and fold_user_name(old.user_name) != fold_user_name(new.user_name):
        yield Removal(old.id, old.user_name, RemovalKind.RENAMED, new_name=new.user_name)


def lost_addresses(old: User, new: User) -> tuple[str, ...]:
    """The addresses that are gone, whatever their case, in their order."""
    left = {address.lower() for address in new.email_addresses}
    return tuple(address for address in old.email_addresses if address.lower() not in left)
