"""What files hold: YAML, the whole configuration, rows of the state, certificates."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from bridge.certificates.forms import certificate_blocks, explain_certificate_file, explain_key_file, recognise
from bridge.certificates.reading import read_certificates
from bridge.certificates.verification import _BY_CODE, Evidence, explain_verification
from bridge.config.loading import load
from bridge.config.yaml12 import read_yaml
from bridge.errors import ConfigurationError
from bridge.state.encoding import PARTS, parse_decisions, parse_guard, parse_report, render_decisions, render_report
from bridge.state.failures import Damaged
from tests.fuzz import readers
from tests.fuzz.inputs import split_off, strict_text_of

_FOLDER = tempfile.TemporaryDirectory(prefix="fuzz")
_SECRET = "canary-7f3a"
"""What stands for a password in the corpus."""


def read_document(data: bytes) -> bool:
    """A document is taken, or its faults have lines; libyaml reads the same, each scalar as its text."""
    text = strict_text_of(data)
    if text is None:
        return False
    document = read_yaml(text)
    last_line = len(text.splitlines()) + 2
    assert all(1 <= line <= last_line and sentence for line, _, sentence in document.faults)
    if document.faults:
        return False
    theirs = readers.read_yaml(text)
    assert theirs is None or _is_alike(document.value, theirs[0])
    return document.value is not None


def _is_alike(value: Any, text: Any) -> bool:
    match value:
        case dict():
            return (
                isinstance(text, dict)
                and value.keys() == text.keys()
                and all(_is_alike(value[key], text[key]) for key in value)
            )
        case list():
            return isinstance(text, list) and len(value) == len(text) and all(map(_is_alike, value, text))
        case None:
            return text in (None, "", "~", "null", "Null", "NULL")
        case bool():
            return isinstance(text, str) and text.lower() == str(value).lower()
        case int() | float():
            return isinstance(text, str) and float(int(text, 0) if text[:2] in ("0o", "0x") else float(text)) == float(
                value
            )
    return bool(value == text)


def load_configuration(data: bytes) -> bool:
    """Every fault is told with file, line and remedy, in one line, without what may be a password."""
    file = Path(_FOLDER.name) / "config.yaml"
    file.write_bytes(data)
    try:
        loaded = load(str(file), {}, needs=())
    except ConfigurationError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.startswith(str(file))
            assert _SECRET not in problem
            problem.encode()
        return False
    for directory in loaded.configuration.directories:
        directory.attribute_map, directory.users_filter, directory.login_template, directory.group_rules  # noqa: B018
        directory.lockout_rules  # noqa: B018
    assert all(warning.startswith(str(file)) for warning in loaded.warnings)
    return True


def read_state(data: bytes) -> bool:
    """What the state holds is read, or is damaged; what was read is written so that it reads the same."""
    head, rest = split_off(data, 1)
    text = rest.decode("utf-8", "surrogateescape")
    try:
        if head[0] % 3 == 0:
            report = parse_report(text)
            assert parse_report(render_report(report)) == report
        elif head[0] % 3 == 1:
            parse_decisions(text)
        else:
            decisions, *rows = rest.split(b"\n")
            guard = parse_guard(
                decisions.decode("utf-8", "surrogateescape"),
                tuple(_rows_of(row) for row in (*rows, *(b"",) * len(PARTS))[: len(PARTS)]),
            )
            written = tuple(
                {key.encode("utf-8", "surrogatepass"): part.render(value) for key, value in part.of(guard).items()}
                for part in PARTS
            )
            assert parse_guard(render_decisions(guard), written) == guard
    except Damaged:
        return False
    return True


def _rows_of(row: bytes) -> dict[bytes, bytes]:
    key, sign, value = row.partition(b"=")
    return {key: value} if sign else {}


def read_certificate(data: bytes) -> bool:
    """What a server sends as its certificate is read or left out, and there are words for each of OpenSSL's codes."""
    found = read_certificates([data])
    for code in (*_BY_CODE, 1):
        words = explain_verification(code, Evidence("ldap.example.com", "not trusted", None, found, found))
        assert words.detail and words.remedy
        assert words.detail.isprintable()
    return bool(found)


def look_at_pem(data: bytes) -> bool:
    """What isn't PEM is told in a sentence of ours, whatever it is; a certificate that OpenSSL loads is none of that."""
    blocks = certificate_blocks(data)
    told = explain_certificate_file("x.pem", data), explain_key_file("x.pem", data)
    assert all(sentence is None or (sentence.isprintable() and _SECRET not in sentence) for sentence in told)
    assert all(block in data for block in blocks)
    if not blocks:
        return False
    assert told[0] is None or recognise(data).form != "pem"
    return True


TARGETS = {
    "yaml": read_document,
    "configuration": load_configuration,
    "state": read_state,
    "certificate": read_certificate,
    "pem": look_at_pem,
}
