"""AMP-CF: several personas a person, of which those that like an item decide about it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from persona_agent.recommend.data import Histories, HistoryLike, Interactions, as_histories
from persona_agent.recommend.explain import Explanation
from persona_agent.recommend.fold_in import curvature, descend, gather
from persona_agent.recommend.graph import Graph
from persona_agent.recommend.ids import IntArray
from persona_agent.recommend.negatives import candidates
from persona_agent.recommend.neural import Neural, dense, shuffled
from persona_agent.recommend.persona_scores import (
    SCORINGS,
    Scoring,
    attention_entropy,
    score_personas,
    start_scoring,
)
from persona_agent.recommend.personas import explain_by_persona
from persona_agent.recommend.splits import Holdout
from persona_agent.recommend.training import Epoch, Parameters, Tensor, snapshot
from persona_agent.types import FloatArray

CAUTION = 3.0  # steps of folding in are so much shorter than the curvature at popularity says
DAMPING = 1e-3
CELLS = 2**22  # people x personas x items at once: larger ones leave the caches


@dataclass(kw_only=True)
class AMPCF(Neural):
    """Attentive multi-persona collaborative filtering: `personas` vectors of `width` a person.

    Score of an item v: sum_k a_k u_k . v, where attention a says how much persona k decides about
    v (`scoring`, see `score_personas`). Each training user has free vectors. They serve whoever
    has exactly the history of that user; for all others, vectors are fitted by the same loss in
    `fold_in_steps` steps, items frozen. A `fit` without `valid` does not learn a tenth of each
    history: then vectors are fitted in the same way, once, to all histories as they were given.

    `loss` is "full": all items compete for each chosen one, `batch` is people; or "sampled", as in
    the authors' code: `negatives` random items do, `batch` is interactions, with a fold-in by the
    full loss. For each chosen item come `confident` times the entropy of the attention to it, less
    `undecided` times that to the others; to the sum over all choices, `l2` / 2 times the squared
    length of all vectors. With `keep_people` false no vectors of people are kept or saved; else
    each stands under a hash of its history and one of its user's id.
    Source: Barkan et al. (2020, 2023); docs/recommend.md says where this differs.
    """

    epochs: int = 400
    learning_rate: float = 1e-2
    personas: int = 4
    width: int = 64
    scoring: Scoring = "2023"
    loss: Literal["full", "sampled"] = "full"
    negatives: int = 4
    confident: float = 0.0
    undecided: float = 0.0
    l2: float = 8.0
    spread: float = 0.1
    temperature: float = 1.0
    learn_temperature: bool = True
    keep_people: bool = True
    fold_in_steps: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("personas", "width", "negatives", "spread", "temperature", "fold_in_steps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        for name in ("confident", "undecided", "l2"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")
        if self.scoring not in SCORINGS:
            raise ValueError(f"scoring is {self.scoring!r}; use one of {', '.join(SCORINGS)}")
        if self.loss not in ("full", "sampled"):
            raise ValueError(f"loss is {self.loss!r}; use full or sampled")

    def start(self, data: Interactions, graph: Graph | None) -> Parameters:
        import torch

        people, items = len(data.users), len(data.items)
        learned = {
            "people": self.spread * torch.randn(people, self.personas, self.width),
            "items": self.spread * torch.randn(items, self.width),
            **start_scoring(self.scoring, items, self.width, self.temperature),
        }
        prints = fingerprints(data.histories())
        rows = np.argsort(prints, kind="stable")
        given = {
            "prints": torch.from_numpy(prints[rows]),
            "owners": torch.from_numpy(owners(data.users.ids)[rows]),
            "rows": torch.from_numpy(rows),
            "popularity": torch.from_numpy(np.bincount(data.item, minlength=items) + 1.0),
        }
        fixed = () if self.learn_temperature else ("log_temperature",)
        return {
            **{
                name: one.to(self.place).requires_grad_(name not in fixed)
                for name, one in learned.items()
            },
            **{name: one.to(self.place) for name, one in given.items()},
        }

    def fit(
        self,
        interactions: Interactions,
        graph: Graph | None = None,
        *,
        valid: Holdout | None = None,
        on_epoch: Callable[[Epoch], None] | None = None,
    ) -> Self:
        """Learn, and know each person by the whole history that was given; see `Neural.fit`."""
        super().fit(interactions, graph, valid=valid, on_epoch=on_epoch)
        if valid is None and self.keep_people:
            self._know(interactions)
        return self

    def losses(self, parameters: Parameters, data: Interactions, epoch: int) -> Iterator[Tensor]:
        if self.loss == "full":
            yield from self._full(parameters, data)
        else:
            yield from self._sampled(parameters, data)

    def misfit(self, arrays: Parameters, personas: Tensor, chosen: Tensor) -> Tensor:
        """Return (people,): the full loss of persona vectors, given what each has chosen."""
        found = score_personas(arrays, personas)
        loss = -(chosen * found.scores.log_softmax(dim=1)).sum(dim=1)
        if self.confident or self.undecided:
            unsure, count = attention_entropy(found.attention), chosen.sum(dim=1)
            on_chosen, on_others = (chosen * unsure).sum(dim=1), ((1 - chosen) * unsure).sum(dim=1)
            others = (chosen.shape[1] - count).clamp(min=1)
            loss = loss + self.confident * on_chosen - self.undecided * count * on_others / others
        return loss + 0.5 * self.l2 * personas.square().sum(dim=(1, 2))

    def slope(self, arrays: Parameters, personas: Tensor, chosen: Tensor) -> Tensor:
        """Return the gradient of the sum of `misfit` in persona vectors."""
        import torch

        if self.scoring == "2020" or self.confident or self.undecided:
            with torch.enable_grad():
                free = personas.detach().requires_grad_()
                (found,) = torch.autograd.grad(self.misfit(arrays, free, chosen).sum(), free)
            return found
        # by hand, which takes a third of the time for one person
        found = score_personas(arrays, personas)
        surplus = chosen.sum(dim=1, keepdim=True) * found.scores.softmax(dim=1) - chosen
        by_each = (found.each - found.scores[:, None] + 1) * found.attention * surplus[:, None]
        return by_each @ arrays["items"] + self.l2 * personas

    def _full(self, parameters: Parameters, data: Interactions) -> Iterator[Tensor]:
        import torch

        people = data.histories()
        for rows in shuffled(len(people), self.batch):
            personas = parameters["people"][torch.from_numpy(rows).to(self.place)]
            chosen = dense(people.take(rows), self.place)
            decay = 0.5 * self.l2 * parameters["items"].square().sum() / len(people)
            yield self.misfit(parameters, personas, chosen).mean() + decay

    def _sampled(self, parameters: Parameters, data: Interactions) -> Iterator[Tensor]:
        import torch

        counts = torch.from_numpy(np.bincount(data.user)).to(self.place)
        for rows, columns in candidates(data, self.batch, self.negatives, self.place):
            users = torch.from_numpy(rows).to(self.place)
            personas = parameters["people"][users]
            found = score_personas(parameters, personas, columns)
            loss = -found.scores.log_softmax(dim=1)[:, 0].mean()
            if self.confident or self.undecided:
                unsure = attention_entropy(found.attention)
                loss = loss + self.confident * unsure[:, 0].mean()
                loss = loss - self.undecided * unsure[:, 1:].mean()
            squares = (personas.square().sum(dim=(1, 2)) / counts[users]).mean()
            squares = squares + parameters["items"].square().sum() / len(data)
            yield loss + 0.5 * self.l2 * squares

    def serving(self, parameters: Parameters) -> Parameters:
        arrays = snapshot(parameters)
        people, rows, popularity = (arrays.pop(name) for name in ("people", "rows", "popularity"))
        arrays.update(curvature(arrays["items"], popularity))
        if self.keep_people:
            return {**arrays, "people": people[rows]}
        return {name: one for name, one in arrays.items() if name not in ("prints", "owners")}

    def scores(self, arrays: Parameters, histories: Histories) -> Tensor:
        import torch

        return torch.cat(
            [
                score_personas(arrays, self._vectors(arrays, batch)).scores
                for batch in self._batches(histories)
            ]
        )

    def person_vectors(self, histories: HistoryLike) -> FloatArray:
        """Return the personas of each history, (people, personas, width); 0 for an empty one."""
        arrays = self._known().arrays
        people = as_histories(histories, self.items)
        found = [self._vectors(arrays, batch).cpu().numpy() for batch in self._batches(people)]
        return np.concatenate([np.zeros((0, self.personas, self.width), np.float32), *found])

    def item_vectors(self) -> FloatArray:
        """Return (items, width), in the order of `items`."""
        vectors: FloatArray = self._known().arrays["items"].cpu().numpy()
        return vectors

    def attention(self, histories: HistoryLike) -> FloatArray:
        """Return (people, personas, items), as `PersonaModel` promises."""
        arrays = self._known().arrays
        people = as_histories(histories, self.items)
        found = [
            score_personas(arrays, self._vectors(arrays, batch)).attention.cpu().numpy()
            for batch in self._batches(people)
        ]
        return np.concatenate([np.zeros((0, self.personas, len(self.items)), np.float32), *found])

    def explain(self, history: Sequence[str], item: str, *, top: int | None = 5) -> Explanation:
        """Return the responsible persona, its attention, and the own items that support it.

        The other personas follow. Without a history the reason is popularity.
        """
        if not history:
            return super().explain(history, item, top=top)
        return explain_by_persona(self, history, item, top=top)

    def _batches(self, histories: Histories) -> Iterator[Histories]:
        rows = max(1, CELLS // (self.personas * len(self.items)))
        return (
            histories.take(slice(begin, begin + rows)) for begin in range(0, len(histories), rows)
        )

    def _know(self, given: Interactions) -> None:
        """Keep the vectors of these people's histories, whatever part of them was learned."""
        import torch

        fitted, histories = self._known(), given.histories()
        prints = fingerprints(histories)
        rows = np.argsort(prints, kind="stable")
        with torch.inference_mode():
            found = [
                self._vectors(fitted.arrays, one) for one in self._batches(histories.take(rows))
            ]
            known = {
                "prints": torch.from_numpy(prints[rows]).to(self.place),
                "owners": torch.from_numpy(owners(given.users.ids)[rows]).to(self.place),
                "people": torch.cat(found),
            }
        self._fitted = dataclasses.replace(fitted, arrays={**fitted.arrays, **known})

    def _vectors(self, arrays: Parameters, histories: Histories) -> Tensor:
        """Return the persona vectors of histories, from the table or fitted."""
        import torch

        if not self.keep_people or not len(arrays["prints"]):  # none, or all were forgotten
            return self._fold_in(arrays, histories)
        prints = torch.from_numpy(fingerprints(histories)).to(self.place)
        rows = torch.searchsorted(arrays["prints"], prints).clamp(max=len(arrays["prints"]) - 1)
        strangers = torch.nonzero(arrays["prints"][rows] != prints)[:, 0]
        vectors = arrays["people"][rows]
        if len(strangers):
            vectors[strangers] = self._fold_in(arrays, histories.take(strangers.cpu().numpy()))
        return vectors

    def _fold_in(self, arrays: Parameters, histories: Histories) -> Tensor:
        """Return the vectors that the full loss likes for these histories, all else frozen."""
        import torch

        # In float64, because steps enlarge the rounding by which a batch differs from singles.
        with torch.inference_mode(False), torch.no_grad():
            exact = {name: one.double() for name, one in arrays.items() if one.is_floating_point()}
            items, basis = exact["items"], exact["basis"]
            chosen = dense(histories, self.place).double()
            steepness = chosen.sum(dim=1)[:, None, None] * exact["variance"] + self.l2 + DAMPING
            groups = gather(items, chosen, self.personas) * chosen[:, None]
            found = descend(
                lambda vectors: self.slope(exact, vectors, chosen),
                ((groups @ items @ basis) / steepness) @ basis.T,
                lambda slope: ((slope @ basis) / (CAUTION * steepness)) @ basis.T,
                self.fold_in_steps,
            )
            return found.float()


def fingerprints(histories: Histories) -> IntArray:
    """Return (people,): 64 bits that are equal for equal sets of items.

    Sums of a random number of each item. Two among a million different histories are equal with
    probability 3e-8.
    """
    numbers = np.random.default_rng(0).integers(-(2**63), 2**63, len(histories.items))
    totals = np.append(0, np.cumsum(numbers[histories.matrix.indices]))  # wraps around, as it may
    ends = histories.matrix.indptr
    found: IntArray = totals[ends[1:]] - totals[ends[:-1]]
    return found


def owners(users: Iterable[str]) -> IntArray:
    """Return (people,): 64 bits of each user's id, by which a row can be found to be forgotten."""
    hashed = [hashlib.blake2b(str(one).encode(), digest_size=8).digest() for one in users]
    return np.frombuffer(b"".join(hashed), "<i8").astype(np.int64)
