"""Each YAML block of README and docs, made whole where it is a part, and every command run with it.

No directory answers, no service runs, and systemd has handed over nothing, as for an administrator in an incident:
what speaks to the socket alone needs no secret.
"""

from __future__ import annotations

import importlib.util
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from bridge.config.directories import Configuration, DirectorySection
from bridge.config.schema import CallerSection, EndpointSection
from tests.support.many_commands import run_many

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
DIRECTORY = {
    "name": "company",
    "preset": "openldap",
    "servers": ["ldaps://ldap.example.com"],
    "bind": {"dn": "cn=reader,dc=example,dc=com", "password_credential": "reader"},
    "users": {"bases": ["ou=people,dc=example,dc=com"]},
}
ENDPOINT = {"path": "/mailstore", "callers": [{"username": "mailstore", "password_credential": "mailstore"}]}
SECRET = "a secret of the documentation"
ON_THE_SOCKET = {
    ("status",): 69,
    ("status", "--json"): 69,
    ("refresh",): 69,
    ("throttle", "show"): 69,
    ("throttle", "clear", "anna"): 69,
    ("removals", "show"): 0,
    ("removals", "show", "--json"): 0,
    ("removals", "approve", "0123456789abcdef"): 1,
    ("removals", "reset"): 2,
    ("removals", "reset", "--yes"): 0,
    ("check", "--offline"): 0,
    ("schema",): 0,
    ("hash-password",): 0,
}
AT_THE_DIRECTORY = {("list",): 69, ("list", "--json"): 69, ("diff",): 69, ("auth", "anna"): 69, ("check",): 1}


class Block(NamedTuple):
    """What stands between two fences."""

    place: str
    text: str


def find_blocks() -> list[Block]:
    """Every block of YAML, whatever it is indented by."""
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        for match in re.finditer(r"^( *)```ya?ml *\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL):
            line = text[: match.start()].count("\n") + 1
            found.append(Block(f"{page.relative_to(ROOT)}:{line}", match[2]))
    return found


def keys_of(section: type[Any]) -> set[str]:
    return {field.alias or name for name, field in section.model_fields.items()}


def complete(text: str) -> dict[str, Any]:
    """The whole configuration of which the block is a part."""
    part = yaml.safe_load(textwrap.dedent(text))
    if isinstance(part, list):
        kind = "directories" if "name" in part[0] else "endpoints" if "path" in part[0] else "callers"
        part = {kind: part}
    assert isinstance(part, dict), "it is no part of a configuration"
    keys = set(part)
    if not keys <= keys_of(Configuration):
        if keys <= keys_of(DirectorySection):
            part = {"directories": [{**DIRECTORY, **part}]}
        elif keys <= keys_of(EndpointSection):
            part = {"endpoints": [{**ENDPOINT, **part}]}
        else:
            assert keys <= keys_of(CallerSection), f"{keys - keys_of(Configuration)}: of which section is it?"
            part = {"endpoints": [{**ENDPOINT, "callers": [part]}]}
    whole = {"endpoints": [ENDPOINT], "directories": [DIRECTORY], **part}
    names = {each["name"] for each in whole["directories"]}
    wanted = {name for endpoint in whole["endpoints"] for name in endpoint.get("directories", ())}
    whole["directories"] = [*whole["directories"], *({**DIRECTORY, "name": name} for name in sorted(wanted - names))]
    return whole


def settle(found: Any, folder: Path, files: dict[str, Path]) -> Any:
    """The same with files that are there, and servers on this machine at which nobody listens."""
    if isinstance(found, list):
        return [settle(each, folder, files) for each in found]
    if not isinstance(found, dict):
        return found
    settled = {}
    for key, value in found.items():
        if key in files:
            settled[key] = str(files[key])
        elif key == "servers":
            urls = [value] if isinstance(value, str) else value
            settled[key] = [re.sub(r"//.*", "//127.0.0.1:1", url) for url in urls]
        elif key == "discover":
            settled[key] = {**(value if isinstance(value, dict) else {"domain": value}), "nameservers": ["127.0.0.1:1"]}
        elif key == "socket":
            settled[key] = str(folder / "control.sock")
        else:
            settled[key] = settle(value, folder, files)
    return settled


@pytest.fixture
def files(tmp_path: Path, authority_file: Path, make_certificate: Callable[..., tuple[Path, Path]]) -> dict[str, Path]:
    """A file for each key that names one."""
    secret, keytab = tmp_path / "secret", tmp_path / "keytab"
    for path in (secret, keytab):
        path.touch(mode=0o600)
        path.write_text(SECRET)
    certificate, key = make_certificate()
    key.chmod(0o600)
    return {
        "password_file": secret,
        "keytab": keytab,
        "ca_file": authority_file,
        "certificate_file": certificate,
        "key_file": key,
        "client_certificate_file": certificate,
        "client_key_file": key,
    }


def test_blocks_are_found_in_readme_and_docs() -> None:
    """The pattern finds what is there: no fence of YAML is passed over."""
    fences = sum(len(re.findall(r"^ *```ya?ml", page.read_text("utf-8"), re.MULTILINE)) for page in PAGES)
    assert fences == len(find_blocks()) >= 10


@pytest.mark.parametrize("block", find_blocks(), ids=lambda block: block.place)
def test_every_command_runs_with_each_block(block: Block, tmp_path: Path, files: dict[str, Path]) -> None:
    """With the exit codes of docs/commands.md, with and without what systemd hands over, and without a bug."""
    whole = settle(complete(block.text), tmp_path, files)
    whole["state"] = {**whole.get("state", {}), "directory": str(tmp_path / "state")}
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(whole, allow_unicode=True))
    file.chmod(0o600)
    credentials = tmp_path / "credentials"
    credentials.mkdir(mode=0o700)
    for name in re.findall(r"password_credential: (\S+)", file.read_text()):
        (credentials / name).write_text(SECRET)
        (credentials / name).chmod(0o600)
    needs_systemd = any("password_credential" in each.get("bind", ()) for each in whole["directories"])
    endpoint = ("--endpoint", whole["endpoints"][0]["path"]) if len(whole["endpoints"]) > 1 else ()
    has_kerberos = importlib.util.find_spec("gssapi") is not None or "gssapi" not in file.read_text()
    for environment in ({}, {"CREDENTIALS_DIRECTORY": str(credentials)}):
        asking = dict.fromkeys(AT_THE_DIRECTORY, 78) if needs_systemd and not environment else AT_THE_DIRECTORY
        wanted = ON_THE_SOCKET | (asking if has_kerberos else {})
        found = run_many([line_of(command, file, endpoint) for command in wanted], environment)
        for (command, code), (actual, output, errors) in zip(wanted.items(), found, strict=True):
            assert actual == code, (command, output, errors)
            assert "Traceback" not in errors
            assert SECRET not in output + errors
            assert "control.sock" in errors or code != 69 or command in AT_THE_DIRECTORY


def line_of(command: tuple[str, ...], file: Path, endpoint: tuple[str, ...]) -> tuple[str, ...]:
    if command[0] in ("schema", "hash-password"):
        return command
    return (*command, *(endpoint if command[0] in ("list", "auth") else ()), "--config", str(file))
