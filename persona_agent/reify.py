"""Reification: what weights that were tuned on a person know of this person, in words.

The tuned model is asked, topic by topic, with no history in the prompt. A model says something of
anybody, so each line is weighed: how much likelier the tuned model finds it than the model it was
tuned from. What both find as likely is not knowledge of this person. A line rests on no event that
could be named, only on the adapter, whose lineage says what it was trained on.

Source: PRIME (Zhang, Beauchamp and Wang 2025), parametric knowledge reification, of which only the
name and the idea are published; weighing against the base model is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from persona_agent import prompts
from persona_agent.lines import lines_schema, texts_of
from persona_agent.persona import PersonaLine, clean_lines
from persona_agent.program import Program, complete
from persona_agent.sensitive import WordLists
from persona_agent.types import Message, ModelReply, ModelRequest, Record, Sampling

LINES = 3


@dataclass(frozen=True, slots=True)
class Reified(Record):
    """What an adapter knows of its user: lines, the most telling first.

    `gains` are, for each line, the nats a word by which the adapter makes it likelier than the
    base model does; None where the engine cannot tell. `refused` says what was left out and why.
    """

    adapter: str
    lines: tuple[PersonaLine, ...]
    gains: tuple[float | None, ...]
    refused: tuple[str, ...] = ()


def reify(
    adapter: str,
    *,
    topics: Sequence[str] = (),
    most: int = 6,
    least_gain: float = 0.0,
    sensitive: bool = False,
    words: WordLists | None = None,
) -> Program[Reified]:
    """Return what the model with this adapter says of its user, and the base model does not.

    At most `most` lines, each at least `least_gain` nats a word likelier with the adapter than
    without; where likelihoods are not to be had, in the order they were said. `topics` are
    what is asked about, by default taste, habits and style. A model that fails gives no lines.
    """
    asked = list(topics) or prompts.text("reified", "topics").splitlines()
    replies = yield from complete([_question(topic, adapter) for topic in asked])
    found: dict[str, tuple[PersonaLine, str]] = {}
    refused: list[str] = []
    for topic, reply in zip(asked, replies, strict=True):
        if reply.error is not None:
            refused.append(f"nothing was said about {topic!r}: {reply.error}")
        lines, bad = clean_lines(
            texts_of(reply)[:LINES], "adapter", (), sensitive=sensitive, words=words
        )
        refused += bad
        for line in lines:
            found.setdefault(line.id, (line, topic))
    stated = list(found.values())
    weighed = yield from complete(
        [_weight(line, topic, one) for line, topic in stated for one in (adapter, None)]
    )
    pairs = zip(weighed[::2], weighed[1::2], strict=True)
    gains = [
        _gain(line, tuned, base) for (line, _), (tuned, base) in zip(stated, pairs, strict=True)
    ]
    kept = [(line, gain) for (line, _), gain in zip(stated, gains, strict=True)]
    told = [(line, gain) for line, gain in kept if gain is None or gain > least_gain]
    refused += [
        f"{line.text[:60]!r} is as likely without the adapter"
        for line, gain in kept
        if gain is not None and gain <= least_gain
    ]
    told.sort(key=lambda pair: -(pair[1] or 0.0))
    best = told[:most]
    return Reified(
        adapter, tuple(line for line, _ in best), tuple(gain for _, gain in best), tuple(refused)
    )


def _question(topic: str, adapter: str) -> ModelRequest:
    return ModelRequest(
        prompts.messages("reify", topic=topic, count=str(LINES)),
        Sampling(max_tokens=160),
        schema=lines_schema(LINES),
        adapter=adapter,
        purpose="reify",
    )


def _weight(line: PersonaLine, topic: str, adapter: str | None) -> ModelRequest:
    """Return the request that asks how likely a line is, with the adapter or without."""
    question = prompts.text("reified", "stated", topic=topic)
    plain = ModelRequest(
        (Message("user", question),),
        choices=(f" {line.text}",),
        template=False,
        purpose="likelihood",
    )
    return replace(plain, adapter=adapter)


def _gain(line: PersonaLine, tuned: ModelReply, base: ModelReply) -> float | None:
    if tuned.logprobs is None or base.logprobs is None:
        return None
    return (tuned.logprobs[0] - base.logprobs[0]) / len(line.text.split())
