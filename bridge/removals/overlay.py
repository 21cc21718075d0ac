"""A fresh roster with some users kept as they were: who is retained, who is listed otherwise, and no name twice.

Whoever is listed as before has the first right to the name. Knows nothing of why somebody is kept.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from bridge.roster.roster import Roster, fold_user_name, render_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from collections.abc import Set as AbstractSet

    from bridge.model import User

_PORTION_COUNT = 500


class Overlay:
    """Collects what differs from the fresh roster, and makes the roster of it."""

    def __init__(self, fresh: Roster) -> None:
        self._fresh = fresh
        self._retained: list[User] = []
        self._replaced: dict[int, User] = {}
        self._dropped: set[int] = set()
        self._left_out: AbstractSet[int] = frozenset()
        self.decided_names: set[str] = set()
        """Folded names of users who are not called so in the directory, or not they alone."""

    def retain(self, user: User) -> None:
        """The user stays although the fresh roster lacks them."""
        self._retained.append(user)
        self.decided_names.add(fold_user_name(user.user_name))

    def replace(self, position: int, user: User) -> None:
        """The user at a position of the fresh roster is listed as `user`."""
        self._replaced[position] = user
        name = fold_user_name(user.user_name)
        if name != self._fresh.name_of(position):
            self.decided_names.add(name)

    def drops(self, position: int) -> bool:
        """Whether the one at a position of the fresh roster is left out, as somebody else holds the name."""
        return position in self._dropped

    def is_free(self, folded_name: str) -> bool:
        """Whether nobody claims the name, neither in the fresh roster nor by being kept."""
        return folded_name not in self.decided_names and self._fresh.position_of(folded_name) is None

    def settle(self, revert: Callable[[int], User | None]) -> list[str]:
        """Nobody claims the name of somebody who is kept; returns the folded names that were claimed.

        `revert` tells how the one at a position of the fresh roster is listed instead, under an earlier name that
        nobody else had; None leaves them out.
        """
        kept = [*self._retained, *self._replaced.values()]
        claimed: list[str] = []
        while kept:
            holder = kept.pop()
            name = fold_user_name(holder.user_name)
            position = self._claimant(name, holder.id)
            if position is None:
                continue
            claimed.append(name)
            self.decided_names.add(name)
            reverted = revert(position)
            if reverted is None:
                self._dropped.add(position)
            else:
                self.replace(position, reverted)
                kept.append(reverted)
        return sorted(claimed)

    def _claimant(self, name: str, holder_id: str) -> int | None:
        """Where somebody else is listed under the name of a holder."""
        position = self._fresh.position_of(name)
        if position is None or position in self._dropped or self._fresh.id_of(position) == holder_id.encode():
            return None
        replaced = self._replaced.get(position)
        return position if replaced is None or fold_user_name(replaced.user_name) == name else None

    def build(self) -> Roster:
        """The roster; the fresh one itself where nothing differs."""
        if not (self._retained or self._replaced or self._dropped):
            return self._fresh
        return Roster(self._portions())

    def _portions(self) -> Iterator[tuple[list[bytes], list[bytes]]]:
        self._left_out = self._replaced.keys() | self._dropped
        own = sorted(
            (fold_user_name(user.user_name).encode(), user) for user in (*self._retained, *self._replaced.values())
        )
        places = [self._fresh.place_of(name.decode()) for name, _ in own]
        for (start, end), (_, user) in zip(pairwise((0, *places)), own, strict=True):
            yield from self._stretch(start, end)
            yield [user.id.encode()], [render_user(user)]
        yield from self._stretch(places[-1] if places else 0, len(self._fresh))

    def _stretch(self, start: int, end: int) -> Iterator[tuple[list[bytes], list[bytes]]]:
        """Those of the fresh roster between two positions who are listed as they are."""
        for first in range(start, end, _PORTION_COUNT):
            positions = [at for at in range(first, min(first + _PORTION_COUNT, end)) if at not in self._left_out]
            yield [self._fresh.id_of(at) for at in positions], [self._fresh.json_of(at) for at in positions]
