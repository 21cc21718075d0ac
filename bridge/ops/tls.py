"""The listener's certificate, taken anew when its files change."""

from __future__ import annotations

import ssl

from bridge.renewal import Renewed

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class ServerCertificate(Renewed[ssl.SSLContext]):
    """A context for the listener: always the same one, whose certificate is another one when the files have changed."""

    def __init__(self, certificate_file: str, key_file: str, minimum_version: str) -> None:
        """Raises `OSError` (`ssl.SSLError` among them) where the files are no certificate with its key."""
        self._pair = (certificate_file, key_file)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = _VERSIONS[minimum_version]
        super().__init__("server.tls", self._pair, self._load)
        self.read()

    def _load(self, _contents: tuple[bytes, ...]) -> ssl.SSLContext:
        # A context that failed half-way would serve a certificate without its key, so another one tries first.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*self._pair)
        self._context.load_cert_chain(*self._pair)
        return self._context
