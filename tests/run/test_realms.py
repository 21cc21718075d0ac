"""Which directories of a configuration have the same accounts."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.config.loading import load
from bridge.run.realms import find_realms

HOST = 'servers: ["ldaps://one.example.com"]'
BOTH = 'servers: ["ldaps://zero.example.com", "ldap://one.example.com:389"]'
BY_DOMAIN = "discover: example.com"


@pytest.mark.parametrize(
    ("first", "second", "third", "expected"),
    [
        (HOST, 'servers: ["ldaps://two.example.com"]', BY_DOMAIN, {}),
        (HOST, HOST, HOST, {"b": "a", "c": "a"}),
        (HOST, BOTH, 'servers: ["ldaps://ZERO.example.com:3269"]', {"b": "a", "c": "a"}),
        (HOST, 'servers: ["ldaps://one.example.com:1636"]', 'servers: ["ldaps://one.example.com:1636"]', {"c": "b"}),
        (BY_DOMAIN, HOST, BY_DOMAIN, {"c": "a"}),
        (HOST, f"{HOST}\n    attributes: {{id: uid}}", HOST, {"c": "a"}),
    ],
    ids=["none", "the same", "in a chain", "other ports", "by the DNS", "other ids"],
)
def test_directories_of_one_server_have_the_same_accounts(
    tmp_path: Path, first: str, second: str, third: str, expected: dict[str, str]
) -> None:
    """By host, whatever scheme and usual port it is asked at; not where ids are made of other attributes."""
    sections = [
        f"  - name: {name}\n    preset: openldap\n    {lines}\n    bind: {{dn: 'cn=r', password_file: {tmp_path}/p}}\n"
        f"    users: {{bases: ['dc=e']}}\n"
        for name, lines in zip("abc", (first, second, third), strict=True)
    ]
    file = tmp_path / "config.yaml"
    for name in ("p", "caller"):
        (tmp_path / name).write_text("secret\n")
        (tmp_path / name).chmod(0o600)
    file.write_text(
        f"server: {{listen: '127.0.0.1:0'}}\nstate: {{directory: {tmp_path}/state}}\nendpoints:\n"
        f"  - {{path: /m, callers: [{{username: m, password_file: {tmp_path}/caller}}]}}\n"
        f"directories:\n{''.join(sections)}"
    )
    assert find_realms(load(str(file), {}).configuration.directories) == expected
