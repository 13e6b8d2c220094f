"""A task set: the histories of real people, and what is to be predicted of them next.

Everything is checked when a set is made, so that a study can trust it: what a user's history
holds is earlier than the first query of that user, and no truth is outside of what can be said.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from types import MappingProxyType

from persona_agent.errors import NotEnoughData
from persona_agent.eval.tasks.metrics import METRICS
from persona_agent.task import Task, is_labelled
from persona_agent.types import Interaction, Record


@dataclass(frozen=True, slots=True)
class TaskSet(Record):
    """What users did (`histories`), and what they did next (`queries`), in time order.

    `histories` maps each user to labelled interactions, all earlier than the first of that user's
    `queries`; it may be empty, where nothing is known of a user. The `outcome` of a query is the
    truth; it is one of the query's own options, else of the task's, where there are any. Queries
    stand user by user, in the order of `histories`. `instruction` says in one sentence what is
    asked. The first of `metrics` is the one that decides; each is a key of `metrics.METRICS`.

    Two interactions at the same moment have no order: neither may be history of the other.
    """

    name: str
    task: Task
    histories: Mapping[str, tuple[Interaction, ...]]
    queries: tuple[Interaction, ...]
    instruction: str
    metrics: tuple[str, ...]

    def __post_init__(self) -> None:
        histories = {user: tuple(history) for user, history in self.histories.items()}
        object.__setattr__(self, "histories", MappingProxyType(histories))
        object.__setattr__(self, "queries", tuple(self.queries))
        object.__setattr__(self, "metrics", tuple(self.metrics))
        if not self.name or not self.instruction:
            raise ValueError("a task set needs a name and an instruction; one of them is empty")
        if unknown := [one for one in self.metrics if one not in METRICS] or not self.metrics:
            raise ValueError(f"metrics are {self.metrics!r}, {unknown!r} of them unknown; "
                             f"give one or more of {', '.join(METRICS)}")  # fmt: skip
        _check_users(histories, self.queries)
        for user, history in histories.items():
            _check_history(user, history, self.task)
        _check_queries(histories, self.queries, self.task)

    @property
    def users(self) -> tuple[str, ...]:
        """The users, in order."""
        return tuple(self.histories)

    def queries_of(self, user: str) -> tuple[Interaction, ...]:
        """Return the queries of one user, in time order."""
        return tuple(one for one in self.queries if one.scope.user == user)

    def sample(
        self, *, users: int | None = None, queries_per_user: int | None = None, seed: int = 0
    ) -> TaskSet:
        """Return a smaller set: users drawn by `seed`, and the first queries of each.

        The first, so that a history goes on to where the queries begin. None leaves all; more
        than there are is all. Raises ValueError for a number below 1.
        """
        for what, number in (("users", users), ("queries_per_user", queries_per_user)):
            if number is not None and number < 1:
                raise ValueError(f"{what} is {number}; it must be at least 1, or None for all")
        names = self.users
        if users is not None and users < len(names):
            drawn = set(random.Random(seed).sample(sorted(names), users))
            names = tuple(name for name in names if name in drawn)
        by_user = _by_user(self.queries)
        return replace(
            self,
            histories={name: self.histories[name] for name in names},
            queries=tuple(one for name in names for one in by_user[name][:queries_per_user]),
        )


def cut_before(moments: Sequence[datetime], last: int) -> int:
    """Return where the last begin: as many as `last`, or fewer, so that no moment is parted."""
    cut = max(0, len(moments) - last)
    while 0 < cut < len(moments) and moments[cut - 1] == moments[cut]:
        cut += 1
    return cut


def split_by_time(
    timelines: Iterable[Sequence[Interaction]], *, last: int, least: int = 1, share: float = 1.0
) -> tuple[dict[str, tuple[Interaction, ...]], tuple[Interaction, ...]]:
    """Return histories and queries: of each timeline at most the `last`, the rest before them.

    No more than `share` of a timeline become queries, but one. A timeline is one user's labelled interactions in time order. What happened at one moment
    stays together: a cut that would part it moves later, so that there are fewer queries. Users
    with fewer than `least` interactions before the cut, or none after it, are left out.
    Raises NotEnoughData if nobody is left.
    """
    if last < 1 or least < 0 or not 0 < share <= 1:
        raise ValueError(
            f"last is {last}, least {least} and share {share}; they must be at least 1, at least 0 "
            "and in (0, 1]"
        )
    histories: dict[str, tuple[Interaction, ...]] = {}
    queries: list[Interaction] = []
    for timeline in timelines:
        most = max(1, min(last, int(share * len(timeline))))
        cut = cut_before([one.when for one in timeline], most)
        if cut < least or cut == len(timeline):
            continue
        histories[timeline[0].scope.user] = tuple(timeline[:cut])
        queries += timeline[cut:]
    if not queries:
        raise NotEnoughData(
            f"no user has {least} interactions and then one that is later; give longer histories"
        )
    return histories, tuple(queries)


def _by_user(queries: Sequence[Interaction]) -> dict[str, list[Interaction]]:
    found: dict[str, list[Interaction]] = {}
    for one in queries:
        found.setdefault(one.scope.user, []).append(one)
    return found


def _check_users(
    histories: Mapping[str, tuple[Interaction, ...]], queries: Sequence[Interaction]
) -> None:
    order = list(dict.fromkeys(one.scope.user for one in queries))
    if missing := [user for user in order if user not in histories]:
        raise ValueError(f"queries are of users without a history: {missing[:5]!r}; give () for it")
    if idle := [user for user in histories if user not in set(order)]:
        raise ValueError(f"users have no query: {idle[:5]!r}; leave them out")
    if not order:
        raise ValueError("a task set needs one query or more; there is none")
    if order != list(histories):
        raise ValueError("the queries are not in the order of the histories' users")


def _check_history(user: str, history: Sequence[Interaction], task: Task) -> None:
    for one in history:
        if one.scope.user != user:
            raise ValueError(f"the history of {user!r} holds {one.id!r} of {one.scope.user!r}")
        _check_outcome(one, task)
    _check_order(history)


def _check_queries(
    histories: Mapping[str, tuple[Interaction, ...]], queries: Sequence[Interaction], task: Task
) -> None:
    seen = Counter((one.scope.user, one.id) for one in queries)
    if twice := [key for key, number in seen.items() if number > 1]:
        raise ValueError(f"queries are there twice: {twice[:5]!r} (user, id)")
    by_user = _by_user(queries)
    if [one for asked in by_user.values() for one in asked] != list(queries):
        raise ValueError("the queries of one user do not stand together")
    for user, asked in by_user.items():
        _check_order(asked)
        for one in asked:
            _check_outcome(one, task)
        history = histories[user]
        if history and history[-1].when >= asked[0].when:
            raise ValueError(
                f"query {asked[0].id!r} of {user!r} is of {asked[0].when.isoformat()}; it must be "
                f"later than the history, which ends at {history[-1].when.isoformat()}"
            )
        if known := {one.id for one in history} & {one.id for one in asked}:
            raise ValueError(f"queries of {user!r} are in the history: {sorted(known)[:5]!r}")


def _check_order(timeline: Sequence[Interaction]) -> None:
    for one, later in pairwise(timeline):
        if later.when < one.when:
            raise ValueError(
                f"{later.id!r} of {later.scope.user!r} ({later.when.isoformat()}) stands after "
                f"{one.id!r} ({one.when.isoformat()}); put interactions in time order"
            )


def _check_outcome(one: Interaction, task: Task) -> None:
    if not is_labelled(one):
        raise ValueError(f"{one.id!r} of {one.scope.user!r} has no outcome of the user's own")
    options = one.options or task.options
    if options and one.outcome not in options:
        raise ValueError(
            f"the outcome of {one.id!r} is {one.outcome!r}; it must be one of {list(options)!r}"
        )
    if len(set(options)) != len(options):
        raise ValueError(f"the options of {one.id!r} repeat: {list(options)!r}")
