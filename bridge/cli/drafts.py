"""What commands that change nothing see of the state: the listings that are kept, beside a service that may run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bridge.run import state_folder
from bridge.state.sqlite_store import SqliteSnapshotStore
from bridge.storage import DraftStore

if TYPE_CHECKING:
    from bridge.config.loading import Loaded


def open_draft(loaded: Loaded) -> DraftStore:
    """A store that begins with what is kept, and keeps nothing itself."""
    return DraftStore(SqliteSnapshotStore.open_read_only(state_folder(loaded, os.environ)))
