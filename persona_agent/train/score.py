"""What a model makes of outcomes that it was not taught: in nats, over the options where there are.

One reading of a text tells all its outcomes, each after those before it: earlier ones are its
memories. Where every option is one token more, the reading tells all options, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from persona_agent.llm.scoring import split
from persona_agent.task import Task, is_labelled, situation
from persona_agent.train.base import MOST_TOKENS, Base, together
from persona_agent.train.encode import Row, encode
from persona_agent.train.examples import Example, examples
from persona_agent.train.options import TrainOptions
from persona_agent.types import Interaction

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Ask:
    """A text, the places of the outcomes to score in it, and what each could have been.

    Without options an outcome is scored as text, all its tokens.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    options: tuple[tuple[str, ...], ...]
    events: tuple[str, ...]


def asks_of(
    history: Sequence[Interaction], task: Task, count: int, options: TrainOptions
) -> list[Ask]:
    """Return what to ask about the latest `count` outcomes of a history, with what was before.

    At least half a window of memories stands before the first that is asked about.
    """
    labelled = [one for one in history if is_labelled(one)]
    tail = labelled[max(0, len(labelled) - count - options.window // 2) :]
    wanted = {one.id: one for one in labelled[max(0, len(labelled) - count) :]}
    wide = replace(options, method="tft", window=len(tail) or 1)
    asks = []
    for example in examples(tail, task, wide) if wanted else ():
        own = [place for place, event in enumerate(example.events) if event in wanted]
        if own:
            asks.append(_ask(example, own, [wanted[example.events[i]] for i in own], task))
    return asks


def _ask(example: Example, places: Sequence[int], asked: Sequence[Interaction], task: Task) -> Ask:
    return Ask(
        example.text,
        tuple(example.learned[place] for place in places),
        tuple(situation(one, task).options for one in asked),
        tuple(one.id for one in asked),
    )


def option_logprobs(
    base: Base, model: Any, asks: Sequence[Ask], max_tokens: int
) -> list[list[list[float]]]:
    """Return for each ask and outcome the log-probability of each option, summing to 1.

    Without options, the one number is that of the outcome itself. Any: the model or `adapted`.
    """
    import torch

    rows: list[Row] = []
    readers: list[list[tuple[int, list[tuple[int, ...]]]]] = []
    for ask in asks:
        readers.append([])
        quick = _one_reading(base, ask, max_tokens)
        if quick is not None:
            row, labels = quick
            readers[-1] = [(len(rows), labels)]
            rows.append(row)
            continue
        for span, given in zip(ask.spans, ask.options, strict=True):
            outcome = ask.text[slice(*span)]
            for option in given or (outcome,):
                text = ask.text[: span[0]] + option
                readers[-1].append((len(rows), []))
                rows.append(encode(base.tokenizer, text, [(span[0], len(text))], max_tokens))
    found = _read(base, model, rows)
    told: list[list[list[float]]] = []
    for ask, own in zip(asks, readers, strict=True):
        if own and own[0][1]:
            ((place, labels),) = own
            told.append(
                [
                    one[list(names)].log_softmax(0).tolist()
                    for one, names in zip(found[place], labels, strict=True)
                ]
            )
            continue
        sums, rest = [], iter(own)
        for given in ask.options:
            whole = [
                float(
                    torch.stack(
                        [
                            line.log_softmax(0)[rows[place].tokens[at]]
                            for line, at in zip(found[place], rows[place].learned, strict=True)
                        ]
                    ).sum()
                )
                for place, _ in (next(rest) for _ in given or ("",))
            ]
            sums.append(torch.tensor(whole).log_softmax(0).tolist() if given else whole)
        told.append(sums)
    return told


def mean_nats(told: Sequence[Sequence[Sequence[float]]], asks: Sequence[Ask]) -> float:
    """Return the mean negative log-probability of what came to pass."""
    losses = []
    for ask, own in zip(asks, told, strict=True):
        for span, given, logprobs in zip(ask.spans, ask.options, own, strict=True):
            outcome = ask.text[slice(*span)]
            losses.append(-logprobs[given.index(outcome) if given else 0])
    return sum(losses) / len(losses)


def _read(base: Base, model: Any, rows: Sequence[Row]) -> list[Tensor]:
    import torch

    found: list[Tensor] = [torch.empty(0)] * len(rows)
    with torch.no_grad():
        for batch in together(rows, MOST_TOKENS[base.place]):
            some = [rows[place] for place in batch]
            parts = base.logits(model, some).cpu().split([len(row.learned) for row in some])
            for place, part in zip(batch, parts, strict=True):
                found[place] = part
    return found


def _one_reading(base: Base, ask: Ask, max_tokens: int) -> tuple[Row, list[tuple[int, ...]]] | None:
    """Return the row that tells all options of all outcomes, and their tokens; None if none can."""
    if not all(ask.options):
        return None
    whole = encode(base.tokenizer, ask.text, ask.spans, max_tokens)
    if len(whole.learned) != len(ask.spans):
        return None
    labels = []
    for span, given, place in zip(ask.spans, ask.options, whole.learned, strict=True):
        before = ask.text[: span[0]]
        texts = [before, *(before + option for option in given)]
        prompt, *tokens = (encode(base.tokenizer, one, (), 1 << 30).tokens for one in texts)
        parts = split(prompt, tokens)
        end = len(parts.prompt)
        if any(len(path) != 1 for path in parts.paths):
            return None
        if whole.tokens[:place] != parts.prompt[-place:] or place > end:
            return None
        labels.append(tuple(path[0] for path in parts.paths))
    return whole, labels
