"""Does a model that knows the persona order a recommender's candidates better than it does?

MovieLens-100K; a rating of 4 or 5 is a like; of each user's likes the latest fifth is to be found.
A recommender and EASE learn from the earlier likes of all users and rank all films that the user
had not rated by then. The model sees the recommender's first candidates, the persona and the
user's latest ratings, nothing later, and reorders them. NDCG@10 of every list is by the same
full ranking: what is not among the candidates counts as missed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, median
from typing import Literal, TypeAlias

import numpy as np

from persona_agent.agent import PersonaAgent
from persona_agent.align import AlignOptions
from persona_agent.bridge.catalogue import Catalogue
from persona_agent.bridge.rerank import Candidate, Reader, Reranked, Way, fused, rerank
from persona_agent.drive import Ports, run, run_many
from persona_agent.errors import NotEnoughData
from persona_agent.eval.datasets import movielens_100k
from persona_agent.eval.movielens import RATING, MovieLens, interaction
from persona_agent.eval.orders import CUT, Lists, by_chance, in_best_order, ndcg_of
from persona_agent.eval.statistics import Contrast, contrast, with_holm
from persona_agent.llm.metered import Spent, metered
from persona_agent.llm.progress import ProgressLLM
from persona_agent.mine import mine
from persona_agent.persona import PersonaLine
from persona_agent.ports import LLM
from persona_agent.predict import Calibration, RecallPlan
from persona_agent.program import Program, salted
from persona_agent.propose import miner, start_lines
from persona_agent.recommend.data import Histories, Interactions
from persona_agent.recommend.ease import EASE
from persona_agent.recommend.knn import ItemKNN
from persona_agent.recommend.mult_vae import MultVAE
from persona_agent.recommend.port import Recommender
from persona_agent.recommend.rp3beta import RP3beta
from persona_agent.recommend.splits import Holdout, per_user
from persona_agent.types import Interaction, Record

LEAST_WANTED, LEAST_KNOWN = 3, 20
TASTES = 4
ALONE = 5  # users whose lists are also reordered one at a time, for the latency
EASE_ORDER = "EASE order"
RECOMMENDED = "recommender order"
RERANKED = "re-ranked by the model"
FUSED = "both orders fused"
CHANCE = "candidates in random order"
CEILING = "candidates in the best order"
COMPARED = (
    (RERANKED, RECOMMENDED),
    (RERANKED, EASE_ORDER),
    (FUSED, RECOMMENDED),
    (RECOMMENDED, EASE_ORDER),
)
RECOMMENDERS: Mapping[str, Callable[[], Recommender]] = {
    "item-knn": partial(ItemKNN, neighbours=100, shrinkage=10.0),
    "rp3beta": RP3beta,
    "ease": EASE,
    "mult-vae": MultVAE,
}

KnownBy: TypeAlias = Literal["mined", "aligned"]
Tell: TypeAlias = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Settings(Record):
    """Whose lists are reordered, and how.

    The persona is "mined" from the user's statistics and strongest tastes, unproven; or "aligned",
    which has passed the gate on the latest of what came before. `memories` are the latest ratings
    shown.
    """

    users: int = 40
    seed: int = 0
    recommender: str = "item-knn"
    candidates: int = 20
    memories: int = 8
    persona: KnownBy = "mined"
    calibration: Calibration = "none"
    way: Way | None = None

    def __post_init__(self) -> None:
        if self.recommender not in RECOMMENDERS:
            known = ", ".join(RECOMMENDERS)
            raise ValueError(f"there is no recommender {self.recommender!r}; there are {known}")
        if self.users < 2:
            raise ValueError(f"users is {self.users}; a comparison needs 2 or more")


@dataclass(frozen=True, slots=True)
class Report(Record):
    """NDCG@10 of every order, their paired differences over users, and what the model cost.

    `found` is the share of what was to be found that is among the candidates. `worse` is the
    share of users whose list the model made worse. `alone_ms` is the median time of one user's
    list, alone and with nothing cached. `aligning` is what the personas cost.
    """

    settings: Settings
    users: int
    ndcg: Mapping[str, float]
    contrasts: Mapping[str, Contrast]
    found: float
    worse: float
    ways: Mapping[str, int]
    failed: int
    spent: Spent
    aligning: Spent
    alone_ms: float

    @property
    def ms_per_request(self) -> float:
        """The model's milliseconds a request, all users in one batch."""
        requests = self.spent.usage.requests
        return 1000 * self.spent.seconds / requests if requests else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """The people of the study, in rows, and what models may learn from.

    `holdout` is what each liked earlier and later; `rated` are all films rated by then, which are
    never recommended; `pasts` the ratings themselves, in time order.
    """

    train: Interactions
    holdout: Holdout
    rated: Histories
    pasts: tuple[tuple[Interaction, ...], ...]
    films: Catalogue


def measure(data: MovieLens, llm: LLM, settings: Settings, tell: Tell) -> Report:
    """Return what reordering does to the lists of some users, beside what it is compared with.

    `tell` is called with what is being done, and how much of it is done and due.
    """
    world = people(data, settings)
    tell("training the recommenders", 0, 2)
    ease = _lists(EASE().fit(world.train), world, CUT)
    tell("training the recommenders", 1, 2)
    model = RECOMMENDERS[settings.recommender]().fit(world.train)
    candidates = _lists(model, world, settings.candidates)
    tell("training the recommenders", 2, 2)

    def told(stage: str) -> LLM:
        part = 8 * settings.candidates  # whole people, whose requests share a long prefix
        return ProgressLLM(llm, lambda done, due: tell(stage, done, due), part=part)

    meter = metered(told("aligning personas"))
    readers = _readers(world, meter, settings)
    aligning = meter.take()
    meter = metered(told("reordering"))
    programs = [
        _program(one, who, world, settings) for one, who in zip(candidates, readers, strict=True)
    ]
    results = [one.unwrap() for one in run_many(programs, Ports(meter))]
    spent = meter.take()
    alone = _alone_ms(candidates, readers, world, llm, settings)
    return _report(settings, world, ease, candidates, results, spent, aligning, alone)


def people(data: MovieLens, settings: Settings) -> World:
    """Return the people drawn by the seed from all with enough to know and to find.

    Raises NotEnoughData if there are fewer than are asked for.
    """
    dataset = movielens_100k()
    split = per_user(dataset.liked(), seed=0, ratios=(8, 0, 2), by="time")
    holdout, films = split.test, Catalogue(split.train.items, dataset.items, noun="film")
    wanted = np.diff(holdout.wanted.matrix.indptr)
    known = np.diff(holdout.histories.matrix.indptr)
    able = np.flatnonzero((wanted >= LEAST_WANTED) & (known >= LEAST_KNOWN))
    if len(able) < settings.users:
        raise NotEnoughData(f"{len(able)} users can take part; {settings.users} are asked for")
    rng = np.random.default_rng(settings.seed)
    rows = np.sort(rng.choice(able, settings.users, replace=False))
    chosen = Holdout(holdout.histories.take(rows), holdout.wanted.take(rows))
    names = [] if chosen.wanted.users is None else chosen.wanted.users.tolist()
    liked, later = chosen.histories.lists(), chosen.wanted.lists()
    pasts = tuple(_past(data, *one) for one in zip(names, liked, later, strict=True))
    seen = [[one.item or "" for one in past] for past in pasts]
    rated = Histories.of(seen, films.items, unknown="drop")
    return World(split.train, chosen, rated, pasts, films)


def _past(
    data: MovieLens, user: str, liked: Sequence[str], later: Sequence[str]
) -> tuple[Interaction, ...]:
    """Return a user's ratings, liked or not, up to the last like that the recommenders know."""
    ratings = data.ratings[user]
    known, sought = set(liked), set(later)
    until = max(one.when for one in ratings if one.film in known)
    return tuple(
        interaction(data, one) for one in ratings if one.when <= until and one.film not in sought
    )


def _lists(model: Recommender, world: World, k: int) -> list[list[str]]:
    return model.recommend(world.holdout.histories, k, deny=world.rated).lists()


def _readers(world: World, llm: LLM, settings: Settings) -> list[Reader]:
    latest = [past[max(0, len(past) - settings.memories) :] for past in world.pasts]
    if settings.persona == "mined":
        return [Reader(_mined(past), own) for past, own in zip(world.pasts, latest, strict=True)]
    options = AlignOptions(rounds=1, held_out=10, plan=RecallPlan(recent=settings.memories))
    with PersonaAgent.open(
        ":memory:",
        llm=llm,
        embedder="hash",
        task=RATING,
        options=options,
        proposers=(miner,),
        summarise_history=False,
    ) as agent:
        agent.add([one for past in world.pasts for one in past])
        users = [past[0].scope.user for past in world.pasts]
        for result in agent.align(users):
            result.unwrap()
        lines = [agent.persona(user).current.lines for user in users]
    return [Reader(*one) for one in zip(lines, latest, strict=True)]


def _mined(past: Sequence[Interaction]) -> tuple[PersonaLine, ...]:
    """Return the start of a persona and the strongest tastes, which no gate has seen."""
    tastes = [one.line() for one in mine(past, RATING) if one.kind == "taste"]
    return (*start_lines(past, RATING), *tastes[:TASTES])


def _program(
    candidates: Sequence[str], reader: Reader, world: World, settings: Settings
) -> Program[Reranked]:
    positions = world.films.items.positions(candidates).tolist()
    shown = [
        Candidate(one, world.films.text(at)) for one, at in zip(candidates, positions, strict=True)
    ]
    return rerank(
        shown,
        reader,
        RATING,
        len(shown),
        calibration=settings.calibration,
        way=settings.way,
        seed=settings.seed,
    )


def _alone_ms(
    candidates: Lists, readers: Sequence[Reader], world: World, llm: LLM, settings: Settings
) -> float:
    """Return the median milliseconds of a list, one user after another, each with a cold cache."""
    times = []
    for number, (one, who) in enumerate(zip(candidates[:ALONE], readers, strict=False)):
        program = salted(_program(one, who, world, settings), f"alone-{number}")
        begun = time.perf_counter()
        run(program, Ports(llm))
        times.append(time.perf_counter() - begun)
    return 1000 * median(times)


def _report(
    settings: Settings,
    world: World,
    ease: Lists,
    candidates: Lists,
    results: Sequence[Reranked],
    spent: Spent,
    aligning: Spent,
    alone_ms: float,
) -> Report:
    wanted = world.holdout.wanted
    sought = [set(one) for one in wanted.lists()]
    orders: dict[str, Lists] = {
        EASE_ORDER: ease,
        RECOMMENDED: candidates,
        RERANKED: [one.ids for one in results],
        FUSED: [fused([a, b.ids]) for a, b in zip(candidates, results, strict=True)],
        CEILING: in_best_order(candidates, wanted),
    }
    ndcg = {name: ndcg_of(lists, wanted) for name, lists in orders.items()}
    ndcg[CHANCE] = by_chance(candidates, wanted, settings.seed)
    contrasts = {f"{new} - {old}": contrast(ndcg[new] - ndcg[old]) for new, old in COMPARED}
    hits = [len(own & set(one)) / len(own) for one, own in zip(candidates, sought, strict=True)]
    ways = [one.way for one in results]
    return Report(
        settings,
        len(results),
        {name: float(values.mean()) for name, values in ndcg.items()},
        with_holm(contrasts),
        fmean(hits),
        float((ndcg[RERANKED] < ndcg[RECOMMENDED] - 1e-9).mean()),
        {way: ways.count(way) for way in sorted(set(ways))},
        sum(one.failed for one in results),
        spent,
        aligning,
        alone_ms,
    )
