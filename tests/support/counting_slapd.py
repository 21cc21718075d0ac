"""An OpenLDAP server that counts the wrong passwords of the service account, as directories do that lock accounts."""

from __future__ import annotations

from tests.conftest import StartSlapd
from tests.support.slapd import BASE, READER, Entry, Slapd, person

POLICIES = f"ou=policies,{BASE}"


def start_counting(start_slapd: StartSlapd, *, locks_after: int = 20) -> Slapd:
    """A server that counts wrong passwords, and locks the account with so many of them, for ever."""
    values = {"pwdLockout": "TRUE", "pwdMaxFailure": str(locks_after), "pwdFailureCountInterval": "0"}
    policy = {"objectClass": ["device", "pwdPolicy"], "cn": ["default"], "pwdAttribute": ["userPassword"]}
    entries: list[Entry] = [
        (POLICIES, {"objectClass": ["organizationalUnit"], "ou": ["policies"]}),
        (f"cn=default,{POLICIES}", {**policy, **{name: [value] for name, value in values.items()}}),
        person("anna"),
    ]
    extra = f'overlay ppolicy\nppolicy_default "cn=default,{POLICIES}"\nppolicy_use_lockout'
    return start_slapd(entries, overlays="moduleload ppolicy", extra=extra)


def failure_count(slapd: Slapd) -> int:
    """How many wrong passwords of the service account the server has counted."""
    admin = ("-x", "-LLL", "-o", "ldif-wrap=no", "-H", slapd.url, "-D", f"cn=admin,{BASE}", "-w", "admin")
    return slapd._run("ldapsearch", *admin, "-s", "base", "-b", READER, "pwdFailureTime").count("pwdFailureTime:")
