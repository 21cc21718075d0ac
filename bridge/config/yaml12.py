"""YAML read by the core rules of YAML 1.2 (§10.3), with the line of every value kept.

PyYAML follows YAML 1.1, where `off`, `no` and `12:30` are no words. Only scalars, lists and mappings with text keys are
taken; every fault is collected.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

Path = tuple[str | int, ...]
"""Keys and positions that lead to a value."""

_TAG = "tag:yaml.org,2002:"
_NODES_MAX_COUNT = 100_000
_DEPTH_MAX_COUNT = 50
"""Sections inside of each other; a configuration has six."""
_OWN_TAGS = re.compile(re.escape(_TAG) + r"(int|float|str|bool|null|binary|timestamp|map|seq|set|omap|pairs|python/.*)")
_QUOTED = re.compile(r" '(?!<)[^']{3,}'")
"""What PyYAML's words quote, but for a sign and for the name of a token, such as `'<block end>'`."""
_IN_QUOTATION_MARKS = "put a value that begins with *, & or ! into quotation marks"
_NUMBER_MAX_CHARACTERS = 20
"""No setting is larger than 64 bits."""


class _Loader(yaml.SafeLoader):
    """PyYAML's scanner and parser with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own way


for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"^(?:{_pattern})$"), _first)


@dataclass(slots=True)
class Document:
    """What a file holds, where each value stands, and what is wrong with it so far."""

    value: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    """Counted from 1."""
    faults: list[tuple[int, Path, str]] = field(default_factory=list)
    tags: dict[int, str] = field(default_factory=dict)
    """What is written as a tag, by the position in the text of the value that has it."""

    def line_of(self, path: Path) -> int:
        """The line of a value, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read_yaml(text: str) -> Document:
    """The document that `text` writes; what can't be read is among its faults."""
    document = Document()
    try:
        if not _scan(text, document):
            return document
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        document.faults.append((line, (), f"is no YAML: {_without_quotation(error.problem or error.context or '')}"))
        return document
    except yaml.YAMLError as error:
        document.faults.append((1, (), f"is no YAML: {error}"))
        return document
    if not _ends(node):
        document.faults.append((1, (), "repeats itself through aliases without end"))
        return document
    if node is not None:
        document.value = _construct(node, (), document)
    return document


def _without_quotation(words: str) -> str:
    """PyYAML's words. Security: a password without quotation marks may be an alias or a tag, which they quote."""
    found = _QUOTED.sub("", words)
    return words if found == words else f"{found}; {_IN_QUOTATION_MARKS}"


def _describe_tag(tag: str) -> str:
    if _OWN_TAGS.fullmatch(tag):
        return f"the tag {tag}, which means nothing here"
    return f"a tag, which means nothing here; {_IN_QUOTATION_MARKS}"  # Security: it may be a password


def _scan(text: str, document: Document) -> bool:
    """Note the tags; False and a fault where the text is nested so deeply that nobody could read it."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        mark = event.start_mark
        assert mark is not None  # noqa: S101 - what is read from a text has a place in it
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag is not None:
            document.tags[mark.index] = event.tag
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEPTH_MAX_COUNT:
            sentence = f"is nested more than {_DEPTH_MAX_COUNT} levels deep"
            document.faults.append((mark.line + 1, (), sentence))
            return False
    return True


def _ends(node: yaml.Node | None) -> bool:
    """Whether there is an end to the values when aliases are unfolded: a few lines can write billions, or a circle."""
    stack, count = [node], 0
    while stack:
        count += 1
        if count > _NODES_MAX_COUNT:
            return False
        current = stack.pop()
        if isinstance(current, yaml.SequenceNode):
            stack.extend(current.value)
        elif isinstance(current, yaml.MappingNode):
            stack.extend(value for _, value in current.value)
    return True


def _construct(node: yaml.Node, path: Path, document: Document) -> Any:
    line = node.start_mark.line + 1
    document.lines.setdefault(path, line)
    if (tag := document.tags.get(node.start_mark.index)) is not None:
        document.faults.append((line, path, f"has {_describe_tag(tag)}"))
        return None
    if isinstance(node, yaml.MappingNode):
        return _construct_mapping(node, path, document)
    if isinstance(node, yaml.SequenceNode):
        return [_construct(item, (*path, position), document) for position, item in enumerate(node.value)]
    return _construct_scalar(node, path, document)


def _construct_mapping(node: yaml.MappingNode, path: Path, document: Document) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            document.faults.append((line, path, "has a key that is no word"))
            continue
        if (tag := document.tags.get(key_node.start_mark.index)) is not None:
            document.faults.append((line, path, f"has a key with {_describe_tag(tag)}"))
            continue
        key = str(key_node.value)
        if key in found:
            first = document.lines[(*path, key)]
            document.faults.append((line, (*path, key), f"stands twice, first in line {first}; keep one of them"))
            continue
        document.lines[(*path, key)] = line
        found[key] = _construct(value_node, (*path, key), document)
    return found


def _construct_scalar(node: yaml.Node, path: Path, document: Document) -> Any:
    text, kind = str(node.value), node.tag.removeprefix(_TAG)
    if kind in ("int", "float") and (fault := _find_number_fault(text)):
        document.faults.append((node.start_mark.line + 1, path, fault))
        return None
    match kind:
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            return int(text, 0) if text.startswith(("0o", "0x")) else int(text)
        case "float":
            return float(text)
    return text


def _find_number_fault(text: str) -> str | None:
    if len(text) > _NUMBER_MAX_CHARACTERS:
        return "is a number with too many digits"
    is_decimal = not text.startswith(("0o", "0x"))
    return "is too large a number" if is_decimal and math.isinf(float(text)) else None
