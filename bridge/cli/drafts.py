"""What commands that change nothing see of the state: the listings that are kept, beside a service that may run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bridge.run.paths import state_folder
from bridge.snapshots.memory_store import DraftStore
from bridge.state.sqlite_store import SqliteSnapshotStore

if TYPE_CHECKING:
    from bridge.config.loading import Loaded
    from bridge.events import Event


def open_draft(loaded: Loaded) -> DraftStore:
    """A store that begins with what is kept, and keeps nothing itself."""
    return DraftStore(SqliteSnapshotStore.open_read_only(state_folder(loaded, os.environ)))


def ignore(_event: Event) -> None:
    """Take no notice: commands tell what happens themselves."""
