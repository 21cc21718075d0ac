"""Snapshots kept in memory: as long as the process runs, or as a draft on top of another store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.snapshots.store import REPORTS_MAX_COUNT, Snapshot, SnapshotStore

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.model import Report


class MemorySnapshotStore:
    """A store that forgets when the process ends."""

    def __init__(self) -> None:
        self._snapshots: dict[str, Snapshot] = {}
        self._reports: dict[str, tuple[Report, ...]] = {}
        self._holders: dict[str, Mapping[str, str]] = {}

    async def load(self, directory: str) -> Snapshot | None:
        """The snapshot that was saved last."""
        return self._snapshots.get(directory)

    async def save(self, snapshot: Snapshot) -> None:
        """The snapshot takes the place of the one before."""
        self._snapshots[snapshot.directory] = snapshot
        known = self._reports.get(snapshot.directory, ())
        if snapshot.report not in known[:1]:
            self._reports[snapshot.directory] = (snapshot.report, *known)[:REPORTS_MAX_COUNT]

    async def forget(self, directory: str) -> None:
        """Nothing is known of the directory any more."""
        self._snapshots.pop(directory, None)
        self._reports.pop(directory, None)

    async def directories(self) -> tuple[str, ...]:
        """The names of all directories of which a snapshot is kept, sorted."""
        return tuple(sorted(self._snapshots))

    async def reports(self, directory: str) -> tuple[Report, ...]:
        """The reports of the last snapshots, the newest first."""
        return self._reports.get(directory, ())

    async def load_holders(self, endpoint: str) -> Mapping[str, str]:
        """Which directory holds each contested name."""
        return self._holders.get(endpoint, {})

    async def save_holders(self, endpoint: str, holders: Mapping[str, str]) -> None:
        """The holders take the place of those before."""
        self._holders[endpoint] = dict(holders)

    async def aclose(self) -> None:
        """Nothing is open."""


class DraftStore(MemorySnapshotStore):
    """What another store keeps, and on top of it what is saved here, which nobody else will ever see."""

    def __init__(self, kept: SnapshotStore) -> None:
        super().__init__()
        self._kept = kept

    async def load(self, directory: str) -> Snapshot | None:
        """The snapshot that was saved last, here or there."""
        return await super().load(directory) or await self._kept.load(directory)

    async def directories(self) -> tuple[str, ...]:
        """The names of all directories of which a snapshot is kept, here or there."""
        return tuple(sorted({*await super().directories(), *await self._kept.directories()}))

    async def reports(self, directory: str) -> tuple[Report, ...]:
        """The reports of the last snapshots, the newest first."""
        return (*await super().reports(directory), *await self._kept.reports(directory))[:REPORTS_MAX_COUNT]

    async def load_holders(self, endpoint: str) -> Mapping[str, str]:
        """Which directory holds each contested name, by what was saved here or there."""
        return await super().load_holders(endpoint) or await self._kept.load_holders(endpoint)

    async def aclose(self) -> None:
        """What is saved here is gone."""
        await self._kept.aclose()
