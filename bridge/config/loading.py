"""The configuration file, loaded: every fault at once, each with its file, line, path and remedy.

The only place where faults become messages: `config.yaml:12: directories[0].servers[1]: …`.
"""

from __future__ import annotations

import difflib
import json
import re
import typing
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr, ValidationError

from bridge.certificates.contexts import CertificateError, check_authorities, check_chain
from bridge.config.directories import Configuration
from bridge.config.schema import FaultError, Section
from bridge.config.secret_files import Named, SecretFile
from bridge.config.yaml12 import Document, Path, read_yaml
from bridge.errors import ConfigurationError
from bridge.renewal import explain

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping

    from pydantic_core import ErrorDetails

    from bridge.renewal import Renewed

_NOT_SHOWN = frozenset(("bind", "callers"))
"""Where a value or a key may be a secret, put where it doesn't belong."""
_PASSWORD_IN_URL = re.compile(r"(://[^:@/]*):.*@")


Fault = tuple[int, Path, str]
"""The line, the path of the key, and what is wrong there."""
EVERYTHING: tuple[Path, ...] = ((),)


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that the configuration names, or the configuration itself where a password stands in it."""

    path: Path
    """The key that names it."""
    line: int
    place: str
    """The key as it is shown: `directories[0].tls.ca_file`."""
    prefix: str
    """The beginning of each message about it: the configuration's file, the line, the place."""
    file: str
    is_private: bool
    """Whether nobody but the service may read it."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration without faults; what its files hold is read when it is needed."""

    configuration: Configuration
    secrets: Mapping[Path, SecretFile] = field(default_factory=dict)
    """By the path of the section that names them: `("directories", 0, "bind")`."""
    files: tuple[NamedFile, ...] = ()
    warnings: tuple[str, ...] = ()
    contexts: dict[Path, Renewed[ssl.SSLContext]] = field(default_factory=dict)
    """Certificates with their keys, by the path of their section, as soon as somebody has made them of the files."""

    def require(self, *sections: Path) -> None:
        """Raise `ConfigurationError` with each fault of the secrets and files that these sections name."""
        faults = sorted(self.faults(sections), key=lambda fault: fault[0])
        if faults:
            raise ConfigurationError(tuple(f"{self.prefix_of(path)}{sentence}" for _, path, sentence in faults))

    def prefix_of(self, path: Path) -> str:
        """The beginning of each message about a key that names a secret or a file."""
        prefixes = {named.path: named.prefix for named in self.files}
        prefixes |= {(*at, secret.named.key): secret.named.prefix for at, secret in self.secrets.items()}
        return prefixes[path]

    def faults(self, sections: tuple[Path, ...] = EVERYTHING) -> Iterator[Fault]:
        """What these sections name and can't be read: secrets, certificates, keys."""
        for path, secret in self.secrets.items():
            if _is_within(path, sections):
                secret.look()
                if not secret.fingerprints and secret.failure is not None:
                    named = secret.named
                    yield named.line, (*path, named.key), f"{named.shown}{explain(secret.failure)}"
        lines = {named.path: named.line for named in self.files}
        for path, section in _tls_sections(self.configuration):
            if _is_within(path, sections):
                for key, sentence in _section_faults(section):
                    yield lines[(*path, key)], (*path, key), sentence


def _is_within(path: Path, sections: tuple[Path, ...]) -> bool:
    return any(path[: len(section)] == section for section in sections)


def load(path: str, environment: Mapping[str, str], *, needs: tuple[Path, ...] = EVERYTHING) -> Loaded:
    """The configuration in the file at `path`; of the sections in `needs`, the secrets and files can be read, too.

    Raises `ConfigurationError` with every fault, in the order of the lines.
    """
    document = read_yaml(_read_text(path))
    configuration = _validate(document)
    loaded: Loaded | None = None
    if configuration is not None:
        document.faults += _check_names(configuration, document)
        secrets = {
            section: SecretFile(_name(path, document, (*section, key), value), environment)
            for section, key, value in _secret_keys(configuration)
        }
        files = tuple(_named_files(path, configuration, document))
        loaded = Loaded(configuration, secrets, files, tuple(_warnings(path, configuration, document)))
        document.faults += loaded.faults(needs)
    if document.faults or loaded is None:
        faults = sorted(document.faults, key=lambda fault: fault[0])
        raise ConfigurationError(tuple(_message(path, *fault) for fault in faults))
    return loaded


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
    place = show_path(path)
    return f"{file}:{line}: {place}: {sentence}" if place else f"{file}:{line}: {sentence}"


def show_path(path: Path) -> str:
    """The path of a key as it stands in messages: `directories[0].bind`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


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
    is_secret = any(part in _NOT_SHOWN for part in path) and path[-1] != "username"
    shown = "" if is_secret or isinstance(found, dict | list | tuple) else f", got {_show(found)}"
    match detail["type"]:
        case "missing":
            return path, f"is missing: {_describe(path)}"
        case "extra_forbidden":
            near, suggestion = _suggest(path)
            if is_secret and not near:  # Security: `callers: [{mailstore:secret}]` is a key, and so is `bind: {secret}`
                return path[:-1], f"has an unknown key{suggestion}"
            return path, f"unknown key{suggestion}"
        case "value_error":
            cause = context["error"]
            if isinstance(cause, FaultError):
                return (*path, cause.key), str(cause)
            words = str(cause).partition(": ")[0] if is_secret else str(cause)  # what follows may quote the value
            return path, words if isinstance(found, dict) else f"{words}{shown}"
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


def _show(found: Any) -> str:
    """The value as it is written, but for a password in a URL."""
    return _PASSWORD_IN_URL.sub(r"\1:…@", json.dumps(found, ensure_ascii=False, default=str))


def _suggest(path: Path) -> tuple[str | None, str]:
    """The key that was probably meant, and the end of a sentence that says so, or what there is."""
    section = _section_at(path[:-1])
    known = [item.alias or name for name, item in section.model_fields.items()] if section else []
    near = difflib.get_close_matches(str(path[-1]), known, n=1, cutoff=0.6)
    return (near[0], f'; did you mean "{near[0]}"?') if near else (None, f"; there are {', '.join(known)}")


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


_FILE_KEYS = {
    "certificate_file": False,
    "key_file": True,
    "ca_file": False,
    "client_certificate_file": False,
    "client_key_file": True,
}
"""The keys of certificates and keys, and whether nobody else may read the file."""


def _tls_sections(configuration: Configuration) -> Iterator[tuple[Path, Section | None]]:
    """Each section that names certificates, by its path."""
    yield ("server", "tls"), configuration.server.tls
    for at, directory in enumerate(configuration.directories):
        yield ("directories", at, "tls"), directory.tls


def _named_files(file: str, configuration: Configuration, document: Document) -> Iterator[NamedFile]:
    """Every file that the configuration names, be it there or not."""
    found: list[tuple[Path, str, bool]] = [
        ((*path, key), value, is_private)
        for path, section in _tls_sections(configuration)
        for key, is_private in _FILE_KEYS.items()
        if (value := getattr(section, key, None)) is not None
    ]
    for path, key, value in _secret_keys(configuration):
        if key != "password_credential":
            found.append(((*path, key), file if key == "password" else value, True))
    yield NamedFile((), 1, "", "", file, is_private=False)
    for path, value, is_private in found:
        named = _name(file, document, path, value)
        yield NamedFile(path, named.line, named.place, named.prefix, value, is_private)


def _name(file: str, document: Document, path: Path, value: str) -> Named:
    line = document.line_of(path)
    return Named(show_path(path), str(path[-1]), value, line, _message(file, line, path, ""))


def _section_faults(section: Section | None) -> Iterator[tuple[str, str]]:
    """Certificates and keys of a section that can't be read, or can't be used: the key, and what is wrong."""
    yield from list(_unreadable_files(section)) or _unusable_files(section)


def _unreadable_files(section: Section | None) -> Iterator[tuple[str, str]]:
    for key in _FILE_KEYS:
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
        for key in ("password_file", "password_credential", "password", "keytab"):
            value = getattr(section, key, None)
            if value is not None:
                yield path, key, value.get_secret_value() if isinstance(value, SecretStr) else value


def _warnings(file: str, configuration: Configuration, document: Document) -> Iterator[str]:
    if configuration.server.tls is None:
        for position, address in enumerate(configuration.server.listen):
            if not address.is_local:
                place = ("server", "listen", position)
                sentence = f"{address} serves passwords over plain HTTP; set server.tls, or listen on 127.0.0.1"
                yield _message(file, document.line_of(place), place, sentence)
