"""Reading the store: interactions, their histories and vectors, and who is in it."""

from __future__ import annotations

from persona_agent.memory.opened import OpenStore
from persona_agent.memory.rows import Change, owner_of, to_interaction
from persona_agent.types import FloatArray, Interaction, Scope


class ReadableStore(OpenStore):
    """What can be read of the store, each call at one moment."""

    def get(self, scope: Scope, event_id: str) -> Interaction:
        """Return an interaction; raises UnknownInteraction if there is none of this id."""
        with self.snapshot() as snapshot:
            return to_interaction(snapshot.row(scope, event_id))

    def get_all(
        self, scope: Scope, *, limit: int | None = None, offset: int = 0, before: str | None = None
    ) -> list[Interaction]:
        """Return the interactions of a scope, oldest first; equal times in the order of adding.

        `before` is an id: only what is strictly earlier is returned. An unknown user has none.
        Raises UnknownInteraction if `before` is not an interaction of the user.
        """
        _check_count(limit, "limit")
        _check_count(offset, "offset")
        with self.snapshot() as snapshot:
            return snapshot.find(scope, before=before, limit=limit, offset=offset)

    def recent(self, scope: Scope, k: int, *, before: str | None = None) -> list[Interaction]:
        """Return the `k` latest interactions of a scope, oldest first; see `get_all`."""
        _check_count(k, "k")
        with self.snapshot() as snapshot:
            if before is None and scope == scope.owner:
                return snapshot.latest(owner_of(scope), k)
            return snapshot.find(scope, before=before, limit=k, newest_first=True)[::-1]

    def labelled(self, scope: Scope) -> list[Interaction]:
        """Return the user's own turns with a known outcome, oldest first."""
        with self.snapshot() as snapshot:
            return snapshot.find(scope, labelled=True)

    def history(self, scope: Scope, event_id: str) -> list[Change]:
        """Return what was done to an interaction, oldest first; raises UnknownInteraction."""
        with self.snapshot() as snapshot:
            return snapshot.history(scope, event_id)

    def vectors(self, scope: Scope, embedder: str) -> tuple[list[str], FloatArray]:
        """Return the ids and vectors, of shape (n, dim), of all of a user's interactions.

        In time order. Interactions without a vector of this embedder are left out.
        """
        owner = owner_of(scope)
        with self.snapshot() as snapshot:
            order = {place.id: rank for rank, place in enumerate(snapshot.order(owner))}
            ids, array = snapshot.vectors(owner, embedder)
        by_rank = sorted(range(len(ids)), key=lambda i: order[ids[i]])
        return [ids[i] for i in by_rank], array[by_rank]

    def users(self, tenant: str = "default") -> list[str]:
        """Return the users of a tenant of whom anything is stored, sorted."""
        with self.snapshot() as snapshot:
            return snapshot.users(tenant)

    def count(self, scope: Scope) -> int:
        """Return how many interactions a scope has; 0 for an unknown user."""
        with self.snapshot() as snapshot:
            return snapshot.count(scope)

    def epoch(self, scope: Scope) -> int | None:
        """Return a number that changes when a user is forgotten; None if nothing is stored.

        Slow work takes it before it reads, and gives it back with what it writes.
        """
        with self.snapshot() as snapshot:
            head = snapshot.heads([owner_of(scope)]).get(owner_of(scope))
        return head.epoch if head else None


def _check_count(value: int | None, what: str) -> None:
    if value is not None and value < 0:
        raise ValueError(f"{what} is {value}; it must be 0 or more")
