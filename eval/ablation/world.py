"""Whom an ablation is about: people, what they did and do next, and who is like whom."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from persona_agent.errors import NotEnoughData
from persona_agent.eval.tasks.task_set import TaskSet
from persona_agent.ports import Embedder
from persona_agent.task import Task
from persona_agent.types import Interaction, Record, Scope

LATEST = 32  # interactions whose mean vector stands for a person


@dataclass(frozen=True, slots=True)
class Person(Record):
    """One person: the history, and the queries that come after all of it, both in time order."""

    scope: Scope
    history: tuple[Interaction, ...]
    queries: tuple[Interaction, ...]

    @property
    def user(self) -> str:
        """The person's id."""
        return self.scope.user


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """The people of a study, and all that an arm may know.

    `alike` has each person's others, most similar first, by the cosine of the mean vectors of
    their latest interactions. `everybody` has the histories of people who are not studied, too:
    for arms that go by what others did. `adapters` names the weights tuned on each person, by the
    method of their training and the user.
    """

    task: Task
    people: Mapping[str, Person]
    everybody: Mapping[str, tuple[Interaction, ...]]
    alike: Mapping[str, tuple[str, ...]]
    seed: int = 0
    adapters: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def adapter(self, method: str, user: str) -> str:
        """Return the name of a person's adapter; raises NotEnoughData if there is none."""
        own = self.adapters.get(method, {})
        if user not in own:
            raise NotEnoughData(
                f"{user!r} has no adapter that was trained by {method!r}; train one first"
            )
        return own[user]

    def stranger(self, user: str) -> Person:
        """Return another person, drawn by the seed and the user's id."""
        others = sorted(name for name in self.people if name != user)
        return self.people[random.Random(f"{self.seed} {user}").choice(others)]

    def similar(self, user: str, share: float) -> Person:
        """Return the other person at this share of the order by similarity: 0 is the most alike."""
        others = self.alike[user]
        return self.people[others[round(share * (len(others) - 1))]]


def world_of(
    whole: TaskSet,
    sample: TaskSet,
    embedder: Embedder,
    seed: int,
    adapters: Mapping[str, Mapping[str, str]],
) -> World:
    """Return the world of the people in `sample`, a part of `whole`.

    Raises ValueError for fewer than two people.
    """
    if len(sample.users) < 2:
        raise ValueError(f"{len(sample.users)} people are studied; a comparison needs 2 or more")
    people = {
        user: Person(queries[0].scope, sample.histories[user], queries)
        for user in sample.users
        if (queries := sample.queries_of(user))
    }
    alike = _alike(list(people.values()), embedder)
    return World(whole.task, people, whole.histories, alike, seed, adapters)


def _alike(people: Sequence[Person], embedder: Embedder) -> dict[str, tuple[str, ...]]:
    texts = [[one.text for one in person.history[-LATEST:]] for person in people]
    vectors = embedder.embed([text for own in texts for text in own])
    ends = np.cumsum([len(own) for own in texts])
    means = np.stack(
        [
            rows.mean(axis=0) if len(rows) else np.zeros(embedder.dim, np.float32)
            for rows in np.split(vectors, ends[:-1])
        ]
    )
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    near = means @ means.T
    return {
        person.user: tuple(
            people[other].user
            for other in np.argsort(-near[place], kind="stable").tolist()
            if other != place
        )
        for place, person in enumerate(people)
    }
