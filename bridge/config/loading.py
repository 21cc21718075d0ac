"""The configuration file, loaded: every fault at once, each with its file, line, path and remedy.

The only place where faults become messages: `config.yaml:12: directories[0].servers[1]: …`.
"""

from __future__ import annotations

import difflib
import json
import typing
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr, ValidationError

from bridge.certificates.contexts import CertificateError, check_authorities, check_chain
from bridge.config.directories import Configuration
from bridge.config.schema import FaultError, Section
from bridge.config.secret_files import SecretError, others_may_read, read_credential, read_secret_file
from bridge.config.yaml12 import Document, Path, read_yaml
from bridge.errors import ConfigurationError
from bridge.model import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic_core import ErrorDetails

_NOT_SHOWN = frozenset(("bind", "callers", "password", "password_hash"))
"""Where a value may be a secret, put where it doesn't belong."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration without faults."""

    configuration: Configuration
    secrets: Mapping[Path, Secret] = field(default_factory=dict)
    """By the path of the section that names them: `("directories", 0, "bind")`."""
    warnings: tuple[str, ...] = ()


def load(path: str, environment: Mapping[str, str]) -> Loaded:
    """The configuration in the file at `path`, with its secrets read.

    Raises `ConfigurationError` with every fault, in the order of the lines.
    """
    document = read_yaml(_read_text(path))
    configuration = _validate(document)
    secrets: dict[Path, Secret] = {}
    if configuration is not None:
        document.faults += _check_names(configuration, document)
        document.faults += _check_files(configuration, document)
        for section_path, key, value in _secret_keys(configuration):
            try:
                secrets[section_path] = _read_secret(key, value, environment)
            except SecretError as error:
                document.faults.append(
                    (document.line_of((*section_path, key)), (*section_path, key), f"{value} {error}")
                )
    if document.faults or configuration is None:
        faults = sorted(document.faults, key=lambda fault: fault[0])
        raise ConfigurationError(tuple(_message(path, *fault) for fault in faults))
    return Loaded(configuration, secrets, tuple(_warnings(path, configuration, document)))


def json_schema() -> dict[str, Any]:
    """The JSON schema of the configuration, for editors."""
    schema = Configuration.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _read_text(path: str) -> str:
    try:
        return FilePath(path).read_bytes().decode()
    except OSError as error:
        remedy = "name the file with --config, and let the service's user read it"
        raise ConfigurationError((f"{path}: can't be read: {error.strerror}; {remedy}",)) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError((f"{path}: is not UTF-8; save it as UTF-8",)) from error


def _message(file: str, line: int, path: Path, sentence: str) -> str:
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")
    return f"{file}:{line}: {place}: {sentence}" if place else f"{file}:{line}: {sentence}"


def _validate(document: Document) -> Configuration | None:
    """The configuration, or None and faults in the document."""
    if document.value is None:
        if not document.faults:
            document.faults.append((1, (), "holds nothing; config.yaml.example shows what it should hold"))
        return None
    try:
        return Configuration.model_validate(document.value)
    except ValidationError as error:
        known = {path for _, path, _ in document.faults}
        for detail in error.errors(include_url=False):
            path, sentence = _explain(detail)
            if path not in known:
                document.faults.append((document.line_of(path), path, sentence))
        return None


def _explain(detail: ErrorDetails) -> tuple[Path, str]:
    """Where a fault is and what it is, in our words."""
    path = tuple(detail["loc"])
    found, context = detail["input"], detail.get("ctx", {})
    hidden = isinstance(found, dict | list | tuple) or _NOT_SHOWN.intersection(path[-2:])
    shown = "" if hidden else f", got {json.dumps(found, ensure_ascii=False, default=str)}"
    match detail["type"]:
        case "missing":
            return path, f"is missing: {_describe(path)}"
        case "extra_forbidden":
            return path, f"unknown key{_suggest(path)}"
        case "value_error":
            cause = context["error"]
            if isinstance(cause, FaultError):
                return (*path, cause.key), str(cause)
            return path, str(cause) if isinstance(found, dict) else f"{cause}{shown}"
        case "literal_error":
            quoted = "" if isinstance(found, str) else " (put it into quotation marks)"
            return path, f"must be {str(context['expected']).replace(chr(39), '')}{quoted}{shown}"
        case "greater_than_equal":
            return path, f"must be at least {context['ge']:g}{shown}"
        case "less_than_equal":
            return path, f"must be at most {context['le']:g}{shown}"
        case "too_short" | "string_too_short":
            return path, "must not be empty"
    kinds = {
        "string_type": "a word (put it into quotation marks)",
        "bool_type": "true or false",
        "int_type": "a whole number",
        "float_type": "a number",
        "tuple_type": "a list",
        "model_type": "a section with keys",
    }
    return path, f"must be {kinds.get(detail['type'], 'something else: ' + detail['msg'])}{shown}"


def _suggest(path: Path) -> str:
    """The key that was probably meant."""
    section = _section_at(path[:-1])
    known = [item.alias or name for name, item in section.model_fields.items()] if section else []
    near = difflib.get_close_matches(str(path[-1]), known, n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else f"; there are {', '.join(known)}"


def _describe(path: Path) -> str:
    """What the schema says of a key."""
    section = _section_at(path[:-1])
    fields = {item.alias or name: item for name, item in section.model_fields.items()} if section else {}
    return (fields[str(path[-1])].description or "").rstrip(".")


def _section_at(path: Path) -> type[Section] | None:
    section: type[Section] = Configuration
    for step in path:
        if isinstance(step, int):
            continue
        fields = {item.alias or name: item for name, item in section.model_fields.items()}
        if step not in fields:
            return None
        found = next(_sections_in(fields[step].annotation), None)
        if found is None:
            return None
        section = found
    return section


def _sections_in(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _sections_in(inner)


def _check_names(configuration: Configuration, document: Document) -> Iterator[tuple[int, Path, str]]:
    """Faults between sections: what is named twice, or named and not there."""
    names = [directory.name for directory in configuration.directories]
    paths = [endpoint.path for endpoint in configuration.endpoints]
    for kind, key, found in (("directories", "name", names), ("endpoints", "path", paths)):
        for position, value in enumerate(found):
            if value in found[:position]:
                place: Path = (kind, position, key)
                yield document.line_of(place), place, f'"{value}" stands twice; each needs its own {key}'
    for position, endpoint in enumerate(configuration.endpoints):
        usernames = [caller.username for caller in endpoint.callers]
        for number, username in enumerate(usernames):
            if username in usernames[:number]:
                place = ("endpoints", position, "callers", number, "username")
                yield document.line_of(place), place, f'"{username}" stands twice; each caller needs its own'
        for number, name in enumerate(endpoint.directories or ()):
            place = ("endpoints", position, "directories", number)
            if name not in names:
                known = ", ".join(names)
                yield document.line_of(place), place, f'there is no directory "{name}"; there are {known}'
            elif name in (endpoint.directories or ())[:number]:
                yield document.line_of(place), place, f'"{name}" stands twice'


def _check_files(configuration: Configuration, document: Document) -> Iterator[tuple[int, Path, str]]:
    """Certificates and keys that can't be read, or can't be used."""
    sections: list[tuple[Path, Section | None]] = [(("server", "tls"), configuration.server.tls)]
    for at, found in enumerate(configuration.directories):
        sections += [(("directories", at, "tls"), found.tls), (("directories", at, "bind"), found.bind)]
    for path, section in sections:
        for key, sentence in list(_unreadable_files(section)) or _unusable_files(section):
            yield document.line_of((*path, key)), (*path, key), sentence


def _unreadable_files(section: Section | None) -> Iterator[tuple[str, str]]:
    for key in ("certificate_file", "key_file", "ca_file", "client_certificate_file", "client_key_file", "keytab"):
        file = getattr(section, key, None)
        if file is None:
            continue
        try:
            FilePath(file).open("rb").close()
        except OSError as error:
            yield key, f"{file} can't be read: {error.strerror}; let the service's user read the file"


def _unusable_files(section: Section | None) -> Iterator[tuple[str, str]]:
    """Files that hold no certificate, or no key that fits."""
    prefix = "client_" if hasattr(section, "client_certificate_file") else ""
    authorities = getattr(section, "ca_file", None)
    certificate, key = (getattr(section, f"{prefix}{name}_file", None) for name in ("certificate", "key"))
    try:
        if authorities is not None:
            check_authorities(authorities)
    except CertificateError as error:
        yield error.key, str(error)
    try:
        if certificate is not None and key is not None:
            check_chain(certificate, key)
    except CertificateError as error:
        yield f"{prefix}{error.key}", str(error)


def _secret_keys(configuration: Configuration) -> Iterator[tuple[Path, str, str]]:
    """Each key that tells where a secret is: the path of its section, the key, the value."""
    sections: list[tuple[Path, Any]] = [
        (("endpoints", position, "callers", number), caller)
        for position, endpoint in enumerate(configuration.endpoints)
        for number, caller in enumerate(endpoint.callers)
    ]
    sections += [
        (("directories", position, "bind"), directory.bind)
        for position, directory in enumerate(configuration.directories)
    ]
    for path, section in sections:
        for key in ("password_file", "password_credential", "password"):
            value = getattr(section, key, None)
            if value is not None:
                yield path, key, value.get_secret_value() if isinstance(value, SecretStr) else value


def _read_secret(key: str, value: str, environment: Mapping[str, str]) -> Secret:
    match key:
        case "password_file":
            return read_secret_file(value)
        case "password_credential":
            return read_credential(value, environment)
    return Secret(value.encode())


def _warnings(file: str, configuration: Configuration, document: Document) -> Iterator[str]:
    for path, key, value in _secret_keys(configuration):
        place = (*path, key)
        held = {"password": file, "password_file": value}.get(key)
        if held is not None and others_may_read(held):
            sentence = f"{held} can be read by others; run: chmod 600 {held}"
            yield _message(file, document.line_of(place), place, sentence)
    for position, directory in enumerate(configuration.directories):
        keytab = directory.bind.keytab
        if keytab is not None and others_may_read(keytab):
            place = ("directories", position, "bind", "keytab")
            sentence = f"{keytab} can be read by others; run: chmod 600 {keytab}"
            yield _message(file, document.line_of(place), place, sentence)
    if configuration.server.tls is None:
        for position, address in enumerate(configuration.server.listen):
            if not address.is_local:
                place = ("server", "listen", position)
                sentence = f"{address} serves passwords over plain HTTP; set server.tls, or listen on 127.0.0.1"
                yield _message(file, document.line_of(place), place, sentence)
