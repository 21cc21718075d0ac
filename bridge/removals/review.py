"""The guard: what of a fresh listing is accepted, and what MailStore must not lose yet.

Pure: the last accepted listing, the fresh one, what the directory said of those who are missing, the policy and the
time give what is answered from now on. Nothing that was accepted disappears but within the limits or with the
operator's word; whoever is new appears in any case; the same input gives the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bridge.removals.losses import find_alterations, lost_addresses
from bridge.removals.model import Finding, GuardState, HeldBy, Removal, RemovalKind, RemovalReason, Withheld, digest_of
from bridge.removals.overlay import Overlay
from bridge.removals.witnesses import contradicts, wait_for, witness_of
from bridge.roster.comparison import differences
from bridge.roster.roster import fold_user_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from bridge.model import User
    from bridge.removals.model import RemovalPolicy, Statement
    from bridge.roster.comparison import Comparison
    from bridge.roster.roster import Roster

CONFIRMED_MAX_COUNT = 1_000
"""So many missing users are asked for one by one; where more are missing at once, the guard trips."""
WITNESS_PATIENCE_S = 86_400.0
"""How long the server that last showed a user is waited for."""
_NOT_ASKED = Finding(
    RemovalReason.UNCONFIRMED, f"more than {CONFIRMED_MAX_COUNT:,} are missing, too many to ask for each"
)
_HELD_BY_REASON = {RemovalReason.UNCONFIRMED: HeldBy.CONFIRMATION, RemovalReason.NAME_TAKEN: HeldBy.NAME}
"""What doesn't go through even if it is one user alone."""


@dataclass(frozen=True, slots=True)
class Review:
    """What the guard makes of a fresh listing."""

    roster: Roster
    """What is answered."""
    guard: GuardState
    removed: tuple[Removal, ...] = ()
    """What went through."""
    collisions: tuple[str, ...] = ()
    """Folded user names of users who are left out, since somebody else holds them."""
    inconsistent: tuple[str, ...] = ()
    """Names of users whom the listing left out though they are there; they stay."""
    lagging: tuple[str, ...] = ()
    """Names of users who stay as they were, as another server than that of the listing still shows them so."""
    added_count: int = 0
    changed_count: int = 0
    in_grace_count: int = 0
    approved: str | None = None
    """The digest of what went through with the operator's word."""
    expired: str | None = None
    """The digest of an approval that fits no more, as other removals have come or some are gone."""

    @property
    def is_tripped(self) -> bool:
        """Whether there are too many removals."""
        return self.guard.is_tripped


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a fresh listing is held against: the last accepted one, and what is remembered beside it."""

    roster: Roster
    guard: GuardState
    taken_at_s: float
    """When the directory was listed, in seconds since 1970."""
    server: str = ""
    """The URL of the server that was listed."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """A complete listing, and what was found out about it."""

    roster: Roster
    comparison: Comparison
    """Of the last accepted listing with this one."""
    findings: Mapping[str, Finding] = field(default_factory=dict)
    """By user id, for the missing ones; empty where they were too many."""
    contested: Sequence[str] = ()
    """Folded user names that more than one entry claims in this listing."""
    server: str = ""
    """The URL of the server that was listed."""
    statements: Mapping[str, Statement] = field(default_factory=dict)
    """By user id: what the servers say that have last shown those of whom something is lost, where they are others."""


def review(baseline: Baseline, fresh: Fresh, policy: RemovalPolicy, now_s: float) -> Review:
    """What is answered from now on.

    A removal that was withheld because of the limit stays withheld, whatever the numbers are later, until it is
    approved or the user is back.
    """
    case = _Case(baseline, fresh, policy, now_s)
    outcome = case.decide(case.judge())
    approved = baseline.guard.approved
    if approved is not None and outcome.held and digest_of(removal for removal, _ in outcome.held) == approved:
        return case.conclude(case.decide({}, {removal.user_id for removal, _ in outcome.held}), approved=approved)
    return case.conclude(outcome, expired=approved)


class _Case:
    """One review: what would be lost, what of it is withheld, and the roster that follows."""

    def __init__(self, baseline: Baseline, fresh: Fresh, policy: RemovalPolicy, now_s: float) -> None:
        self._baseline = baseline
        self._fresh = fresh
        self._policy = policy
        self._now_s = now_s
        self._missing: list[tuple[User, Removal]] = []
        self._inconsistent: list[User] = []
        self._lagging: dict[str, User] = {}
        """Those who stay as they were by the word of another server, by their ids."""
        self._changed = {other: position for position, other in fresh.comparison.changed}
        """Where the user stands in the accepted roster, by the position in the fresh one."""
        self._altered: list[int] = []
        """Positions in the fresh roster: of the changed users those who may have to be listed otherwise."""
        self._alterations: list[Removal] = []
        self._returned = {fresh.roster.id_of(position).decode(): position for position in fresh.comparison.added}
        self._since_s = {held.removal.key: held.since_s for held in baseline.guard.withheld}
        self._collect()

    def _collect(self) -> None:
        previous, fresh = self._baseline.roster, self._fresh
        for position in fresh.comparison.missing:
            user = previous[position]
            reason, detail = fresh.findings.get(user.id, _NOT_ASKED)
            if reason is None:
                self._inconsistent.append(user)
                continue
            statement = fresh.statements.get(user.id)
            if statement is not None and statement.finding is not None:
                reason, detail = statement.finding
            if reason is None:
                self._lagging[user.id] = user
                continue
            removal = Removal(user.id, user.user_name, RemovalKind.MISSING, reason, detail)
            self._missing.append((user, self._with_witness(removal)))
        for other in self._changed:
            old, new = self._change_at(other)
            alterations = list(find_alterations(old, new, keeps_name=self._policy.keep_user_names))
            if alterations and contradicts(fresh.statements.get(old.id), alterations):
                self._lagging[old.id] = old
            else:
                self._alterations += map(self._with_witness, alterations)
            if alterations or old.user_name != new.user_name:
                self._altered.append(other)

    def _with_witness(self, removal: Removal) -> Removal:
        """The removal, with the server that is waited for in its detail."""
        if not self._waits_for_witness(removal):
            return removal
        return wait_for(removal, self._fresh.statements[removal.user_id])

    def _waits_for_witness(self, removal: Removal) -> bool:
        statement = self._fresh.statements.get(removal.user_id)
        if statement is None or statement.finding is not None:
            return False
        since_s = min(self._since_s.get(removal.key, self._now_s), self._now_s)  # the clock may have been set back
        return self._now_s - since_s < WITNESS_PATIENCE_S

    def _change_at(self, position: int) -> tuple[User, User]:
        """The user as accepted and as listed now, who stands at a position of the fresh roster."""
        return self._baseline.roster[self._changed[position]], self._fresh.roster[position]

    def judge(self) -> dict[str, HeldBy]:
        """What keeps the removals of a user from going through, by user id."""
        removals = [*(removal for _, removal in self._missing), *self._alterations]
        sticky = {held.removal.user_id for held in self._baseline.guard.withheld if held.held_by is HeldBy.LIMIT}
        waiting = {removal.user_id for removal in removals if self._waits_for_witness(removal)} - sticky
        is_tripped = self._is_tripped({removal.user_id for removal in removals} - waiting)
        held: dict[str, HeldBy] = {}
        for removal in removals:
            if removal.user_id in waiting:
                held[removal.user_id] = HeldBy.WITNESS
            elif is_tripped or removal.user_id in sticky:
                held[removal.user_id] = HeldBy.LIMIT
            elif removal.reason in _HELD_BY_REASON:
                held[removal.user_id] = _HELD_BY_REASON[removal.reason]
        return held

    def _is_tripped(self, user_ids: set[str]) -> bool:
        if not user_ids:
            return False
        if len(self._missing) > CONFIRMED_MAX_COUNT:
            return True
        if not self._fresh.roster and not self._policy.allow_empty:
            return True
        # Small steps can't walk around the limit: what went within the window counts, and so do those who were there.
        recent = self._recent
        gone_count = sum(user_id in self._baseline.guard.former_names for user_id in recent)
        total_count = len(self._baseline.roster) + gone_count
        count = len(user_ids | recent.keys())
        return count > self._policy.max_count and count * 100 > self._policy.max_percent * total_count

    @property
    def _recent(self) -> dict[str, float]:
        """The earlier removals that count together with these: within the window, and of users who are not back."""
        return {
            user_id: min(at_s, self._now_s)  # the clock may have been set back since
            for user_id, at_s in self._baseline.guard.recent.items()
            if self._now_s - at_s < self._policy.window_s and not self._is_back(user_id)
        }

    def _is_back(self, user_id: str) -> bool:
        """Whether somebody who had left comes again as whom they were; under another name, the archive is gone."""
        position, name = self._returned.get(user_id), self._baseline.guard.former_names.get(user_id)
        if position is None or name is None:
            return False
        folded = fold_user_name(name)
        return folded == self._fresh.roster.name_of(position) and self._baseline.roster.position_of(folded) is None

    def decide(self, held: Mapping[str, HeldBy], approved_ids: AbstractSet[str] = frozenset()) -> _Outcome:
        """What follows if exactly the held removals don't happen; for the approved ones there is no grace either."""
        outcome = _Outcome(Overlay(self._fresh.roster), approved_ids)
        for user in self._inconsistent:
            outcome.overlay.retain(user)
        for position in self._fresh.comparison.missing:
            lagging = self._lagging.get(self._baseline.roster.id_of(position).decode())
            if lagging is not None:
                outcome.overlay.retain(lagging)
        for user, removal in self._missing:
            if user.id in held:
                outcome.held.append((removal, held[user.id]))
            elif user.id not in approved_ids and self._now_s - self._last_seen_s(user.id) < self._policy.grace_s:
                outcome.in_grace.append(user.id)
            else:
                outcome.passed.append(removal)
                continue
            outcome.overlay.retain(user)
        for removal in self._alterations:
            if removal.user_id in held:
                outcome.held.append((removal, held[removal.user_id]))
            else:
                outcome.passed.append(removal)
        for position in self._altered:
            old, new = self._change_at(position)
            listed = self._listed(old, new, is_held=old.id in held or old.id in self._lagging)
            if listed != new:
                outcome.overlay.replace(position, listed)
        self._give_former_names(outcome.overlay)
        self._settle_names(outcome)
        return outcome

    def _last_seen_s(self, user_id: str) -> float:
        at_s = self._baseline.guard.last_seen_s.get(user_id, self._baseline.taken_at_s)
        return min(at_s, self._now_s)  # the clock may have been set back since

    def _listed(self, old: User, new: User, *, is_held: bool) -> User:
        """As what a user is listed whose entry says something else than before."""
        if is_held:
            return new._replace(
                user_name=old.user_name, email_addresses=(*new.email_addresses, *lost_addresses(old, new))
            )
        return new._replace(user_name=old.user_name) if self._policy.keep_user_names else new

    def _give_former_names(self, overlay: Overlay) -> None:
        """Whoever comes back is called as before, where that is wanted and nobody has the name meanwhile."""
        if not self._policy.keep_user_names:
            return
        for user_id, position in self._returned.items():
            name = self._baseline.guard.former_names.get(user_id)
            if name is not None and overlay.is_free(fold_user_name(name)):
                overlay.replace(position, self._fresh.roster[position]._replace(user_name=name))

    def _settle_names(self, outcome: _Outcome) -> None:
        """Who was renamed to somebody's name keeps the old one; who is new under it is left out."""
        reverted: set[tuple[str, RemovalKind]] = set()

        def revert(position: int) -> User | None:
            if position not in self._changed:
                return None
            old, new = self._change_at(position)
            detail = f"{new.user_name} belongs to somebody else"
            removal = Removal(
                old.id, old.user_name, RemovalKind.RENAMED, RemovalReason.NAME_TAKEN, detail, new_name=new.user_name
            )
            reverted.add(removal.key)
            outcome.held.append((removal, HeldBy.NAME))
            return self._listed(old, new, is_held=False)._replace(user_name=old.user_name)

        outcome.collisions = outcome.overlay.settle(revert)
        outcome.passed = [passed for passed in outcome.passed if passed.key not in reverted]

    def conclude(self, outcome: _Outcome, *, approved: str | None = None, expired: str | None = None) -> Review:
        """The review, with what is remembered from now on."""
        roster = outcome.overlay.build()
        accepted = self._baseline.roster
        if next(differences(accepted, roster), None) is None:
            roster = accepted
        guard = GuardState(
            withheld=self._withheld(outcome),
            last_seen_s={user_id: self._last_seen_s(user_id) for user_id in outcome.absent},
            recent=self._recent | dict.fromkeys(outcome.lost_ids - outcome.approved_ids, self._now_s),
            former_names=self._former_names(outcome),
            decided_names=frozenset(outcome.overlay.decided_names).union(self._fresh.contested),
            last_seen_at=self._last_seen_at(outcome),
        )
        return Review(
            roster=roster,
            guard=guard,
            removed=tuple(outcome.passed),
            collisions=tuple(outcome.collisions),
            inconsistent=tuple(user.user_name for user in self._inconsistent),
            lagging=tuple(user.user_name for user in self._lagging.values()),
            added_count=len(self._returned),
            changed_count=len(self._changed),
            in_grace_count=len(outcome.in_grace),
            approved=approved,
            expired=expired,
        )

    def _last_seen_at(self, outcome: _Outcome) -> dict[str, str]:
        """The witnesses of those who are answered otherwise than this listing shows them."""
        ids = {*outcome.absent, *self._lagging, *(removal.user_id for removal, _ in outcome.held)}
        witnesses = {user_id: witness_of(self._baseline, user_id) for user_id in ids}
        return {user_id: server for user_id, server in witnesses.items() if server != self._fresh.server}

    def _withheld(self, outcome: _Outcome) -> tuple[Withheld, ...]:
        since_s = self._since_s
        withheld = (
            Withheld(removal, held_by, since_s.get(removal.key, self._now_s)) for removal, held_by in outcome.held
        )
        return tuple(sorted(withheld, key=lambda held: (held.removal.user_id, held.removal.kind.value)))

    def _former_names(self, outcome: _Outcome) -> dict[str, str]:
        kept = {
            user_id: name
            for user_id, name in self._baseline.guard.former_names.items()
            if (position := self._returned.get(user_id)) is None or outcome.overlay.drops(position)
        }
        left = {removal.user_id: removal.user_name for removal in outcome.passed if removal.kind is RemovalKind.MISSING}
        return kept | left


@dataclass(slots=True)
class _Outcome:
    """What follows from a decision."""

    overlay: Overlay
    approved_ids: AbstractSet[str]
    held: list[tuple[Removal, HeldBy]] = field(default_factory=list)
    passed: list[Removal] = field(default_factory=list)
    in_grace: list[str] = field(default_factory=list)
    collisions: list[str] = field(default_factory=list)

    @property
    def absent(self) -> list[str]:
        """The ids of users who are answered although they did not come."""
        return [removal.user_id for removal, _ in self.held if removal.kind is RemovalKind.MISSING] + self.in_grace

    @property
    def lost_ids(self) -> set[str]:
        """The ids of users of whom something went."""
        return {removal.user_id for removal in self.passed}
