"""What models of a vector per person and per item learn from choices: BPR, or the full softmax."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from persona_agent.recommend.data import Interactions
from persona_agent.recommend.neural import dense, shuffled
from persona_agent.recommend.training import Tensor

Loss: TypeAlias = Literal["bpr", "softmax"]
ROUNDS = 20  # draws until an item is found that the person did not choose


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """The score of item i for person u is people[u] . items[i]; the `kept_short` are penalised."""

    people: Tensor
    items: Tensor
    kept_short: tuple[Tensor, Tensor]


def check(loss: str) -> None:
    """Raise ValueError unless there is such a loss."""
    if loss not in get_args(Loss):
        raise ValueError(f"loss is {loss!r}; it must be one of {', '.join(get_args(Loss))}")


def losses(
    loss: Loss,
    vectors: Callable[[], Vectors],
    data: Interactions,
    *,
    batch: int,
    l2: float,
    place: str,
) -> Iterator[Tensor]:
    """Yield the losses of one epoch over all choices; `vectors` are asked for before each step.

    "bpr": `batch` choices (u, i) a step, each with one item j that u did not choose: the mean of
    -log sigmoid(s_ui - s_uj). Source: Rendle et al. (2009).
    "softmax": `batch` people a step: the mean over their choices of -log softmax(s_u)_i over all
    items, the limit of BPR with all negatives.
    Both add l2 / 2 times the squared lengths of the vectors of u, i (and j), the mean over choices.
    """
    steps = _bpr if loss == "bpr" else _softmax
    yield from steps(vectors, data, batch, l2, place)


def _bpr(
    vectors: Callable[[], Vectors], data: Interactions, batch: int, l2: float, place: str
) -> Iterator[Tensor]:
    import torch
    import torch.nn.functional as F

    user, item = (torch.tensor(one, device=place) for one in (data.user, data.item))
    other = not_chosen(user, item, len(data.items))
    for rows in shuffled(len(data), batch):
        row = torch.from_numpy(rows).to(place)
        now = vectors()
        both = torch.cat([item[row], other[row]])
        person = F.embedding(user[row], now.people)
        chosen, not_so = F.embedding(both, now.items).chunk(2)
        margin = (person * (chosen - not_so)).sum(dim=1)
        people, items = now.kept_short
        length = (F.embedding(user[row], people) ** 2).sum() + (F.embedding(both, items) ** 2).sum()
        yield F.softplus(-margin).mean() + l2 / 2 * length / len(rows)


def _softmax(
    vectors: Callable[[], Vectors], data: Interactions, batch: int, l2: float, place: str
) -> Iterator[Tensor]:
    import torch

    histories = data.histories()
    for rows in shuffled(len(histories), batch):
        chosen = dense(histories.take(rows), place)
        row = torch.from_numpy(rows).to(place)
        now = vectors()
        log_likelihood = (chosen * (now.people[row] @ now.items.T).log_softmax(dim=1)).sum()
        people, items = now.kept_short
        length = (chosen.sum(dim=1) * (people[row] ** 2).sum(dim=1)).sum()
        length = length + (chosen.sum(dim=0) * (items**2).sum(dim=1)).sum()
        yield (l2 / 2 * length - log_likelihood) / chosen.sum().clamp(min=1)


def not_chosen(user: Tensor, item: Tensor, items: int) -> Tensor:
    """Return for each choice a random item that its person did not choose, uniformly.

    Choices come sorted by user and item. Who chose almost everything may get a chosen item: it is
    drawn at most `ROUNDS` times.
    """
    import torch

    known = user * items + item
    drawn = torch.randint(items, user.shape).to(user.device)
    for _ in range(ROUNDS):
        pair = user * items + drawn
        place = torch.searchsorted(known, pair).clamp(max=len(known) - 1)
        wrong = known[place] == pair
        if not bool(wrong.any()):
            break
        drawn[wrong] = torch.randint(items, (int(wrong.sum()),)).to(user.device)
    return drawn
