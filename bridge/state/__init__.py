"""Keeps snapshots on disk; the only package that imports sqlite3."""

from bridge.state.sqlite_store import SqliteSnapshotStore

__all__ = ["SqliteSnapshotStore"]
