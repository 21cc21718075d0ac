"""The listener's certificate, taken anew when its files change."""

from __future__ import annotations

import ssl

from bridge.certificates.contexts import listener_context
from bridge.renewal import Renewed


class ServerCertificate(Renewed[ssl.SSLContext]):
    """A context for the listener: always the same one, which shows another certificate when the files have changed."""

    def __init__(self, certificate_file: str, key_file: str, minimum_version: str) -> None:
        """Raises `CertificateError` where the files are no certificate with its key."""
        self._pair = (certificate_file, key_file)
        self._minimum_version = minimum_version
        self._context: ssl.SSLContext | None = None
        self._newest: ssl.SSLContext | None = None
        """What the certificate is shown by."""
        super().__init__("server.tls", self._pair, self._load)
        self.read()

    def _load(self, _contents: tuple[bytes, ...]) -> ssl.SSLContext:
        # OpenSSL keeps a certificate for each kind of key, and one of RSA would not take the place of one of ECDSA: so
        # each certificate has a context of its own, to which a connection changes before it shows one.
        self._newest = listener_context(*self._pair, minimum_version=self._minimum_version)
        if self._context is None:
            self._context = self._newest
            self._context.sni_callback = self._show_newest
        return self._context

    def _show_newest(
        self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _first: ssl.SSLContext
    ) -> None:
        """Called for each connection, be the host named in it or not."""
        if self._newest is not None:
            connection.context = self._newest
