"""Every target by its name: octets in, whether they were taken out; what does not hold is raised.

Runs without atheris, so that the corpus is replayed everywhere.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.fuzz import (
    bind_targets,
    connection_targets,
    entry_targets,
    file_targets,
    filter_targets,
    ldap_targets,
    text_targets,
    web_targets,
)

TARGETS: dict[str, Callable[[bytes], bool]] = {
    **ldap_targets.TARGETS,
    **bind_targets.TARGETS,
    **connection_targets.TARGETS,
    **entry_targets.TARGETS,
    **filter_targets.TARGETS,
    **text_targets.TARGETS,
    **web_targets.TARGETS,
    **file_targets.TARGETS,
}
