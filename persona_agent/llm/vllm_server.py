"""What only a vLLM server can do: choices of any number of tokens, scored exactly.

The prompt goes there as tokens. One request for each branch of the choices' tree asks how likely
each token is that may follow; the prompt itself comes from the prefix cache after the first. Prompt
log-probabilities say the same, but make vLLM read the whole prompt again for each choice, so they
are asked for only where the server does not know the other way.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

from persona_agent.errors import ReplyFormatError
from persona_agent.llm import answers, wire
from persona_agent.llm.answers import Continuation
from persona_agent.llm.endpoint import Refused
from persona_agent.llm.replies import chosen
from persona_agent.llm.scoring import Split, Tokens, branches, by_branches, by_prompt, split
from persona_agent.types import Json, ModelReply, ModelRequest, Usage

# Sends a body to a path and returns the answer's text; raises what `Endpoint.post` raises.
Post: TypeAlias = Callable[[str, wire.Body], Awaitable[str]]

T = TypeVar("T")

MOST_LABELS = 128  # tokens that one request may ask about: vLLM's own limit
BORDERS_KEPT = 4096
MOST_TAIL = 256  # characters before the border that can matter to its tokens
TEMPLATE_TAIL = 4  # tokens that surely hold the end of a chat template's last mark


@dataclass(frozen=True, slots=True)
class Border:
    """Where a prompt ends and its choices begin, in tokens.

    `merged` are the tokens at the end of the prompt alone that turn into others when a choice
    follows; `paths` are the tokens that then stand there, for each choice.
    """

    merged: Tokens
    paths: tuple[Tokens, ...]


class Scorer:
    """Scores the choices of requests on a vLLM server; remembers how choices are tokenised.

    How a choice is tokenised depends on the text right before it alone, up to the last line that
    says something, because no tokeniser merges across the end of such a line.
    """

    def __init__(self, model: str, root: str) -> None:
        self._model = model
        self._root = root
        self._borders: OrderedDict[tuple[object, ...], Border] = OrderedDict()
        self._knows_labels = True

    async def reply(self, request: ModelRequest, post: Post) -> ModelReply:
        """Return the reply to a request with choices; raises Refused or a public error."""
        parts = await self._prepared(request, post)
        if not self._knows_labels:
            return await self._by_prompts(request, parts, post)
        try:
            return await self._by_labels(request, parts, post)
        except (KeyError, Refused):
            reply = await self._by_prompts(request, parts, post)
            self._knows_labels = False  # since the other way works: an older server
            return reply

    async def _by_labels(self, request: ModelRequest, parts: Split, post: Post) -> ModelReply:
        asked = [
            (beginning, labels[start : start + MOST_LABELS])
            for beginning, labels in branches(parts.paths).items()
            for start in range(0, len(labels), MOST_LABELS)
        ]
        found = await _all(
            self._completed(
                wire.label_body(request, parts.prompt + beginning, labels, model=self._model), post
            )
            for beginning, labels in asked
        )
        steps: dict[Tokens, dict[int, float]] = {}
        for (beginning, _), one in zip(asked, found, strict=True):
            steps.setdefault(beginning, {}).update(one.labels)
        # The prompt is one, however often it is asked about.
        written = sum(one.cost.completion_tokens for one in found)
        usage = replace(found[0].cost, requests=1, completion_tokens=written)
        return chosen(request.choices, by_branches(parts.paths, steps), usage)

    async def _by_prompts(self, request: ModelRequest, parts: Split, post: Post) -> ModelReply:
        found = await _all(
            self._completed(wire.prompt_body(request, parts.prompt + path, model=self._model), post)
            for path in parts.paths
        )
        try:
            scores = [
                by_prompt(path, one.prompt) for path, one in zip(parts.paths, found, strict=True)
            ]
        except KeyError as error:
            raise ReplyFormatError(
                f"vLLM told no log-probability of a choice's token ({error}); report this with "
                "its version"
            ) from error
        usage = sum((one.cost for one in found), Usage(requests=1))
        return chosen(request.choices, scores, usage)

    async def _completed(self, body: wire.Body, post: Post) -> Continuation:
        return answers.read_continuation(await post("/completions", body))

    async def _prepared(self, request: ModelRequest, post: Post) -> Split:
        """Return prompt and choices in tokens."""
        prompt = await self._tokens(
            wire.chat_of(request) if request.template else {"prompt": wire.plain_text(request)},
            request,
            post,
        )
        begun = wire.prefill(request) if request.template else wire.plain_text(request)
        tail = tail_of(begun)
        end: object = tail if tail.strip() else prompt[-TEMPLATE_TAIL:]
        key = (request.adapter, end, request.choices)
        border = self._borders.get(key)
        if border is None:
            if not tail.strip():
                body: wire.Body = {"tokens": list(prompt[-TEMPLATE_TAIL:])}
                tail = answers.read_text(await self._at_root("/detokenize", body, request, post))
            border = await self._learn(tail, request, post)
            self._borders[key] = border
            while len(self._borders) > BORDERS_KEPT:
                self._borders.popitem(last=False)
        kept = len(prompt) - len(border.merged)
        if prompt[kept:] != border.merged:
            raise ReplyFormatError(
                f"vLLM's tokens of the prompt end with {prompt[kept:]!r} and not with those of its "
                f"last line, {border.merged!r}; report this with the model's name"
            )
        return Split(prompt[:kept], border.paths)

    async def _learn(self, tail: str, request: ModelRequest, post: Post) -> Border:
        alone, *wholes = await _all(
            self._tokens({"prompt": tail + end, "add_special_tokens": False}, request, post)
            for end in ("", *request.choices)
        )
        parts = split(alone, wholes)
        return Border(alone[len(parts.prompt) :], parts.paths)

    async def _tokens(self, body: wire.Body, request: ModelRequest, post: Post) -> Tokens:
        return answers.read_tokens(await self._at_root("/tokenize", body, request, post))

    async def _at_root(self, path: str, body: wire.Body, request: ModelRequest, post: Post) -> str:
        model: Json = request.adapter or self._model
        return await post(self._root + path, {"model": model, **body})


def tail_of(text: str) -> str:
    """Return the last line of a text that says something, and the blank that follows it.

    >>> tail_of("a film\\nRating:"), tail_of("yes\\n\\n")
    ('Rating:', 'yes\\n\\n')
    """
    tail = text[text.rstrip().rfind("\n") + 1 :]
    if len(tail) <= MOST_TAIL:
        return tail
    space = tail.find(" ", len(tail) - MOST_TAIL)
    return tail if space < 0 else tail[space:]


async def _all(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return all results; the first error cancels the rest."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
