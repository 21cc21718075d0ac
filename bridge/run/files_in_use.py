"""The files that the running service uses: looked at together, and described for whoever compares them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from bridge.documents import render_time
from bridge.events import FilesTaken, FilesUnusable
from bridge.model import file_problem
from bridge.renewal import FINGERPRINT_KEY, Look

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from structlog.typing import FilteringBoundLogger

    from bridge.config.loading import Loaded
    from bridge.events import Observer
    from bridge.model import Problem
    from bridge.ops.tls import ServerCertificate
    from bridge.renewal import Renewed


class FilesInUse:
    """Secrets and certificates of a service, which are taken anew one by one."""

    def __init__(self, loaded: Loaded, certificate: ServerCertificate | None, observe: Observer) -> None:
        certificates: list[Renewed[ssl.SSLContext]] = [*loaded.contexts.values()]
        if certificate is not None:
            certificates.append(certificate)
        self._renewed: list[Renewed[Any]] = [secret for secret in loaded.secrets.values() if secret.files]
        for secret in self._renewed:
            secret.observe = _tell(observe, is_certificate=False)
        for each in certificates:
            each.observe = _tell(observe, is_certificate=True)
        self._renewed += [each for each in certificates if each.files]
        self._by_endpoint: dict[str, list[Renewed[Any]]] = {
            endpoint.path: [
                *(secret for path, secret in loaded.secrets.items() if path[:2] == ("endpoints", position)),
                *([certificate] if certificate is not None else []),
            ]
            for position, endpoint in enumerate(loaded.configuration.endpoints)
        }

    def look(self) -> None:
        """Take anew whatever has changed; what comes of it is told to the observer."""
        for renewed in self._renewed:
            renewed.look()

    def reload(self, logger: FilteringBoundLogger) -> None:
        """Read every file at once, and log one line that says what was taken anew and what could not be."""
        found = {renewed.place: (renewed.look(at_once=True), renewed.why_failed) for renewed in self._renewed}
        taken = [place for place, (look, _) in found.items() if look is Look.RENEWED]
        failed = {place: why for place, (_, why) in found.items() if why}
        unchanged_count = len(found) - len(taken) - len(failed)
        tell = logger.warning if failed else logger.info
        tell("service.reloaded", renewed=taken, failed=failed, unchanged_count=unchanged_count)

    def problems_of(self, endpoint: str) -> tuple[Problem, ...]:
        """Which files of its callers, and of the listener's certificate, can't be used now."""
        found = map(file_problem, self._by_endpoint[endpoint])
        return tuple(problem for problem in found if problem is not None)

    def describe(self) -> dict[str, object]:
        """What is in use of each file, by a keyed hash, and the key to compare it: never what a file holds."""
        return {
            "key": FINGERPRINT_KEY.hex(),
            "files": [entry for renewed in self._renewed for entry in _describe(renewed)],
        }


def _describe(renewed: Renewed[Any]) -> Iterable[dict[str, object]]:
    failure = renewed.why_failed or None
    since = render_time(renewed.taken_at_s) if renewed.taken_at_s is not None else None
    for file, fingerprint in zip(renewed.files, renewed.fingerprints, strict=False):
        yield {
            "place": renewed.place,
            "file": os.path.abspath(file),  # noqa: PTH100 - links stay as they are
            "fingerprint": fingerprint.hex(),
            "since": since,
            "failure": failure,
        }


def _tell(observe: Observer, *, is_certificate: bool) -> Any:
    def tell(renewed: Renewed[Any], error: Exception | None) -> None:
        if error is None:
            observe(FilesTaken(renewed.place, renewed.files, is_certificate))
        else:
            observe(FilesUnusable(renewed.place, renewed.files, is_certificate, renewed.why_failed))

    return tell
