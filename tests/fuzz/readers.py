"""Readers that are not ours, to be agreed with: pyasn1 with ldap3's types, ldap3's own, libyaml.

Each returns None for what it refuses. Whatever such a reader raises is a refusal: it is not what is tested.
"""

from __future__ import annotations

from typing import Any

import yaml
from ldap3.operation.search import compile_filter, parse_filter
from ldap3.operation.search import search_result_entry_response_to_dict_fast as read_fast_entry
from ldap3.protocol.rfc2696 import RealSearchControlValue
from ldap3.protocol.rfc4511 import Filter, LDAPMessage
from ldap3.strategy.base import BaseStrategy
from ldap3.utils.asn1 import decode_message_fast, encode
from ldap3.utils.dn import parse_dn
from pyasn1.codec.ber import decoder
from pyasn1.type import namedtype, tag, univ


class PolicyWarning(univ.Choice):
    """draft-behera-ldap-password-policy-11 §6.2."""

    componentType = namedtype.NamedTypes(  # noqa: N815 - pyasn1's name
        namedtype.NamedType(
            "expires", univ.Integer().subtype(implicitTag=tag.Tag(tag.tagClassContext, tag.tagFormatSimple, 0))
        ),
        namedtype.NamedType(
            "graces", univ.Integer().subtype(implicitTag=tag.Tag(tag.tagClassContext, tag.tagFormatSimple, 1))
        ),
    )


class PolicyValue(univ.Sequence):
    """draft-behera-ldap-password-policy-11 §6.2."""

    componentType = namedtype.NamedTypes(  # noqa: N815 - as above
        namedtype.OptionalNamedType(
            "warning",
            PolicyWarning().subtype(explicitTag=tag.Tag(tag.tagClassContext, tag.tagFormatConstructed, 0)),
        ),
        namedtype.OptionalNamedType(
            "error", univ.Enumerated().subtype(implicitTag=tag.Tag(tag.tagClassContext, tag.tagFormatSimple, 1))
        ),
    )


def read_asn1(data: bytes, kind: Any = None) -> Any:
    """The value that is the whole of `data`, of an ASN.1 type or of that which its tags tell."""
    try:
        found, rest = decoder.decode(data, asn1Spec=kind)
    except Exception:  # noqa: BLE001 - see above
        return None
    return found if not rest else None


def read_message(data: bytes) -> Any:
    """A whole LDAP message (RFC 4511 Appendix B)."""
    return read_asn1(data, LDAPMessage())


def read_paging(data: bytes) -> tuple[int, bytes] | None:
    """The value of a paged-results control (RFC 2696 §2)."""
    found = read_asn1(data, RealSearchControlValue())
    return None if found is None else (int(found["size"]), bytes(found["cookie"]))


def read_policy(data: bytes) -> tuple[tuple[str, int] | None, int | None] | None:
    """The warning and the error of a password policy response control."""
    found = read_asn1(data, PolicyValue())
    if found is None:
        return None
    warning = found["warning"]
    told = (warning.getName(), int(warning.getComponent())) if warning.isValue else None
    return told, int(found["error"]) if found["error"].isValue else None


def read_filter_ber(data: bytes) -> Any:
    """A filter as it travels (RFC 4511 §4.5.1.7)."""
    return read_asn1(data, Filter())


def encode_filter_text(text: str) -> bytes | None:
    """The BER of a filter that is written as text (RFC 4515)."""
    try:
        tree = parse_filter(text, None, auto_escape=False, auto_encode=False, validator=None, check_names=False)
        return bytes(encode(compile_filter(tree.elements[0])))
    except Exception:  # noqa: BLE001 - see above
        return None


def read_entry(message: bytes) -> tuple[str, dict[str, list[bytes]]] | None:
    """The DN and the attributes of a message that is an entry, by ldap3's fast decoder."""
    try:
        found = read_fast_entry(decode_message_fast(message)["payload"], None, {}, False)
    except Exception:  # noqa: BLE001 - see above
        return None
    return found["dn"], {name.lower(): list(values or ()) for name, values in found["raw_attributes"].items()}


def split_messages(data: bytes) -> list[bytes]:
    """The whole messages at the beginning of a stream, by ldap3's arithmetic."""
    found, position = [], 0
    while 0 < (size := BaseStrategy.compute_ldap_message_size(data[position:])) <= len(data) - position:
        found.append(data[position : position + size])
        position += size
    return found


def read_fast(message: bytes) -> dict[str, Any] | None:
    """A message by ldap3's fast decoder: its id, the tag's number of its operation, its parts."""
    try:
        found: dict[str, Any] = decode_message_fast(message)
    except Exception:  # noqa: BLE001 - see above
        return None
    return found


def read_dn(text: str) -> list[tuple[str, str, str]] | None:
    """Attributes, values as they are written, and what follows each, by ldap3."""
    try:
        return list(parse_dn(text, strip=True))
    except Exception:  # noqa: BLE001 - see above
        return None


def read_yaml(text: str) -> tuple[object] | None:
    """What a YAML document holds by libyaml, each scalar as its text."""
    try:
        return (yaml.load(text, Loader=yaml.CBaseLoader),)  # it makes texts, lists and mappings alone
    except Exception:  # noqa: BLE001 - see above
        return None
