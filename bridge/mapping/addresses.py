"""E-mail addresses as directories hold them: with prefixes, in several attributes, some of them no addresses at all."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# What stands before the colon in Exchange's proxyAddresses: SMTP:, smtp:, X500:, SIP:, EUM:, X400: …
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_PLAIN_ADDRESS = re.compile(r"[A-Za-z0-9.+_-]+@[A-Za-z0-9.-]+")
_ADDRESS = re.compile(r'(?:"[^"\x00-\x1f\x7f]+"|[^\s"@<>(),;:\x00-\x1f\x7f]+)@[^\s"@<>(),;:\[\]\x00-\x1f\x7f]+')

_DOMAIN_MAX_CHARACTERS = 253
"""RFC 1035 §2.3.4, in text."""


@dataclass(frozen=True, slots=True)
class AddressRules:
    """Which addresses are taken. `domains` are in lower case; none at all takes every domain."""

    domains: frozenset[str] = frozenset()
    lowercase: bool = False
    require: bool = False
    """Whether somebody without an address makes no user."""

    def choose(self, values: Sequence[str]) -> tuple[tuple[str, ...], int]:
        """The addresses in their order, and how many values were no address.

        What is marked `SMTP:` in capitals comes first; of addresses that differ in case alone the first is kept;
        values of other schemes than SMTP are no addresses of this kind and aren't counted.
        """
        if not values:
            return (), 0
        if not self.domains:  # most people's case
            if len(values) == 1 and _PLAIN_ADDRESS.fullmatch(values[0]):
                return (values[0].lower() if self.lowercase else values[0],), 0
            if all(map(_PLAIN_ADDRESS.fullmatch, values)):
                return _unique([value.lower() for value in values] if self.lowercase else values), 0
        primary: list[str] = []
        others: list[str] = []
        unusable_count = 0
        for value in values:
            text, is_primary = value, False
            if _ADDRESS.fullmatch(value) is None:  # most are addresses as they stand
                text = value.strip()
                scheme = _SCHEME.match(text)
                if scheme is not None:
                    if scheme[1].lower() != "smtp":
                        continue
                    is_primary = scheme[1] == "SMTP"
                    text = text[scheme.end() :].strip()
                if _ADDRESS.fullmatch(text) is None:
                    unusable_count += bool(text)
                    continue
            if not self.domains or self._is_wanted(text):
                (primary if is_primary else others).append(text.lower() if self.lowercase else text)
        return _unique(primary + others), unusable_count

    def _is_wanted(self, address: str) -> bool:
        return fold_domain(address.rpartition("@")[2]) in self.domains


def _unique(addresses: Sequence[str]) -> tuple[str, ...]:
    """The addresses in their order; of those that differ in case alone, the first."""
    if len(addresses) <= 1:
        return tuple(addresses)
    unique: dict[str, str] = {}
    for address in addresses:
        unique.setdefault(address.lower(), address)
    return tuple(unique.values())


def fold_domain(domain: str) -> str:
    """What two spellings of one domain have in common: lower case, and letters instead of `xn--` (RFC 5891)."""
    folded = domain.lower()
    if "xn--" not in folded or len(folded) > _DOMAIN_MAX_CHARACTERS:  # no domain; Punycode would take quadratic time
        return folded
    try:
        return folded.encode("ascii").decode("idna").lower()
    except UnicodeError:
        return folded
