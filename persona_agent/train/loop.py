"""Training one adapter: fresh weights, a fresh optimiser, and a plain loop that can be resumed.

Whatever was trained before leaves no trace: the same rows, options and base give the same bytes,
first or last, alone or among a thousand. (OPPU's released code collects the training data of all
users so far, so that the adapter of each is trained on everybody before it.)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from persona_agent.errors import Diverged
from persona_agent.train import losses
from persona_agent.train.base import MOST_TOKENS, Base, Weights, together
from persona_agent.train.encode import Fork, Pair, Preference, Row
from persona_agent.train.options import TrainOptions, rate_at

if TYPE_CHECKING:
    from torch import Tensor

CLIP = 1.0  # the norm to which gradients are cut
SAVE_S = 30.0  # seconds between two saved states

Material: TypeAlias = Sequence[Row] | Sequence[Preference]


@dataclass(frozen=True, slots=True)
class Trained:
    """An adapter's weights by peft's names, and how training went.

    `losses` has one number an update; `learned` counts the interactions seen, over all epochs.
    """

    weights: Weights
    losses: tuple[float, ...]
    learned: int
    seconds: float


@dataclass(frozen=True, slots=True)
class State:
    """Training half way, after `step` updates: enough to go on as if it had not stopped."""

    step: int
    losses: tuple[float, ...]
    tensors: Weights


def train(
    base: Base,
    material: Material,
    options: TrainOptions,
    *,
    start: Weights | None = None,
    resume: State | None = None,
    save: Callable[[State], None] | None = None,
    save_s: float = SAVE_S,
    tell: Callable[[int, int], None] = lambda step, steps: None,
    probe: Callable[[int, int, Any], None] | None = None,
) -> Trained:
    """Return an adapter trained on rows, or for a preference method on forks or pairs.

    `start` are weights to begin with, such as a cohort's. `save` is given the state about every
    `save_s` seconds, and `resume` takes one up. `tell` hears the updates done and due; `probe` is
    given the model, too, as it answers then. Raises Diverged if the loss is not finite.
    """
    import torch

    begun = saved = time.monotonic()
    plan = plan_of([one.count for one in material], options)
    done: list[float] = list(resume.losses) if resume else []
    first = resume.step if resume else 0
    with base.adapted(options, start) as model, torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        named = {name: one for name, one in model.named_parameters() if one.requires_grad}
        update = torch.optim.AdamW(named.values(), lr=0.0, weight_decay=options.decay)
        before = _before(base, model, material, options)
        if resume is not None:
            _restore(resume, named, update)
        model.train()
        for step in range(first, len(plan)):
            for group in update.param_groups:
                group["lr"] = rate_at(step, len(plan), options)
            total = 0.0
            for loss in _losses(base, model, material, plan[step], before, options):
                loss.backward()
                total += float(loss.detach())
            if not math.isfinite(total):
                raise Diverged(
                    f"the loss is {total} at update {step + 1} of {len(plan)}; lower the rate "
                    f"({options.used_rate:g})"
                )
            torch.nn.utils.clip_grad_norm_(named.values(), CLIP)
            update.step()
            update.zero_grad(set_to_none=True)
            done.append(total)
            tell(step + 1, len(plan))
            if probe is not None:
                model.eval()
                probe(step + 1, len(plan), model)
                model.train()
            if save is not None and step + 1 < len(plan) and time.monotonic() - saved >= save_s:
                save(_state(step + 1, done, named, update))
                saved = time.monotonic()
        weights = _weights(model)
    learned = sum(material[place].count for rows in plan[first:] for place in rows)
    return Trained(weights, tuple(done), learned, time.monotonic() - begun)


def plan_of(counts: Sequence[int], options: TrainOptions) -> list[list[int]]:
    """Return the rows of each update, all epochs: shuffled by the seed, about `batch` a time.

    >>> [len(rows) for rows in plan_of([8, 8, 8], TrainOptions(epochs=1, batch=16))]
    [2, 1]
    """
    rng = np.random.default_rng(options.seed)
    plan: list[list[int]] = []
    for _ in range(options.epochs):
        seen = options.batch
        for place in rng.permutation(len(counts)).tolist():
            if seen >= options.batch:
                plan.append([])
                seen = 0
            plan[-1].append(place)
            seen += counts[place]
    return plan


def _losses(
    base: Base,
    model: Any,  # Any: of peft
    material: Material,
    places: Sequence[int],
    before: Sequence[Tensor],
    options: TrainOptions,
) -> Iterator[Tensor]:
    """Give the parts of an update's loss, one for each batch that is read at once."""
    import torch

    if not options.is_preference:
        rows: list[Row] = [material[place] for place in places]  # type: ignore[misc]  # all rows
        due = sum(len(row.learned) for row in rows)
        for batch in together(rows, MOST_TOKENS[base.place]):
            yield -base.logprobs(model, [rows[i] for i in batch]).sum() / due
        return
    due = sum(material[place].count for place in places)
    for some in _batches(base, material, places):
        sums, counts = _sums(base, model, material, some)
        if options.method == "simpo":
            chosen, rejected = sums / counts
            found = losses.simpo(chosen, rejected, options.used_beta, options.gamma)
        else:
            first = torch.cat([before[i] for i in some], dim=1)
            found = losses.dpo(sums[0], sums[1], first[0], first[1], options.used_beta)
        yield found * sums.shape[1] / due


def _before(
    base: Base,
    model: Any,  # Any: of peft
    material: Material,
    options: TrainOptions,
) -> list[Tensor]:
    """Return for each preference (2, outcomes): chosen and rejected before training.

    They are what DPO refers to; nothing for other methods.
    """
    import torch

    if options.method != "dpo":
        return []
    found: list[Tensor] = [torch.empty(0)] * len(material)
    model.eval()
    with torch.no_grad():
        for some in _batches(base, material, range(len(material))):
            sums, _ = _sums(base, model, material, some)
            parts = sums.split([material[i].count for i in some], dim=1)
            for place, part in zip(some, parts, strict=True):
                found[place] = part
    return found


def _batches(base: Base, material: Material, places: Sequence[int]) -> Iterator[list[int]]:
    """Give the places of preferences that are read at once: forks, or pairs."""
    most = MOST_TOKENS[base.place]
    forks = {place: one.row for place in places if isinstance(one := material[place], Fork)}
    pairs = {place: _longer(one) for place in places if isinstance(one := material[place], Pair)}
    for rows, tokens in ((forks, most), (pairs, most // 2)):
        there = list(rows)
        for batch in together(list(rows.values()), tokens):
            yield [there[i] for i in batch]


def _sums(
    base: Base, model: Any, material: Material, places: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Return (2, n) sums of log-probabilities of chosen and rejected, and how many tokens.

    All are forks, or all are pairs; n counts outcomes: one at each place of a fork, one of each
    pair. Any: of peft.
    """
    import torch

    some = [material[place] for place in places]
    forks = [one for one in some if isinstance(one, Fork)]
    if forks:
        said = base.logits(model, [one.row for one in forks]).log_softmax(-1)
        named = [
            [one.row.tokens[place] for one in forks for place in one.row.learned],
            [token for one in forks for token in one.others],
        ]
        sums = said.gather(1, torch.tensor(named, device=said.device).T).T
        return sums, torch.ones_like(sums)
    pairs = [one for one in some if isinstance(one, Pair)]
    rows = [one.chosen for one in pairs] + [one.rejected for one in pairs]
    logprobs = base.logprobs(model, rows)
    counts = torch.tensor([len(row.learned) for row in rows], device=logprobs.device)
    whose = torch.repeat_interleave(torch.arange(len(rows), device=logprobs.device), counts)
    sums = torch.zeros(len(rows), device=logprobs.device).index_add(0, whose, logprobs)
    return sums.view(2, -1), counts.view(2, -1)


def _longer(pair: Pair) -> Row:
    return max(pair.chosen, pair.rejected, key=lambda row: len(row.tokens))


def _weights(model: Any) -> Weights:
    """Return the adapter's weights by peft's names, on their own. Any: of peft."""
    from peft import get_peft_model_state_dict

    found = get_peft_model_state_dict(model)
    return {name: found[name].detach().float().cpu().clone() for name in sorted(found)}


def _state(
    step: int, done: Sequence[float], named: dict[str, Any], update: Any
) -> State:  # Any: of torch
    import torch

    tensors: dict[str, Tensor] = {"random": torch.get_rng_state()}
    for name, one in named.items():
        tensors[f"weight {name}"] = one.detach().cpu().clone()
        for moment in ("exp_avg", "exp_avg_sq"):
            tensors[f"{moment} {name}"] = update.state[one][moment].cpu().clone()
    return State(step, tuple(done), tensors)


def _restore(state: State, named: dict[str, Any], update: Any) -> None:
    import torch

    for name, one in named.items():
        one.data.copy_(state.tensors[f"weight {name}"])
        update.state[one] = {
            "step": torch.tensor(float(state.step)),
            **{
                moment: state.tensors[f"{moment} {name}"].to(one.device)
                for moment in ("exp_avg", "exp_avg_sq")
            },
        }
    torch.set_rng_state(state.tensors["random"])
