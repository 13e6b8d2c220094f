"""Tasks of films: MovieLens-100K and MovieLens latest-small, in the order they were rated."""

from __future__ import annotations

from persona_agent import prompts
from persona_agent.eval import movielens
from persona_agent.eval.movielens import RATING
from persona_agent.eval.tasks.task_set import TaskSet, split_by_time

NEXT = 8
LEAST = 12
RATING_METRICS = ("expected_mae", "mae", "rmse", "accuracy")


def ml_rating(data: movielens.MovieLens | None = None) -> TaskSet:
    """Return the rating of each user's last films (MovieLens-100K), at most 8 a user.

    Histories hold 12 ratings or more. Without `data` the installed copy is read.
    """
    found = movielens.load() if data is None else data
    histories, queries = split_by_time(
        (
            [movielens.interaction(found, rating) for rating in ratings]
            for ratings in found.ratings.values()
        ),
        last=NEXT,
        least=LEAST,
    )
    return TaskSet(
        "ml-rating",
        RATING,
        histories,
        queries,
        prompts.text(
            "tasks", "rating", low=RATING.options[0], high=RATING.options[-1], thing="film"
        ),
        RATING_METRICS,
    )
