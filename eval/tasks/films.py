"""Tasks of films: how it is rated, which one comes next, of which genre, and how it is tagged."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from persona_agent import prompts
from persona_agent.eval.movielens import RATING
from persona_agent.eval.tasks.film_logs import (
    STARS,
    Event,
    FilmLog,
    interaction,
    ml_100k,
    ml_small_ratings,
    ml_small_tags,
)
from persona_agent.eval.tasks.negatives import Negatives, shuffled
from persona_agent.eval.tasks.task_set import TaskSet, cut_before, split_by_time
from persona_agent.task import Task
from persona_agent.types import Interaction

NEXT, LEAST = 8, 12
TAGS_NEXT, TAGS_LEAST = 10, 3
OF_FILMS, OF_TAGS = 4, 5
LATEST = 3
RATING_METRICS = ("expected_mae", "mae", "rmse", "accuracy")
CHOICE_METRICS = ("accuracy", "mrr")


def ml_rating(log: FilmLog | None = None) -> TaskSet:
    """Return how each user rated the last films (MovieLens-100K), 1 to 5, at most 8 a user.

    Histories hold 12 ratings or more. Without `log` the installed copy is read.
    """
    return _rating("ml-rating", ml_100k() if log is None else log, RATING)


def ml_small_rating(data: Path) -> TaskSet:
    """Return how each user rated the last films (latest-small), 0.5 to 5.0; as `ml_rating`."""
    return _rating("ml-small-rating", ml_small_ratings(data), replace(RATING, options=STARS))


def ml_best_of(log: FilmLog | None = None, *, seed: int = 0) -> TaskSet:
    """Return which of 4 films each user really rated next (MovieLens-100K), at most 8 a user.

    The other three are about as popular (see `negatives`), and the user never rated them. Choices
    of the past are put in the same way.
    """
    log = ml_100k() if log is None else log
    task = Task("best-of", query_label="Films", outcome_label="Seen next", item_name="film")
    negatives = _negatives(log, lambda one: one.film, last=NEXT, seed=seed)

    def timeline(events: Sequence[Event]) -> Iterator[Interaction]:
        seen = {one.film for one in events}
        rng = random.Random(f"{seed}/{events[0].user}")
        for one in events:
            wrong = negatives.draw(one.film, OF_FILMS - 1, seen, rng)
            if wrong is None:
                continue  # the user has rated nearly all that are as popular
            options = [_name(log, film) for film in shuffled(one.film, wrong, rng)]
            if len(set(options)) < OF_FILMS:
                continue  # MovieLens holds some films twice under two ids
            yield interaction(
                log,
                one,
                "; ".join(options),
                _name(log, one.film),
                options=options,
                id=f"ml-best-of-{one.user}-{one.film}",
            )

    lines = (list(timeline(events)) for events in log.events.values())
    histories, queries = split_by_time(lines, last=NEXT, least=LEAST)
    instruction = prompts.text("tasks", "best_of", thing="films", deed="sees next")
    return TaskSet("ml-best-of", task, histories, queries, instruction, CHOICE_METRICS)


def ml_genre(log: FilmLog | None = None) -> TaskSet:
    """Return of which genre the next film is (MovieLens-100K), at most 8 a user.

    Of a film with several genres it is the one that the fewest films have: "Film-Noir" says more
    than "Drama". The query is the latest 3 films rated at an earlier moment, with their stars.
    """
    log = ml_100k() if log is None else log
    task = Task(
        "genre",
        query_label="Latest films",
        outcome_label="Genre of the next",
        options=log.genres(),
        item_name="film",
    )
    common = Counter(genre for film in log.films.values() for genre in film.genres)

    def timeline(events: Sequence[Event]) -> Iterator[Interaction]:
        earlier: list[Event] = []
        moment: list[Event] = []
        for one in events:
            if moment and moment[0].when < one.when:
                earlier, moment = [*earlier, *moment][-LATEST:], []
            moment.append(one)
            genres = log.films[one.film].genres
            if not earlier or not genres:
                continue
            latest = "; ".join(f"{_name(log, past.film)}: {past.outcome}" for past in earlier)
            rarest = min(genres, key=lambda genre: (common[genre], genre))
            yield interaction(
                log, one, latest, rarest, genres=False, id=f"ml-genre-{one.user}-{one.film}"
            )

    lines = (list(timeline(events)) for events in log.events.values())
    histories, queries = split_by_time(lines, last=NEXT, least=LEAST)
    instruction = prompts.text("tasks", "genre")
    return TaskSet("ml-genre", task, histories, queries, instruction, ("accuracy", "macro_f1"))


def ml_small_tag(data: Path, *, seed: int = 0) -> TaskSet:
    """Return which of 5 tags each user gave to a film (latest-small), at most 10 a user.

    The other four are about as common (see `negatives`), and this user did not give them to this
    film. Histories hold 3 tags or more: 58 people tag at all, and few of them much.
    """
    log = ml_small_tags(data)
    task = Task("tag", query_label="Film", outcome_label="Tag", item_name="film")
    negatives = _negatives(log, lambda one: one.outcome, last=TAGS_NEXT, seed=seed)

    def timeline(events: Sequence[Event]) -> Iterator[Interaction]:
        here: dict[str, set[str]] = {}
        for one in events:
            here.setdefault(one.film, set()).add(one.outcome)
        rng = random.Random(f"{seed}/{events[0].user}")
        for one in events:
            wrong = negatives.draw(one.outcome, OF_TAGS - 1, here[one.film], rng)
            if wrong is not None:
                yield interaction(
                    log,
                    one,
                    log.films[one.film].text,
                    one.outcome,
                    options=shuffled(one.outcome, wrong, rng),
                    id=f"ml-small-tag-{one.user}-{one.film}-{one.outcome}",
                )

    lines = (list(timeline(events)) for events in log.events.values())
    histories, queries = split_by_time(lines, last=TAGS_NEXT, least=TAGS_LEAST)
    instruction = prompts.text("tasks", "best_of", thing="tags", deed="gives to the film")
    return TaskSet("ml-small-tag", task, histories, queries, instruction, CHOICE_METRICS)


def _rating(name: str, log: FilmLog, task: Task) -> TaskSet:
    lines = (_rated(log, events) for events in log.events.values())
    histories, queries = split_by_time(lines, last=NEXT, least=LEAST)
    low, high = task.options[0], task.options[-1]
    instruction = prompts.text("tasks", "rating", low=low, high=high, thing=task.item_name)
    return TaskSet(name, task, histories, queries, instruction, RATING_METRICS)


def _rated(log: FilmLog, events: Iterable[Event]) -> list[Interaction]:
    return [
        interaction(log, one, log.films[one.film].text, one.outcome, id=f"{one.user}-{one.film}")
        for one in events
    ]


def _negatives(log: FilmLog, choice: Callable[[Event], str], *, last: int, seed: int) -> Negatives:
    """Return what draws wrong answers, by how often things were chosen before the `last`."""
    counts = {choice(one): 0 for events in log.events.values() for one in events}
    for events in log.events.values():
        for one in events[: cut_before([one.when for one in events], last)]:
            counts[choice(one)] += 1
    return Negatives(counts, random.Random(seed))


def _name(log: FilmLog, film: str) -> str:
    return log.films[film].name
