"""The listener's certificate, taken anew when its files change."""

from __future__ import annotations

import ssl
from pathlib import Path

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class ServerCertificate:
    """A context for the listener; its certificate can be renewed while it serves."""

    def __init__(self, certificate_file: str, key_file: str, minimum_version: str) -> None:
        """Raises `OSError` (`ssl.SSLError` among them) where the files are no certificate with its key."""
        self._files = (certificate_file, key_file)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = _VERSIONS[minimum_version]
        self._seen = self._state()
        self.context.load_cert_chain(*self._files)

    def renew_if_changed(self) -> bool:
        """Whether new connections get a new certificate from now on.

        Raises `OSError` where the new files are unusable; the old certificate stays then, and the same files aren't
        tried again.
        """
        state = self._state()
        if state == self._seen:
            return False
        self._seen = state
        # A context that failed half-way would serve a certificate without its key, so another one tries first.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*self._files)
        self.context.load_cert_chain(*self._files)
        return True

    def _state(self) -> tuple[tuple[int, int, int], ...]:
        found = [Path(file).stat() for file in self._files]
        return tuple((item.st_mtime_ns, item.st_size, item.st_ino) for item in found)
