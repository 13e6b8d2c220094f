"""Does starting from memory shorten the next conversation? Simulated people of MovieLens-100K.

Each person whom the recommender was not fitted on wants one film they liked, then, in a second
conversation, the next one they liked. They answer truthfully and accept a list that holds the
film. The second conversation starts cold, from what the first taught, from the films rated before,
or from both. A person who wants one given film is not a person with a mood; see docs/chat.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from persona_agent.chat.deciding import Policy, belief, decide
from persona_agent.chat.domain import Domain
from persona_agent.chat.state import ChatState, Opinion, asking, heard, showing
from persona_agent.errors import InputError
from persona_agent.eval.chat.domains import film_domain
from persona_agent.eval.datasets import DataSet, movielens_100k
from persona_agent.eval.statistics import Contrast, Interval, clustered_mean, contrast, with_holm
from persona_agent.recommend.data import Interactions
from persona_agent.types import Record

MOST_TURNS = 15
LEAST_LIKED = 5
COLD = "cold"


@dataclass(frozen=True, slots=True)
class Settings(Record):
    """How many people, which, and how the conversation is led."""

    users: int = 200
    seed: int = 0
    policy: Policy = Policy()


@dataclass(frozen=True, slots=True)
class Arm(Record):
    """One way to start: turns until the film was found (15 if it was not), and how often it was."""

    turns: Interval
    found: Interval
    saved: Contrast | None


@dataclass(frozen=True, slots=True)
class Report(Record):
    """The second conversation by the way it starts; `saved` is turns against a cold start."""

    settings: Settings
    users: int
    arms: Mapping[str, Arm]


@dataclass(frozen=True, slots=True)
class Person(Record):
    """Somebody to be simulated: films liked before, the first wanted, and the next."""

    user: str
    liked: tuple[str, ...]
    first: str
    second: str


def measure(settings: Settings, tell: Callable[[str, int, int], None]) -> Report:
    """Return what each way to start needs, over people the recommender has not seen."""
    data = movielens_100k()
    drawn, rest = draw(data, settings.users, settings.seed)
    domain = film_domain(replace(data, interactions=rest))
    people = [one for one in drawn if len(domain.known([one.first, one.second])) == 2]
    turns: dict[str, list[float]] = {}
    found: dict[str, list[float]] = {}
    for number, person in enumerate(people):
        tell("conversations", number, len(people))
        learned = converse(domain, person.first, (), ChatState(domain.name, "1"), settings.policy)
        told = tuple(replace(one, turn=0) for one in learned.opinions if one.target == "attribute")
        starts: dict[str, tuple[tuple[Opinion, ...], tuple[str, ...]]] = {
            COLD: ((), ()),
            "answers of the first": (told, ()),
            "answers and film of the first": (told, (person.first,)),
            "films liked before": ((), (*person.liked, person.first)),
            "films and answers": (told, (*person.liked, person.first)),
        }
        for name, (opinions, liked) in starts.items():
            state = ChatState(domain.name, "2", opinions=opinions)
            ended = converse(domain, person.second, liked, state, settings.policy)
            turns.setdefault(name, []).append(float(ended.turn))
            found.setdefault(name, []).append(float(ended.outcome == "accepted"))
    tell("conversations", len(people), len(people))
    saved = with_holm(
        {
            name: contrast(np.array(turns[COLD]) - np.array(used))
            for name, used in turns.items()
            if name != COLD
        }
    )
    arms = {
        name: Arm(_mean(used), _mean(found[name]), saved.get(name)) for name, used in turns.items()
    }
    return Report(settings, len(people), arms)


def converse(
    domain: Domain, wanted: str, liked: Sequence[str], state: ChatState, policy: Policy
) -> ChatState:
    """Return the state in which a conversation with somebody who wants one film ends.

    `turn` counts questions and lists, at most 15; one that does not find the film has all of them.
    """
    prior = domain.prior(liked)
    prior[domain.table.items.positions(domain.known(liked))] = 0
    own = set(domain.attributes_of(wanted))
    while state.turn < MOST_TURNS:
        state = replace(state, turn=state.turn + 1)
        step = decide(domain, state, belief(domain, state, prior, policy), policy)
        if step.step == "ask":
            meaning = "yes" if step.ids[0] in own else "no"
            answer = Opinion("attribute", step.ids[0], meaning, state.turn)  # type: ignore[arg-type]
            state = heard(asking(state, step.ids[0]), [answer])
        elif wanted in step.ids:
            return replace(
                showing(state, step.ids), awaits="nothing", pending=(), outcome="accepted",
                accepted=wanted,
            )  # fmt: skip
        elif step.step == "show":
            state = showing(state, step.ids)
        else:
            break
    return replace(state, turn=MOST_TURNS)


def draw(data: DataSet, users: int, seed: int) -> tuple[list[Person], Interactions]:
    """Return people to simulate, and the interactions of all others."""
    liked = data.liked()
    rng = np.random.default_rng(seed)
    if liked.times is None:
        raise InputError(f"{data.name} has no times; which film came next is not known")
    films: dict[int, list[tuple[int, int]]] = {}
    rows = zip(liked.user.tolist(), liked.item.tolist(), liked.times.tolist(), strict=True)
    for user, item, when in rows:
        films.setdefault(user, []).append((when, item))
    able = sorted(user for user, own in films.items() if len(own) >= LEAST_LIKED)
    chosen = sorted(rng.choice(able, min(users, len(able)), replace=False).tolist())
    people = []
    for user in chosen:
        own = [liked.items.ids[item] for _, item in sorted(films[user])]
        people.append(Person(liked.users.ids[user], tuple(own[:-2]), own[-2], own[-1]))
    names = {one.user for one in people}
    kept = np.array([one not in names for one in data.interactions.users])
    return people, data.interactions.take(kept[data.interactions.user]).compact()


def _mean(values: Sequence[float]) -> Interval:
    return clustered_mean({str(at): [one] for at, one in enumerate(values)})
