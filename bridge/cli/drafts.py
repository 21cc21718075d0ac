"""A bridge for one command, over a store of its own: for most, the listings that are kept, of which nothing changes."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from bridge.run.build import make_bridge
from bridge.run.paths import state_folder
from bridge.snapshots.memory_store import DraftStore
from bridge.state.sqlite_store import SqliteSnapshotStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.config.loading import Loaded
    from bridge.events import Event, Observer
    from bridge.service import Bridge
    from bridge.snapshots.store import SnapshotStore


def open_draft(loaded: Loaded) -> DraftStore:
    """A store that begins with what is kept, and keeps nothing itself."""
    return DraftStore(SqliteSnapshotStore.open_read_only(state_folder(loaded, os.environ)))


def ignore(_event: Event) -> None:
    """Take no notice: commands tell what happens themselves."""


@asynccontextmanager
async def bridge_over(store: SnapshotStore, loaded: Loaded, observe: Observer = ignore) -> AsyncIterator[Bridge]:
    """A bridge over a store, both of which are closed in the end."""
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.aclose)
        bridge = make_bridge(loaded, observe, store)
        stack.push_async_callback(bridge.aclose)
        yield bridge
