"""What an operator can do, once: the control socket and the command line call it, and both answer these documents.

Who may do it is decided by whoever lets them in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge import __version__
from bridge.documents import render_health, render_removals, render_report, render_throttle
from bridge.errors import BridgeError, UnknownDirectory

if TYPE_CHECKING:
    from bridge.service import Bridge

    Document = dict[str, object]


class Operations:
    """The operations on a bridge, be it one that serves or one over what a service has left."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    async def status(self) -> Document:
        """Return how each endpoint and each directory fares, with the last reports, the newest first."""
        directories: list[Document] = []
        for name, snapshots in self._bridge.directories.items():
            last_good, age_s = snapshots.last_good, snapshots.age_s
            directories.append(
                {
                    "directory": name,
                    "user_count": len(last_good.roster) if last_good is not None else None,
                    "age_s": round(age_s, 1) if age_s is not None else None,
                    "withheld_count": len(last_good.guard.withheld) if last_good is not None else 0,
                    "reports": [render_report(report) for report in await self._bridge.reports(name)],
                }
            )
        return {
            **render_health(self._bridge.health(), with_names=True),
            "version": __version__,
            "directories": directories,
        }

    async def refresh(self, directory: object = None) -> Document:
        """List one directory now, or each, with a service account that is tried again though it was refused.

        Raises a `BridgeError`: `UnknownDirectory`, also for what is no name at all, or why a listing can't be had.
        """
        names = list(self._bridge.directories)
        if directory is not None:
            if not isinstance(directory, str) or directory not in names:
                raise UnknownDirectory(directory, names)
            names = [directory]
        for name in names:  # of all of them first: several may have one account, and it is tried once
            self._bridge.forgive_refusal(name)
        return {"reports": [render_report(await self._bridge.refresh(name)) for name in names]}

    async def removals(self) -> Document:
        """Return what is withheld, and why."""
        loaded = [await snapshots.load() for snapshots in self._bridge.directories.values()]
        return render_removals(snapshot for snapshot in loaded if snapshot is not None)

    async def approve(self, digest: str) -> Document:
        """Let the withheld removals of this digest go with the next refresh. Raises `ApprovalOutdated`."""
        directory, count = await self._bridge.approve(digest)
        return {"directory": directory, "digest": digest, "count": count, "report": None}

    async def approve_now(self, digest: str) -> Document:
        """Let them go, and refresh: `report` is that of the refresh, or `message` why it failed.

        Raises `ApprovalOutdated`.
        """
        approved = await self.approve(digest)
        try:
            report = await self._bridge.refresh(str(approved["directory"]))
        except BridgeError as error:  # the approval stays, and the next refresh that succeeds carries it out
            return {**approved, "message": error.full_message}
        return {**approved, "report": render_report(report)}

    async def reset(self, directory: str) -> Document:
        """Forget the earlier listing of a directory, be it configured or not. Raises `UnknownDirectory`."""
        await self._bridge.reset(directory)
        return {"directory": directory}

    def throttle(self) -> Document:
        """Return of whom failed logins are remembered, and who is held back."""
        return render_throttle(self._bridge.remembered())

    def release(self, user_name: str) -> Document:
        """Have the passwords of whoever is meant by this name tried again."""
        return {"user": user_name, "released_count": self._bridge.release(user_name)}
