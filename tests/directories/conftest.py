"""Directory servers that take seconds to start, and so are started once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.samba import Samba, free_address


@pytest.fixture(scope="session")
def samba(
    make_certificate: Callable[..., tuple[Path, Path]],
    authority_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Samba]:
    """A domain controller; whoever changes it uses accounts of their own."""
    address = free_address()
    folder = tmp_path_factory.mktemp("samba")
    with Samba(folder, make_certificate(address), authority_file, address) as server:
        yield server
