"""What becomes of entries: users, account states, lockout policies, groups, rosters."""

from __future__ import annotations

import json
import uuid

from ldap3.protocol.formatters.formatters import format_sid, format_uuid_le

from bridge.config.directories import Configuration
from bridge.config.presets import preset_names
from bridge.directory import Entry
from bridge.errors import EntryUnusable
from bridge.ldap.root_dse import _parse_root_dse
from bridge.mapping import AttributeMap, IdForm, Mapped
from bridge.roster.builder import RosterBuilder
from bridge.roster.roster import render_user
from bridge.sources.directory.groups import primary_group_sid, rid_of
from tests.fuzz.inputs import entries_of, split_off

_NOW_S = 1_790_000_000.0


def _directory(preset: str, **more: object) -> dict[str, object]:
    custom = {"attributes": {"userName": "{uid|lower}", "id": "entryUUID", "fullName": ["cn", "{givenName} {sn}"]}}
    return {
        "name": preset,
        "preset": preset,
        "servers": ["ldapi:///s"],
        "bind": {"dn": "cn=a", "password_file": "p"},
        "users": {"bases": ["dc=e"], **({"filter": "(uid=*)"} if preset == "custom" else {})},
        **(custom if preset == "custom" else {}),
        **more,
    }


_CONFIGURATION = Configuration.model_validate(
    {
        "endpoints": [{"path": "/m", "callers": [{"username": "m", "password_file": "p"}]}],
        "directories": [
            *map(_directory, preset_names()),
            _directory("openldap", emails={"domains": ["example.com"], "lowercase": True, "require": True})
            | {"name": "x"},
        ],
    }
)
_MAPS = [directory.attribute_map for directory in _CONFIGURATION.directories]
_LOCKOUT_RULES = [rule for directory in _CONFIGURATION.directories for rule in directory.lockout_rules]


def map_entries(data: bytes) -> bool:
    """Entries make users whose names hold no control characters and fit into JSON, the short way as the long one."""
    head, rest = split_off(data, 1)
    attribute_map = _MAPS[head[0] % len(_MAPS)]
    users = []
    for entry in entries_of(rest):
        found = _map(attribute_map, entry)
        plain = attribute_map._plain.user_of(entry) if attribute_map._plain is not None else None
        assert plain is None or (found is not None and found.user == plain and _map_long(attribute_map, entry) == found)
        attribute_map.account_rejection(entry, _NOW_S)
        attribute_map.exclusion(entry, _NOW_S)
        if found is not None:
            users.append(found.user)
            _check(attribute_map, entry, found)
    builder = RosterBuilder()
    builder.add(users)
    built = builder.build()
    assert {user.user_name for user in built.roster} <= {user.user_name for user in users}
    assert all(user in users for user in built.roster)
    assert len(json.loads(built.roster.json)) == len(built.roster)
    return bool(users)


def _map(attribute_map: AttributeMap, entry: Entry) -> Mapped | None:
    try:
        return attribute_map.map_entry(entry)
    except EntryUnusable:
        return None


def _map_long(attribute_map: AttributeMap, entry: Entry) -> Mapped | None:
    plain = attribute_map._plain
    object.__setattr__(attribute_map, "_plain", None)
    try:
        return _map(attribute_map, entry)
    finally:
        object.__setattr__(attribute_map, "_plain", plain)


def _check(attribute_map: AttributeMap, entry: Entry, found: Mapped) -> None:
    user = found.user
    assert user.user_name and user.id and user.user_name == user.user_name.strip(" ")
    assert not any(letter < " " or "\x7f" <= letter <= "\x9f" for letter in user.user_name + user.id)
    fields = json.loads(render_user(user))
    assert (fields["userName"], fields["distinguishedName"]) == (user.user_name, entry.dn)
    if attribute_map.id_attribute is not None:
        (raw,) = entry.attributes[attribute_map.id_attribute.lower()]
        assert attribute_map.id_value(user.id) == raw
        assert attribute_map.id_form is IdForm.TEXT or f"{{{user.id}}}" == format_uuid_le(raw)
        assert attribute_map.id_form is IdForm.TEXT or uuid.UUID(user.id).bytes_le == raw


def read_policies(data: bytes) -> bool:
    """Thresholds and windows of any entry are numbers from 0 on, and the root DSE is read whatever stands in it."""
    taken = False
    for entry in entries_of(data):
        root = _parse_root_dse(entry, "h")
        assert root.default_naming_context is None or "\ud800" not in root.default_naming_context
        for rule in _LOCKOUT_RULES:
            policy = rule.read(entry)
            if policy is not None:
                taken = True
                assert 0 <= policy.threshold_count < 10**20
                assert policy.window_s is None or 0 <= policy.window_s < 10**20
    return taken


def find_primary_group(data: bytes) -> bool:
    """The SID of a primary group is that of the user but for its last part, as ldap3 writes both."""
    rid, _, sid = data.partition(b"\n")
    found = primary_group_sid(Entry("cn=a", {"primarygroupid": [rid], "objectsid": [sid]}))
    if found is None:
        return False
    assert rid_of(found) == int(rid)
    users, groups = format_sid(sid), format_sid(found)
    if isinstance(users, str) and users.startswith("S-1-") and len(sid) == 8 + 4 * sid[1] and sid[1] > 0:
        assert groups == f"{users.rpartition('-')[0]}-{int(rid)}"
    return True


TARGETS = {"user": map_entries, "policy": read_policies, "primary-group": find_primary_group}
