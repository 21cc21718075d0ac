"""The listener's certificate, taken anew when its files change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.certificates.contexts import listener_context, load_chain
from bridge.renewal import Renewed

if TYPE_CHECKING:
    import ssl


class ServerCertificate(Renewed["ssl.SSLContext"]):
    """A context for the listener: always the same one, whose certificate is another one when the files have changed."""

    def __init__(self, certificate_file: str, key_file: str, minimum_version: str) -> None:
        """Raises `CertificateError` where the files are no certificate with its key."""
        self._pair = (certificate_file, key_file)
        self._minimum_version = minimum_version
        self._context: ssl.SSLContext | None = None
        super().__init__("server.tls", self._pair, self._load)
        self.read()

    def _load(self, _contents: tuple[bytes, ...]) -> ssl.SSLContext:
        if self._context is None:
            self._context = listener_context(*self._pair, minimum_version=self._minimum_version)
        else:
            load_chain(self._context, *self._pair)
        return self._context
