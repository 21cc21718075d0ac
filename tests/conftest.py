"""Fixtures that every test may use: real certificates, a real directory, a whole bridge."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from hypothesis import settings

from tests.support.slapd import Entry, Slapd, person

settings.register_profile("default", deadline=None, max_examples=60)
settings.load_profile("default")

StartSlapd = Callable[..., Slapd]


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """The authority that signs what may be trusted."""
    return trustme.CA()


@pytest.fixture(scope="session")
def authority_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its certificate."""
    file = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return file


@pytest.fixture(scope="session")
def make_certificate(
    authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[Path, Path]]:
    """Makes a certificate with its key: for which host, signed by whom, expired or not."""

    def make(
        host: str = "127.0.0.1", *, signed_by: trustme.CA | None = None, expired: bool = False
    ) -> tuple[Path, Path]:
        ends = datetime.now(UTC) - timedelta(days=1) if expired else None
        certificate = (signed_by or authority).issue_cert(host, not_after=ends)
        folder = tmp_path_factory.mktemp("certificate")
        certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
        certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
        return folder / "cert.pem", folder / "key.pem"

    return make


@pytest.fixture
def start_slapd(tmp_path: Path) -> Iterator[StartSlapd]:
    """Starts OpenLDAP servers that end with the test."""
    started: list[Slapd] = []

    def start(entries: list[Entry] | None = None, **options: object) -> Slapd:
        found = [person(uid) for uid in ("anna", "bert", "carl")] if entries is None else entries
        server = Slapd(tmp_path / f"slapd{len(started)}", found, **options)  # type: ignore[arg-type]
        started.append(server)
        return server.__enter__()

    yield start
    for server in started:
        server.stop()
