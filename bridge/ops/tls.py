"""The listener's certificate, taken anew when its files change."""

from __future__ import annotations

from pathlib import Path

from bridge.certificates.contexts import listener_context, load_chain


class ServerCertificate:
    """A context for the listener; its certificate can be renewed while it serves."""

    def __init__(self, certificate_file: str, key_file: str, minimum_version: str) -> None:
        """Raises `CertificateError` where the files are no certificate with its key."""
        self._files = (certificate_file, key_file)
        self._seen = self._state()
        self.context = listener_context(*self._files, minimum_version=minimum_version)

    def renew_if_changed(self) -> bool:
        """Whether new connections get a new certificate from now on.

        Raises `CertificateError` where the new files are unusable; the old certificate stays then, and the same files
        aren't tried again.
        """
        state = self._state()
        if state == self._seen:
            return False
        self._seen = state
        load_chain(self.context, *self._files)
        return True

    def _state(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(map(_state_of, self._files))


def _state_of(file: str) -> tuple[int, int, int] | None:
    """What changes with the file; None where there is none."""
    try:
        found = Path(file).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
