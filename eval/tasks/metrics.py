"""The metrics of task sets, as pure functions of what was predicted and what was true.

Source: the evaluation code of LaMP (Salemi et al. 2024), whose ways are kept: texts are compared
exactly after `strip`; macro-F1 is over all labels that there are, present or not; a rating that
is none is taken for the end of the scale that is farther from the truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import TypeAlias

from persona_agent.eval.tasks.rouge import rouge_1, rouge_l
from persona_agent.task import Prediction, Task
from persona_agent.types import Interaction

PerQuery: TypeAlias = Callable[[Task, Prediction, Interaction], float]
Metric: TypeAlias = Callable[[Task, Sequence[Prediction], Sequence[Interaction]], float]


def is_same(predicted: str, real: str) -> bool:
    """Whether two texts are equal but for space around them."""
    return predicted.strip() == real.strip()


def macro_f1(predicted: Sequence[str], real: Sequence[str], labels: Sequence[str]) -> float:
    """Return the mean over `labels` of each one's F1, in [0, 1].

    A label that is neither predicted nor real counts 0, and a prediction that is no label is
    wrong (LaMP: `f1_score(labels=range(n), average="macro")`, out of list becomes -1), so that a
    small sample with few of the labels scores low. Raises ValueError without labels.

    >>> macro_f1(["a", "b", "b"], ["a", "b", "a"], ["a", "b", "c"])
    0.4444444444444444
    """
    if not labels:
        raise ValueError("macro-F1 needs the labels that there are; none are given")
    pairs = [(a.strip(), b.strip()) for a, b in zip(predicted, real, strict=True)]
    scores = []
    for label in labels:
        hits = sum(a == b == label for a, b in pairs)
        claims = sum((a == label) + (b == label) for a, b in pairs)
        scores.append(2 * hits / claims if claims else 0.0)
    return fmean(scores)


def number(predicted: str, real: float, low: float, high: float) -> float:
    """Return the number that was predicted; for none, the end of the scale farther from `real`.

    What is a number but off the scale is taken as it is, as LaMP does.

    >>> number("4", 2, 1, 5), number("good", 2, 1, 5), number("good", 3, 1, 5)
    (4.0, 5.0, 5.0)
    """
    try:
        value = float(predicted)
    except ValueError:
        value = math.nan
    if math.isfinite(value):
        return value
    return low if abs(real - low) > abs(real - high) else high


def rank(prediction: Prediction, real: str) -> int:
    """Return the place of the truth among the options, from 1; of equals the worst.

    By log-probability; without them the option that was said comes first, and the truth, if it is
    another one, in the middle of the rest, rounded up: nothing is known of it. A prediction with
    an error puts it last.
    """
    options = prediction.options
    if real not in options or prediction.error is not None:
        return max(1, len(options)) if real in options else len(options) + 1
    if prediction.logprobs is None:
        return 1 if prediction.text == real else 1 + math.ceil((len(options) - 1) / 2)
    own = prediction.logprobs[options.index(real)]
    return sum(one >= own for one in prediction.logprobs)


def hit(place: int, k: int) -> float:
    """Return 1 if a place, from 1, is among the first `k`, else 0."""
    return float(place <= k)


def _accuracy(task: Task, prediction: Prediction, query: Interaction) -> float:
    return float(prediction.error is None and is_same(prediction.text, _truth(query)))


def _said_error(task: Task, prediction: Prediction, query: Interaction) -> float:
    """Return the absolute error of the number that was said."""
    values, real = _scale(task), float(_truth(query))
    said = "" if prediction.error is not None else prediction.text
    return abs(number(said, real, values[0], values[-1]) - real)


def _expected_error(task: Task, prediction: Prediction, query: Interaction) -> float:
    """Return the absolute error of the expectation; of the number said where there is none."""
    if prediction.error is not None or prediction.expected is None:
        return _said_error(task, prediction, query)
    return abs(prediction.expected - float(_truth(query)))


def _square(task: Task, prediction: Prediction, query: Interaction) -> float:
    return _said_error(task, prediction, query) ** 2


def _rouge_1(task: Task, prediction: Prediction, query: Interaction) -> float:
    return rouge_1(prediction.text, _truth(query)).f1 if prediction.error is None else 0.0


def _rouge_l(task: Task, prediction: Prediction, query: Interaction) -> float:
    return rouge_l(prediction.text, _truth(query)).f1 if prediction.error is None else 0.0


def _hit_1(task: Task, prediction: Prediction, query: Interaction) -> float:
    return hit(rank(prediction, _truth(query)), 1)


def _hit_3(task: Task, prediction: Prediction, query: Interaction) -> float:
    return hit(rank(prediction, _truth(query)), 3)


def _reciprocal(task: Task, prediction: Prediction, query: Interaction) -> float:
    return 1 / rank(prediction, _truth(query))


PER_QUERY: Mapping[str, PerQuery] = {
    "accuracy": _accuracy,
    "mae": _said_error,
    "expected_mae": _expected_error,
    "rouge_1": _rouge_1,
    "rouge_l": _rouge_l,
    "hit@1": _hit_1,
    "hit@3": _hit_3,
    "mrr": _reciprocal,
}
LOWER_IS_BETTER = frozenset({"mae", "expected_mae", "rmse"})


def _mean(value: PerQuery) -> Metric:
    def mean(
        task: Task, predictions: Sequence[Prediction], queries: Sequence[Interaction]
    ) -> float:
        return fmean(value(task, p, q) for p, q in zip(predictions, queries, strict=True))

    return mean


def _rmse(task: Task, predictions: Sequence[Prediction], queries: Sequence[Interaction]) -> float:
    return math.sqrt(_mean(_square)(task, predictions, queries))


def _macro_f1(
    task: Task, predictions: Sequence[Prediction], queries: Sequence[Interaction]
) -> float:
    said = ["" if one.error is not None else one.text for one in predictions]
    own = dict.fromkeys(option for one in queries for option in one.options)
    return macro_f1(said, [_truth(one) for one in queries], task.options or tuple(own))


METRICS: Mapping[str, Metric] = {
    **{name: _mean(value) for name, value in PER_QUERY.items()},
    "rmse": _rmse,
    "macro_f1": _macro_f1,
}


def measure(
    metric: str, task: Task, predictions: Sequence[Prediction], queries: Sequence[Interaction]
) -> float:
    """Return a metric of predictions, one for each query, whose outcomes are the truth.

    Raises ValueError for an unknown metric, for no queries, or for unequal numbers.
    """
    if metric not in METRICS:
        raise ValueError(f"there is no metric {metric!r}; there are {', '.join(METRICS)}")
    if len(predictions) != len(queries) or not queries:
        raise ValueError(
            f"there are {len(predictions)} predictions and {len(queries)} queries; "
            "give one of each or more"
        )
    return METRICS[metric](task, predictions, queries)


def per_query(
    metric: str, task: Task, predictions: Sequence[Prediction], queries: Sequence[Interaction]
) -> list[float]:
    """Return the value of each query, whose mean the metric is; for intervals and pairing.

    Raises ValueError for rmse and macro_f1, which are no means, and for unequal numbers.
    """
    if metric not in PER_QUERY:
        raise ValueError(f"{metric!r} has no value for one query; use {', '.join(PER_QUERY)}")
    value = PER_QUERY[metric]
    return [value(task, one, query) for one, query in zip(predictions, queries, strict=True)]


def _truth(query: Interaction) -> str:
    if query.outcome is None:
        raise ValueError(f"query {query.id!r} has no outcome to compare with")
    return query.outcome


def _scale(task: Task) -> tuple[float, ...]:
    if not task.numeric:
        raise ValueError(f"task {task.name!r} is not numeric; use accuracy or macro_f1")
    return task.values
