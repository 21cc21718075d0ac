"""How a command ends that could not do its work: its exit code, its line on standard error, its document.

The only place where an error becomes an exit code.
"""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass

import click

from bridge import __version__
from bridge.cli.options import BUG, CONFIGURATION, FINDINGS, UNAVAILABLE, USAGE
from bridge.cli.output import OutputFailed, complain, print_json
from bridge.errors import (
    ApprovalOutdated,
    BridgeError,
    ConfigurationError,
    DirectoryError,
    ServiceError,
    SnapshotMissing,
    StateLost,
    StateUnavailable,
    UnknownDirectory,
)

_EXIT_CODES: dict[type[BridgeError], int] = {
    ApprovalOutdated: FINDINGS,
    ConfigurationError: CONFIGURATION,
    DirectoryError: UNAVAILABLE,
    OutputFailed: UNAVAILABLE,
    SnapshotMissing: UNAVAILABLE,
    StateLost: UNAVAILABLE,
    StateUnavailable: UNAVAILABLE,
    UnknownDirectory: USAGE,
}
_SERVICE_EXIT_CODES = {UnknownDirectory.code: USAGE, BridgeError.code: BUG}
"""By the code that the running service has answered."""


_EXTRA = re.compile(r"(unexpected extra arguments?) \(.*\)", re.DOTALL)
"""What click quotes. Security: behind a user's name it is that user's password."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What is told of a failure; `code` is for programs, and each of the `lines` is a sentence for people."""

    exit_code: int
    code: str
    lines: tuple[str, ...]


def explain(error: Exception) -> Ending:
    """What to tell of an error."""
    match error:
        case ConfigurationError():
            return Ending(CONFIGURATION, error.code, error.problems)
        case ServiceError():
            default = UNAVAILABLE if error.is_temporary else FINDINGS
            exit_code = _SERVICE_EXIT_CODES.get(error.service_code, default)
            return Ending(exit_code, error.service_code, (error.full_message,))
        case BridgeError():
            exit_code = next((_EXIT_CODES[kind] for kind in type(error).__mro__ if kind in _EXIT_CODES), BUG)
            return Ending(exit_code, error.code, (error.full_message,))
        case click.ClickException():
            return Ending(error.exit_code, "usage", _describe_usage(error))
        case OSError():
            place = f"{error.filename}: " if error.filename is not None else ""
            return Ending(UNAVAILABLE, "system", (f"The system refuses: {place}{error.strerror or error}.",))
    return Ending(BUG, BridgeError.code, (f"A bug in mailstore-bridge {__version__}; please report the lines above.",))


def _describe_usage(error: click.ClickException) -> tuple[str, ...]:
    """What was typed wrongly; where nothing was, the help itself."""
    lines = _EXTRA.sub(r"\1", error.format_message()).splitlines()
    context = error.ctx if isinstance(error, click.UsageError) and type(error) is not click.UsageError else None
    if context is not None and len(lines) == 1:
        return (f"{lines[0].rstrip('.')}. `{context.command_path} --help` tells what there is.",)
    return tuple(lines)


def tell(error: Exception, *, as_json: bool) -> int:
    """Tell of the error on standard error and, for scripts, as a document on standard output; return the exit code."""
    found = explain(error)
    if found.exit_code == BUG and not isinstance(error, BridgeError):
        for line in "".join(traceback.format_exception(error)).splitlines():
            complain(line)
    color = None if isinstance(error, ConfigurationError | click.ClickException) else "red"
    for line in found.lines:
        complain(line, color)
    if as_json and not isinstance(error, OutputFailed):
        document: dict[str, object] = {"error": found.code, "message": "\n".join(found.lines)}
        if isinstance(error, ConfigurationError):
            document["problems"] = list(error.problems)
        print_json(document)
    return found.exit_code
