"""The law of all loaders: nothing that a history holds is later than, or at, the query's moment."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from persona_agent.errors import NotEnoughData
from persona_agent.eval.movielens import Film
from persona_agent.eval.tasks import films
from persona_agent.eval.tasks.cmv import cmv
from persona_agent.eval.tasks.film_logs import FilmLog, ml_small_ratings
from persona_agent.eval.tasks.lamp import KINDS, lamp
from persona_agent.eval.tasks.negatives import Negatives
from persona_agent.eval.tasks.prefeval import prefeval_choice
from persona_agent.eval.tasks.rows import rows
from persona_agent.eval.tasks.task_set import TaskSet

Make = Callable[[SimpleNamespace, Path, random.Random], TaskSet]
USERS, EVENTS = 4, 30


def rated(files: SimpleNamespace, folder: Path, rng: random.Random) -> Path:
    """Write ratings at few and often equal moments, in a random order of lines."""
    lines = [
        (user, film, rng.choice([1.0, 3.5, 5.0]), rng.randrange(10**6, 10**6 + 60))
        for user in range(1, USERS + 1)
        for film in rng.sample(range(40), EVENTS)
    ]
    rng.shuffle(lines)
    return Path(files.films(folder, lines))


def log(
    files: SimpleNamespace, folder: Path, rng: random.Random, *, whole: bool = False
) -> FilmLog:
    found = ml_small_ratings(rated(files, folder, rng))
    if not whole:
        return found
    events = {
        user: tuple(replace(one, outcome=one.outcome[0]) for one in own)
        for user, own in found.events.items()
    }
    return replace(found, events=events)


def own_logs(files: SimpleNamespace, folder: Path, rng: random.Random) -> TaskSet:
    path = folder / "logs.jsonl"
    path.write_text(
        "".join(
            json.dumps(
                {
                    "user": rng.choice("ab"),
                    "when": rng.randrange(10**9, 10**9 + 9),
                    "query": f"q{n}",
                    "outcome": rng.choice(["yes", "no"]),
                }
            )
            + "\n"
            for n in range(30)
        )
    )
    return rows(path)


def of_lamp(name: str) -> Make:
    def make(files: SimpleNamespace, folder: Path, rng: random.Random) -> TaskSet:
        dates = [f"{rng.randrange(2009, 2012)}-{rng.randrange(1, 3)}" for _ in range(6)]
        return lamp(name, files.lamp(folder, name, dates))

    return make


def of_cmv(files: SimpleNamespace, folder: Path, rng: random.Random) -> TaskSet:
    def posts(first: int) -> list[object]:
        replies = [files.reply("x", "yes", True), files.reply("y", "no")]
        return [
            files.post(f"{first}-{n}", rng.choice("ab"), rng.randrange(first, first + 50), replies)
            for n in range(8)
        ]

    return cmv(files.cmv(folder, posts(100), posts(120)))  # they overlap in time


MAKES: dict[str, Make] = {
    "ml-rating": lambda f, p, r: films.ml_rating(log(f, p, r, whole=True)),
    "ml-best-of": lambda f, p, r: films.ml_best_of(log(f, p, r)),
    "ml-genre": lambda f, p, r: films.ml_genre(log(f, p, r)),
    "ml-small-rating": lambda f, p, r: films.ml_small_rating(rated(f, p, r)),
    "ml-small-tag": lambda f, p, r: films.ml_small_tag(rated(f, p, r)),
    "prefeval-choice": lambda f, p, r: prefeval_choice(f.prefeval(p)),
    "rows": own_logs,
    "cmv": of_cmv,
    **{f"lamp-{name}": of_lamp(name) for name in KINDS},
}


@pytest.mark.parametrize("name", MAKES)
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 10**6))
def test_no_history_reaches_the_moment_of_its_queries(
    name: str, seed: int, files: SimpleNamespace, tmp_path: Path
) -> None:
    try:
        found = MAKES[name](files, tmp_path, random.Random(seed))
    except NotEnoughData:
        return  # all of a user's events at one moment: no before and after
    for query in found.queries:
        history = found.histories[query.scope.user]
        assert all(one.when < query.when for one in history)
        assert query.id not in {one.id for one in history}
        assert (query.scope.user, query.item) not in {
            (one.scope.user, one.item) for one in history if one.item and name != "ml-small-tag"
        }
        assert query.outcome in (query.options or found.task.options or (query.outcome,))


def test_the_next_genre_is_asked_with_earlier_films_alone(
    files: SimpleNamespace, tmp_path: Path
) -> None:
    events = log(files, tmp_path, random.Random(3))
    found = films.ml_genre(events)
    when = {
        (user, events.films[one.film].name): one.when
        for user, own in events.events.items()
        for one in own
    }
    for one in [*found.queries, *(h for own in found.histories.values() for h in own)]:
        names = [part.rsplit(":", 1)[0] for part in one.query.split("; ")]
        assert 1 <= len(names) <= 3
        assert all(when[one.scope.user, name] < one.when for name in names)
        assert "genres" not in one.metadata


def test_of_several_genres_the_rarest_counts() -> None:
    named = {n: Film(n, n, "1990", kinds) for n, kinds in (("a", ("X",)), ("b", ("X", "Y")))}
    assert FilmLog(named, {}).genres() == ("X", "Y")


# --- wrong answers --------------------------------------------------------------------------


def test_wrong_answers_are_of_the_block_of_the_right_one() -> None:
    counts = {f"{n:02}": 100 - n for n in range(25)}
    drawn = Negatives(counts, random.Random(0), block=10)
    for right in counts:
        begin = int(right) // 10 * 10  # blocks of 10, 10 and 5: half a block stands alone
        wrong = drawn.draw(right, 3, {"01"}, random.Random(1))
        assert wrong is not None
        assert right not in wrong
        assert "01" not in wrong
        assert all(begin <= int(one) < begin + 10 for one in wrong)
    assert drawn.draw("00", 10, (), random.Random(1)) is None
    with pytest.raises(ValueError, match="block is 1; it must be at least 2"):
        Negatives(counts, random.Random(0), block=1)


def test_popularity_does_not_tell_the_right_answer() -> None:
    counts = {str(n): 1000 - n for n in range(240)}
    drawn = Negatives(counts, random.Random(0))
    places = []
    for seed in range(10):
        for right, count in counts.items():
            wrong = drawn.draw(right, 3, (), random.Random(f"{seed}/{right}"))
            assert wrong is not None
            places.append(sum(counts[one] > count for one in wrong))
    assert all(0.2 < places.count(place) / len(places) < 0.3 for place in range(4))
