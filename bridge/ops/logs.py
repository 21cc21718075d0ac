"""Events as log lines: one for each request, each login, each refresh; nothing secret at any level.

The logger is made here and passed on; what libraries log goes the same way.
"""

from __future__ import annotations

import json
import logging
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TextIO

import orjson
import structlog

from bridge.events import (
    AccountWarned,
    ApprovalExpired,
    DiscoveryFailed,
    DropsCounted,
    FilesTaken,
    FilesUnusable,
    NamesContested,
    OperationEnded,
    Refreshed,
    RefreshFailed,
    RemovalsApproved,
    RemovalsReset,
    RequestAnswered,
    ServerRestored,
    ServerSetAside,
    ServersKnown,
    UserAuthenticated,
)
from bridge.model import Accepted, Rejection
from bridge.ops.line_writer import LineWriter
from bridge.ops.tracebacks import drop_words
from bridge.syntax.controls import escape_controls, escape_in_json

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from structlog.typing import FilteringBoundLogger, Processor

    from bridge.errors import BridgeError
    from bridge.events import Event, Observer
    from bridge.model import Report

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_JOURNAL_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""sd-daemon(3); the journal takes the number from the beginning of the line."""


_NAMED_MAX_COUNT = 10
"""So many user names stand in one line."""


def make_logger(
    level: str, form: str, stream: TextIO, environment: Mapping[str, str], *, usernames: bool = True
) -> FilteringBoundLogger:
    """A logger that writes to `stream`: JSON, or readable text where `form` says so or a terminal listens.

    Without `usernames`, exceptions are told without their words, which may quote somebody's name.
    """
    as_text = form == "text" or (form == "auto" and stream.isatty())
    processors: list[Processor] = [_add_level_and_time]
    if not usernames:
        processors.append(drop_words)
    if as_text:
        # Security: where rich is installed, structlog would draw tracebacks by it, with the local variables.
        colors, plain = stream.isatty() and not environment.get("NO_COLOR"), structlog.dev.plain_traceback
        console = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)
        processors += [structlog.processors.format_exc_info, _flatten, console]
    else:
        processors.append(_write_json)
    if "JOURNAL_STREAM" in environment and not as_text:
        processors.append(_write_priority)
    writer = LineWriter(stream)
    wrapped = structlog.wrap_logger(
        writer,
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
    )
    logger: FilteringBoundLogger = wrapped.bind()  # the logger itself, not a proxy that makes one for each line
    writer.tell_lost = lambda count: logger.warning("log.lost", line_count=count, remedy="Find out who reads it late.")
    return logger


def route_library_logs(logger: FilteringBoundLogger, level: str) -> None:
    """What asyncio and aiohttp say goes through our logger."""
    root = logging.getLogger()
    root.handlers = [_Handler(logger)]
    root.setLevel(max(_LEVELS[level], logging.WARNING))


def log_observer(logger: FilteringBoundLogger, *, usernames: bool) -> Observer:
    """An observer that writes a line for each event; without `usernames`, no line holds one."""
    is_verbose = logger.is_enabled_for(logging.DEBUG)

    def observe(event: Event) -> None:
        if isinstance(event, OperationEnded):  # two of the four events of a login
            if is_verbose:
                logger.debug("operation.ended", **{name: getattr(event, name) for name in _OPERATION_FIELDS})
            return
        match event:
            case RequestAnswered():
                _log_request(logger, event, usernames=usernames)
            case UserAuthenticated():
                _log_login(logger, event, usernames=usernames)
            case AccountWarned():
                logger.warning("account.warned", **event._asdict())
            case FilesTaken() | FilesUnusable():
                _log_files(logger, event)
            case DropsCounted():
                _log_drops(logger, event)
            case _:
                _log_directory(logger, event, usernames=usernames)

    return observe


def _log_directory(logger: FilteringBoundLogger, event: Event, *, usernames: bool) -> None:
    """What happens now and then: listings, removals, servers."""
    match event:
        case Refreshed(report):
            _log_report(logger, report, usernames=usernames)
        case RemovalsApproved():
            logger.warning("removals.approved", **event._asdict())
        case ApprovalExpired():
            logger.warning("removals.approval_expired", **event._asdict(), remedy="Look at what is withheld now.")
        case RemovalsReset(directory):
            logger.warning("removals.reset", directory=directory)
        case NamesContested(endpoint, holders):
            names = dict(holders) if usernames else {}
            logger.warning("names.contested", endpoint=endpoint, name_count=len(holders), holders=names)
        case RefreshFailed(directory, error, duration_s, stale_age_s):
            logger.warning(
                "refresh.failed",
                directory=directory,
                code=error.code,
                error=_words_of(error, usernames=usernames),
                duration_s=round(duration_s, 3),
                answered_stale=stale_age_s is not None,
            )
        case ServerSetAside(directory, server, error, pause_s):
            words = _words_of(error, usernames=usernames)
            logger.warning("server.set_aside", directory=directory, server=server, error=words, pause_s=pause_s)
        case ServerRestored():
            logger.info("server.restored", **event._asdict())
        case DiscoveryFailed(directory, error, known_count):
            words = _words_of(error, usernames=usernames)
            logger.warning("discovery.failed", directory=directory, error=words, known_count=known_count)
        case ServersKnown(directory, servers, were_discovered):
            tell = logger.info if were_discovered else logger.debug
            tell("servers.known", directory=directory, servers=servers)


def _words_of(error: BridgeError, *, usernames: bool) -> str:
    """What to say of an error: whom it is about, and a server's own words, only where names may stand in the log."""
    return error.full_message if usernames else error.message


def _log_files(logger: FilteringBoundLogger, event: FilesTaken | FilesUnusable) -> None:
    """What comes of files that have changed."""
    kind = "certificate" if event.is_certificate else "secret"
    if isinstance(event, FilesTaken):
        name = f"{kind}.renewed"
        logger.info(name, place=event.place, files=event.files)
        return
    name = f"{kind}.unusable"
    remedy = "What was read before stays in use; the files are tried again."
    logger.warning(name, place=event.place, files=event.files, error=event.error, remedy=remedy)


def _log_drops(logger: FilteringBoundLogger, event: DropsCounted) -> None:
    """One line for a flood, with counts by listener and reason."""
    counts: dict[str, dict[str, int]] = {}
    for listener, reason, count in event.counts:
        counts.setdefault(listener, {})[reason] = count
    fields: dict[str, Any] = {
        "count": sum(count for _, _, count in event.counts),
        "counts": counts,
        "period_s": event.period_s,
        "busiest_address": event.busiest_address,
        "busiest_count": event.busiest_count,
    }
    if event.are_limits:
        remedy = "Find out who opens so many connections; a firewall in front keeps them away."
        logger.warning("connections.refused", **fields, remedy=remedy)
    else:
        logger.info("connections.failed", **fields)


_REPORT_FIELDS = (
    "directory",
    "server",
    "server_before",
    "page_count",
    "entry_count",
    "user_count",
    "ignored_reference_count",
    "duration_s",
    "added_count",
    "changed_count",
    "removed_count",
    "renamed_count",
    "withheld_count",
    "witness_count",
    "lagging_count",
    "in_grace_count",
    "approved_digest",
    "shared_address_count",
    "is_first",
)
_OPERATION_FIELDS = ("directory", "server", "operation", "outcome", "duration_s")


def _log_report(logger: FilteringBoundLogger, report: Report, *, usernames: bool) -> None:
    fields: dict[str, Any] = {name: getattr(report, name) for name in _REPORT_FIELDS}
    fields["skipped"] = {skipped.reason: skipped.count for skipped in report.skipped}
    fields["collision_count"] = len(report.collisions)
    if usernames:
        fields |= {"collisions": report.collisions[:_NAMED_MAX_COUNT], "inconsistent": report.inconsistent}
        fields["lagging"] = report.lagging
        fields["shared_addresses"] = report.shared_addresses
    if report.withheld_count:
        remedy = "Look at them with `mailstore-bridge removals show`."
        logger.error("refresh.finished", **fields, remedy=remedy)
    elif report.is_first:
        remedy = "Nothing is kept of an earlier listing, so nobody could be missing from this one; look at `list` once."
        logger.warning("refresh.finished", **fields, remedy=remedy)
    elif report.lagging:
        remedy = "The server has shown less than another one knows; check the replication between them."
        logger.warning("refresh.finished", **fields, remedy=remedy)
    elif report.collisions or report.inconsistent:
        logger.warning("refresh.finished", **fields)
    else:
        logger.info("refresh.finished", **fields)


def _log_request(logger: FilteringBoundLogger, event: RequestAnswered, *, usernames: bool) -> None:
    fields: dict[str, Any] = {
        "request_id": event.request_id,
        "endpoint": event.endpoint,
        "command": event.command,
        "status": event.status,
        "duration_ms": round(event.duration_s * 1000, 1),
        "remote": event.remote,
    }
    if event.caller is not None and usernames:
        fields["caller"] = event.caller
    if event.challenge:
        logger.debug("request.challenged", **fields)
        return
    if event.error is not None:
        fields |= {"code": event.error.code, "error": _words_of(event.error, usernames=usernames)}
    (logger.warning if event.error is not None else logger.info)("request.answered", **fields)


def _log_login(logger: FilteringBoundLogger, event: UserAuthenticated, *, usernames: bool) -> None:
    verdict = event.verdict
    fields: dict[str, Any] = {
        "endpoint": event.endpoint,
        "directory": verdict.directory,
        "server": event.server,
        "duration_ms": round(event.duration_s * 1000, 1),
    }
    if usernames:
        fields["user"] = event.user_name
    if isinstance(verdict, Accepted):
        logger.info("login.accepted", **fields, notice=verdict.notice)
        return
    fields |= {"reason": verdict.reason.value, "result_code": event.result_code}
    if usernames:
        fields |= {"diagnostic_message": event.diagnostic_message, "detail": event.detail}
    is_fault = verdict.reason is Rejection.AMBIGUOUS_USER  # nobody can log in by that name until it is mended
    (logger.error if is_fault else logger.info)("login.rejected", **fields)


class _Handler(logging.Handler):
    """Hands the records of the standard library's loggers to ours, tracebacks without local variables."""

    def __init__(self, logger: FilteringBoundLogger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """One line for one record."""
        self._logger.log(
            record.levelno, "library.logged", library=record.name, message=record.getMessage(), exc_info=record.exc_info
        )


def _add_level_and_time(_logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["level"] = method
    now_s = time.time()
    event["timestamp"] = f"{_format_second(int(now_s))}.{int(now_s % 1 * 1_000_000):06d}Z"
    return event


@lru_cache(maxsize=1)
def _format_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _flatten(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Text that came from outside can't begin a line of its own, nor steer the terminal."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            # A line of a traceback may be somebody's words, too: the journal takes a level from a beginning like `<3>`.
            lines = [f"  {line}" for line in value.split("\n")] if name == "exception" else [value]
            event[name] = "\n".join(map(escape_controls, lines))
    return event


def _write_json(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
    """The event as one line; what is no Unicode or invisible is escaped, or the journal would show no text at all."""
    if "exc_info" in event:
        event = structlog.processors.format_exc_info(logger, method, event)
    try:
        return escape_in_json(orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode())
    except TypeError:
        return json.dumps(event, default=repr)


def _write_priority(_logger: Any, method: str, line: Any) -> str:
    return f"<{_JOURNAL_PRIORITIES.get(method, 6)}>{line}"
