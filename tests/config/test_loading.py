from __future__ import annotations

import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.config.loading import json_schema, load
from bridge.config.yaml12 import read_yaml
from bridge.errors import ConfigurationError
from bridge.model import Secret
from bridge.run.permissions import permission_warnings

FAULTS = sorted((Path(__file__).parent / "faults").glob("*.yaml"))
VALID = """\
endpoints:
  - path: /mailstore
    callers:
      - username: mailstore
        password_file: caller.password
directories:
  - name: company
    preset: openldap
    servers: [ldaps://ldap.example.com]
    bind: {dn: "cn=reader,dc=example,dc=com", password_file: reader.password}
    users: {bases: ["ou=people,dc=example,dc=com"]}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the secrets that configurations name, which is the current one."""
    for name, text in (("caller", "x"), ("reader", "y"), ("empty", "")):
        file = tmp_path / f"{name}.password"
        file.write_text(text)
        file.chmod(0o600)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load_text(text: str, environment: dict[str, str] | None = None) -> Any:
    Path("config.yaml").write_text(text, "utf-8")
    return load("config.yaml", environment or {})


def warnings_of(loaded: Any) -> tuple[str, ...]:
    return tuple(permission_warnings(loaded, {}))


def test_load_takes_the_configuration_from_which_each_fault_departs() -> None:
    """The twin of every fault: without it, the configuration is in order and warns of nothing."""
    loaded = load_text(VALID)
    assert loaded.configuration.directories[0].page_size == 1000
    assert loaded.warnings == ()


@pytest.mark.parametrize("file", FAULTS, ids=lambda file: file.stem)
def test_load_tells_each_fault_with_its_place_and_remedy(file: Path) -> None:
    """One fault, one message: file, line, path, what is wrong, what to do."""
    text = file.read_text("utf-8")
    expected = tuple(re.findall(r"^# expect: (.*)$", text, re.MULTILINE))
    assert len(expected) == 1
    with pytest.raises(ConfigurationError) as caught:
        load_text(text)
    assert caught.value.problems == expected


def test_there_are_fifty_faults_and_more() -> None:
    """The folder holds as many as were promised."""
    assert len(FAULTS) >= 50


def test_load_tells_every_fault_at_once_in_order_of_lines() -> None:
    """Whoever mends a configuration sees all that is wrong with it."""
    text = VALID.replace("path: /mailstore", "path: mailstore").replace("ldaps:", "http:").replace("bases:", "base:")
    with pytest.raises(ConfigurationError) as caught:
        load_text(text + "cahce: {}\n")
    assert [problem.split(": ")[0] for problem in caught.value.problems] == [
        f"config.yaml:{line}" for line in (2, 9, 11, 12)
    ]
    assert caught.value.message == "\n".join(caught.value.problems)


@pytest.mark.parametrize(
    ("data", "secret"),
    [
        (b"secret", b"secret"),
        (b"secret\n", b"secret"),
        (b"secret\r\n", b"secret"),
        (b"secret\n\n", b"secret\n"),
        (b" secret \n", b" secret "),
        (b"\xff\xfe\n", b"\xff\xfe"),
        ("²ﬁ\n".encode(), "²ﬁ".encode()),
    ],
)
def test_password_file_loses_one_newline_and_nothing_else(data: bytes, secret: bytes) -> None:
    """A password is taken byte for byte; editors end files with a newline."""
    Path("reader.password").write_bytes(data)
    assert load_text(VALID).secrets["directories", 0, "bind"].read() == Secret(secret)


def test_password_credential_is_read_from_systemds_folder(folder: Path) -> None:
    """Under systemd, a credential is a file in a folder that the environment names."""
    (folder / "credentials").mkdir()
    (folder / "credentials" / "mailstore").write_text("from systemd\n")
    text = VALID.replace("password_file: caller.password", "password_credential: mailstore")
    loaded = load_text(text, {"CREDENTIALS_DIRECTORY": str(folder / "credentials")})
    assert loaded.secrets["endpoints", 0, "callers", 0].read() == Secret(b"from systemd")


def test_password_credential_takes_no_path(folder: Path) -> None:
    """A credential's name leads nowhere else."""
    text = VALID.replace("password_file: caller.password", "password_credential: ../reader.password")
    with pytest.raises(ConfigurationError, match="is no name of a credential"):
        load_text(text, {"CREDENTIALS_DIRECTORY": str(folder)})


def test_secret_files_that_others_may_read_are_warned_of() -> None:
    """The configuration works, and says what should be mended."""
    Path("reader.password").chmod(0o644)
    warning = "config.yaml:10: directories[0].bind.password_file: reader.password can be read by others; run: "
    assert warnings_of(load_text(VALID)) == (warning + "chmod 600 reader.password",)
    assert stat.S_IMODE(Path("reader.password").stat().st_mode) == 0o644


def test_password_in_an_open_configuration_is_warned_of_and_never_shown() -> None:
    """A password may stand in the file itself, if nobody else reads it."""
    text = VALID.replace("password_file: reader.password", "password: canary")
    Path("config.yaml").touch(0o600)
    loaded = load_text(text)
    assert warnings_of(loaded) == ()
    assert loaded.secrets["directories", 0, "bind"].read() == Secret(b"canary")
    assert "canary" not in repr(loaded)
    Path("config.yaml").chmod(0o644)
    assert "chmod 600 config.yaml" in warnings_of(load_text(text))[0]


def test_plain_http_beyond_this_machine_is_warned_of() -> None:
    """Passwords in clear text on the network are the administrator's decision, made knowingly."""
    loaded = load_text(VALID + 'server: {listen: ["0.0.0.0:8080", "[::1]:8080", "unix:/run/x"]}\n')
    assert len(loaded.warnings) == 1
    assert "0.0.0.0:8080 serves passwords over plain HTTP" in loaded.warnings[0]


@pytest.mark.parametrize(
    ("servers", "starttls", "plaintext", "expected"),
    [
        ("ldap://ldap.example.com", None, False, True),
        ("ldap://ldap.example.com", None, True, True),
        ("ldap://ldap.example.com", "required", False, True),
        ("ldap://ldap.example.com", "off", True, False),
        ("ldap://127.0.0.1", None, False, False),
        ("ldap://[::1]:3890", None, False, False),
        ("ldap://localhost", "required", False, True),
        ("ldaps://ldap.example.com", None, False, False),
        ("ldapi:///run/ldapi", None, False, False),
    ],
)
def test_starttls_is_required_wherever_a_password_would_cross_the_network(
    servers: str, starttls: str | None, plaintext: bool, expected: bool
) -> None:
    """TLS is the default but on this machine itself."""
    more = f"starttls: {starttls}\n    " if starttls else ""
    text = VALID.replace("servers: [ldaps://ldap.example.com]", f"{more}servers: ['{servers}']")
    text = text.replace("preset: openldap", f"preset: openldap\n    allow_plaintext: {str(plaintext).lower()}")
    section = load_text(text).configuration.directories[0]
    assert section.uses_starttls(section.servers[0]) is expected


def test_configuration_that_is_no_text_or_not_there_is_told(folder: Path) -> None:
    """The file itself may be what is wrong."""
    with pytest.raises(ConfigurationError, match=r"missing\.yaml: can't be read: No such file"):
        load("missing.yaml", {})
    Path("config.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="is not UTF-8"):
        load("config.yaml", {})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("y", "y"),
        ("12:30", "12:30"),
        ("2026-01-31", "2026-01-31"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("0o17", 15),
        ("017", 17),
        ("0x1F", 31),
        ("-5", -5),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("1_000", "1_000"),
        ("'5'", "5"),
        ("<<", "<<"),
    ],
)
def test_read_yaml_follows_the_core_rules_of_yaml_1_2(text: str, value: object) -> None:
    """What is a word, a number or a boolean is said by YAML 1.2 §10.3.2."""
    found = read_yaml(f"key: {text}\n").value["key"]
    assert found == value
    assert type(found) is type(value)


@given(st.text(max_size=60))
def test_read_yaml_takes_or_faults_any_text(text: str) -> None:
    """No text ends the program: what is no YAML is a fault with a line."""
    document = read_yaml(text)
    assert all(line >= 1 and sentence for line, _, sentence in document.faults)


def test_domain_by_itself_is_all_that_discovery_needs() -> None:
    """`discover: example.com` is the section with that domain, for editors too."""
    for text in ("discover: Example.COM.", "discover: {domain: example.com}"):
        section = load_text(VALID.replace("servers: [ldaps://ldap.example.com]", text)).configuration.directories[0]
        assert section.discover is not None
        assert section.discover.domain == "example.com"
    schema = json_schema()["$defs"]["DirectorySection"]["properties"]["discover"]["anyOf"]
    assert {"type": "string"} in schema


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.53", ("192.0.2.53", 53)),
        ("192.0.2.53:5353", ("192.0.2.53", 5353)),
        ("2001:db8::53", ("2001:db8::53", 53)),
        ("[2001:db8::53]:5353", ("2001:db8::53", 5353)),
    ],
)
def test_name_servers_are_addresses_with_a_port_or_without(text: str, expected: tuple[str, int]) -> None:
    """IPv6, too."""
    discover = f"discover: {{domain: example.com, nameservers: '{text}'}}"
    section = load_text(VALID.replace("servers: [ldaps://ldap.example.com]", discover)).configuration.directories[0]
    assert section.discover is not None
    assert section.discover.nameservers == (expected,)


def test_example_is_complete_and_loads(folder: Path, make_certificate: Callable[..., tuple[Path, Path]]) -> None:
    """`config.yaml.example` names every key there is, and works as it stands once its files are there."""
    text = (Path(__file__).parents[2] / "config.yaml.example").read_text("utf-8")
    certificate, key = make_certificate()
    for name in re.findall(r"/etc/mailstore-bridge/([\w.]+)", text):
        source = {".pem": certificate, ".key": key}.get(Path(name).suffix)
        (folder / name).write_text("x" if source is None else source.read_text())
        (folder / name).chmod(0o600)
    for name in re.findall(r"password_credential: ([\w-]+)", text):
        (folder / name).write_text("x")
    loaded = load_text(text.replace("/etc/mailstore-bridge/", f"{folder}/"), {"CREDENTIALS_DIRECTORY": str(folder)})
    assert [directory.name for directory in loaded.configuration.directories] == ["company", "forest", "branch"]
    keys = {key for found in _properties(json_schema()) for key in found}
    assert [key for key in sorted(keys) if not re.search(rf"\b{key}:", text)] == []


def _properties(schema: Any) -> list[dict[str, Any]]:
    if isinstance(schema, dict):
        own = [schema["properties"]] if isinstance(schema.get("properties"), dict) else []
        return own + [found for value in schema.values() for found in _properties(value)]
    return [found for value in schema for found in _properties(value)] if isinstance(schema, list) else []


def test_json_schema_describes_every_key() -> None:
    """Editors show what each key means, or what its section is for; durations are words there."""
    schema = json_schema()
    for found in _properties(schema):
        assert all("description" in item or "$ref" in item for item in found.values())
    assert all("description" in section for section in schema["$defs"].values())
    assert schema["$defs"]["CacheSection"]["properties"]["ttl"]["type"] == "string"


def test_auth_defaults_stay_below_common_lock_out_thresholds() -> None:
    """Below the directory's threshold, which is None for `auto`, over the half an hour that is a common window."""
    auth = load_text(VALID).configuration.auth
    assert auth.max_failures is None
    assert auth == load_text(VALID + "auth: {max_failures: auto}\n").configuration.auth
    assert auth.window_s >= 1800.0
    assert auth.remember_failures_s >= auth.window_s
    assert (auth.remember_successes_s, auth.fast_refusals) == (0.0, False)


def test_auth_is_taken_as_it_is_written() -> None:
    """Each key under its own name."""
    line = "auth: {remember_failures: 10m, max_failures: 2, window: 20m, remember_successes: 5m, fast_refusals: true}\n"
    auth = load_text(VALID + line).configuration.auth
    found = (auth.remember_failures_s, auth.max_failures, auth.window_s, auth.remember_successes_s, auth.fast_refusals)
    assert found == (600.0, 2, 1200.0, 300.0, True)
