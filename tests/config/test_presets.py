"""What each preset says, taken through a whole configuration, as `serve` takes it."""

from __future__ import annotations

import re
import time
from importlib import resources
from pathlib import Path

import pytest
from pydantic import ValidationError

from bridge.config.directories import DirectorySection
from bridge.config.loading import load
from bridge.config.presets import Preset, load_preset, preset_names
from bridge.directory import Entry
from bridge.mapping import IdForm
from bridge.model import Rejection
from bridge.syntax.filters import parse_filter

VENDORS = (
    "389ds",
    "active_directory",
    "edirectory",
    "freeipa",
    "lldap",
    "openldap",
    "samba",
    "univention",
)


def section(preset: str, folder: Path, more: str = "") -> DirectorySection:
    """The only directory of a configuration that leaves everything else to its preset."""
    file = folder / "config.yaml"
    file.write_text(f"""\
endpoints: [{{path: /mailstore, callers: [{{username: mailstore, password_file: {folder}/password}}]}}]
directories:
  - name: company
    preset: {preset}
    servers: [ldaps://ldap.example.com]
    bind: {{dn: "cn=reader,dc=example,dc=com", password_file: {folder}/password}}
    {more}
""")
    (folder / "password").write_text("secret")
    (folder / "password").chmod(0o600)
    return load(str(file), {}).configuration.directories[0]


def test_there_is_a_preset_for_each_vendor() -> None:
    """The ones that the documentation names, and `custom`."""
    assert set(preset_names()) == {*VENDORS, "custom"}


@pytest.mark.parametrize("name", VENDORS)
def test_preset_makes_a_configuration_of_its_own(name: str, tmp_path: Path) -> None:
    """Filter, mapping and login filter are there and in order, with nothing configured but the service account."""
    found = section(name, tmp_path)
    attribute_map = found.attribute_map
    assert attribute_map.id_attribute is not None
    assert found.items("full_name") == (("fullName", "cn") if name == "edirectory" else ("displayName", "cn"))
    assert found.items("email_addresses")
    assert found.login_template is not None
    assert "*" not in str(found.login_template.fill("anna"))


@pytest.mark.parametrize("name", [*VENDORS, "custom"])
def test_preset_says_what_it_is_and_where_it_is_from(name: str) -> None:
    """Whoever reads the file finds comments; nobody needs to look elsewhere first."""
    text = (resources.files("bridge.config") / "presets" / f"{name}.yaml").read_text("utf-8")
    assert text.startswith("# ")
    assert re.search(r"^description: \S", text, re.MULTILINE)
    assert max(map(len, text.splitlines())) <= 140


def test_samba_is_active_directory_but_for_its_paging() -> None:
    """A preset that is based on another one says only what is different."""
    samba, windows = load_preset("samba"), load_preset("active_directory")
    assert (samba.description, samba.repeats_cookies) != (windows.description, windows.repeats_cookies)
    same = {"description": windows.description, "repeats_cookies": windows.repeats_cookies}
    assert samba.model_copy(update=same) == windows


@pytest.mark.parametrize(
    "fault",
    [
        {"users_filter": "(objectClass=person"},
        {"users_container": "cn=users,accounts"},
        {"id": "entry UUID"},
        {"attributes": {"userName": ["{uid"]}},
        {"login_filter": "(uid=anna)"},
        {"account_states": [{"rejection": "account_disabled", "attribute": "a", "equals": "b", "bit": 2}]},
        {"account_states": [{"rejection": "account_gone", "attribute": "a"}]},
        {"password_changed": ["pwd changed"]},
        {"ignored_references": ["Configuration"]},
        {"unheard_of": True},
    ],
    ids=lambda fault: next(iter(fault)),
)
def test_preset_with_a_fault_is_refused(fault: dict[str, object]) -> None:
    """What a configuration may not say, a preset may not say either; its twin without the fault is taken."""
    values = {"description": "x", "users_filter": "(objectClass=*)", "attributes": {}}
    assert Preset.model_validate(values).id is None
    with pytest.raises(ValidationError):
        Preset.model_validate({**values, **fault})


DAY_TICKS, UNIX_EPOCH_TICKS = 864_000_000_000, 116_444_736_000_000_000
NEVER = str(2**63 - 1)


@pytest.mark.parametrize(
    ("preset", "attributes", "rejection", "is_listed"),
    [
        ("active_directory", {"userAccountControl": "512", "accountExpires": NEVER}, None, True),
        ("active_directory", {"userAccountControl": "66048", "accountExpires": "0"}, None, True),
        ("active_directory", {"userAccountControl": "514"}, "account_disabled", False),
        ("active_directory", {"userAccountControl": "66050"}, "account_disabled", False),
        ("active_directory", {"accountExpires": str(UNIX_EPOCH_TICKS)}, "account_expired", False),
        ("active_directory", {"accountExpires": str(UNIX_EPOCH_TICKS + 100 * 366 * DAY_TICKS)}, None, True),
        ("active_directory", {"lockoutTime": "133000000000000000", "pwdLastSet": "0"}, None, True),
        ("active_directory", {"msDS-User-Account-Control-Computed": "16"}, "account_locked", True),
        ("active_directory", {"msDS-User-Account-Control-Computed": "8388608"}, "must_change_password", True),
        ("active_directory", {"msDS-User-Account-Control-Computed": "0"}, None, True),
        ("samba", {"userAccountControl": "514"}, "account_disabled", False),
        ("389ds", {"nsAccountLock": "true"}, "account_disabled", False),
        ("389ds", {"nsAccountLock": "FALSE"}, None, True),
        ("389ds", {"accountUnlockTime": "20200101000000Z"}, None, True),
        ("freeipa", {"nsAccountLock": "TRUE"}, "account_disabled", False),
        ("freeipa", {"krbPrincipalExpiration": "20200101000000Z"}, "account_expired", False),
        ("freeipa", {"krbPasswordExpiration": "20200101000000Z"}, "must_change_password", True),
        ("freeipa", {"krbPasswordExpiration": "20990101000000Z"}, None, True),
        ("univention", {"shadowExpire": "1"}, "account_disabled", False),
        ("univention", {"shadowExpire": "18000"}, "account_expired", False),
        ("univention", {"shadowExpire": "90000"}, None, True),
        ("univention", {"pwdAccountLockedTime": "20260101000000Z"}, None, True),
        ("openldap", {"pwdAccountLockedTime": "000001010000Z"}, "account_disabled", False),
        ("openldap", {"pwdAccountLockedTime": "20260101000000Z"}, None, True),
        ("edirectory", {"loginDisabled": "TRUE"}, "account_disabled", False),
        ("edirectory", {"loginDisabled": "FALSE"}, None, True),
        ("edirectory", {"loginExpirationTime": "20200101000000Z"}, "account_expired", False),
        ("edirectory", {"lockedByIntruder": "TRUE"}, None, True),
    ],
)
def test_preset_tells_who_may_not_log_in_and_who_is_not_listed(
    preset: str, attributes: dict[str, str], rejection: str | None, is_listed: bool, tmp_path: Path
) -> None:
    """Two questions: a lock or a password to be changed bars a login, and takes nobody out of the list."""
    attribute_map = section(preset, tmp_path).attribute_map
    entry = Entry("cn=x,dc=e", {name.lower(): [value.encode()] for name, value in attributes.items()})
    assert attribute_map.account_rejection(entry, time.time()) == (Rejection(rejection) if rejection else None)
    assert (attribute_map.exclusion(entry, time.time()) is None) is is_listed


@pytest.mark.parametrize("preset", ["active_directory", "samba", "edirectory"])
def test_guids_are_told_as_text(preset: str, tmp_path: Path) -> None:
    """The first three fields are little-endian (MS-DTYP §2.3.4.2), and a look-up by id finds the same octets again."""
    attribute_map = section(preset, tmp_path).attribute_map
    raw = bytes.fromhex("33221100554477668899aabbccddeeff")
    assert attribute_map.id_form is IdForm.GUID
    assert attribute_map.id_attribute is not None
    text = attribute_map.id_of(Entry("cn=x", {attribute_map.id_attribute.lower(): [raw]}))
    assert text == "00112233-4455-6677-8899-aabbccddeeff"
    assert attribute_map.id_value(text) == raw


@pytest.mark.parametrize(
    ("own", "form"), [("objectGUID", IdForm.GUID), ("OBJECTGUID", IdForm.GUID), ("employeeID", IdForm.TEXT)]
)
def test_own_id_attribute_is_text_unless_it_is_the_presets(own: str, form: IdForm, tmp_path: Path) -> None:
    """A GUID's sixteen octets are what the preset's own attribute has; any other id is read as text."""
    attribute_map = section("active_directory", tmp_path, f"attributes: {{id: {own}}}").attribute_map
    assert (attribute_map.id_attribute, attribute_map.id_form) == (own, form)
    if form is IdForm.TEXT:
        assert attribute_map.id_of(Entry("cn=x", {"employeeid": [b"4711"]})) == "4711"


def test_own_filter_counts_beside_the_presets(tmp_path: Path) -> None:
    """What is configured narrows the preset's filter, and does not replace it."""
    own = "(memberOf=cn=archived,dc=e)"
    found = section("active_directory", tmp_path, f'users: {{filter: "{own}"}}').users_filter
    both = f"(&(&(objectCategory=person)(objectClass=user)(sAMAccountType=805306368)){own})"
    assert found == parse_filter(both)


@pytest.mark.parametrize("name", ["reader@example.com", "EXAMPLE\\\\reader", "CN=reader,OU=services,DC=example,DC=com"])
def test_service_account_is_named_as_active_directory_takes_it(name: str, tmp_path: Path) -> None:
    """By user principal name, by domain and account name, by DN (MS-ADTS §5.1.1.1.1); it is passed on as it stands."""
    section("active_directory", tmp_path)
    file = tmp_path / "config.yaml"
    file.write_text(file.read_text().replace("cn=reader,dc=example,dc=com", name))
    found = load(str(file), {}).configuration.directories[0].bind.dn
    assert found == name.replace("\\\\", "\\")
