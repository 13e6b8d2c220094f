"""A language model that is a function: for tests, examples and dry runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from persona_agent.llm.replies import chosen
from persona_agent.llm.structured import json_reply
from persona_agent.types import ModelReply, ModelRequest, Usage

Answer: TypeAlias = str | Sequence[float] | ModelReply


class FakeLLM:
    """A model that answers each request by calling a function; implements the `LLM` port.

    The function may return

    - a string: the answer. With `choices` it must be one of them; with `schema` it is parsed,
      and what is not JSON of that schema is repaired, salvaged or becomes a reply with an error,
      as with a real model;
    - a sequence of numbers, one a choice: their log-probabilities; the answer is the likeliest;
    - a `ModelReply`, which is passed on as it is.

    Anything else raises TypeError or ValueError; what the function raises is not caught. Tokens
    in `usage` are words. `calls` keeps the batches, in order.

    >>> from persona_agent.types import Message
    >>> llm = FakeLLM(lambda request: request.messages[-1].content.upper())
    >>> llm.complete([ModelRequest((Message("user", "hello"),))])[0].text
    'HELLO'
    """

    def __init__(self, function: Callable[[ModelRequest], Answer]) -> None:
        self._function = function
        self.calls: list[tuple[ModelRequest, ...]] = []

    def complete(self, requests: Sequence[ModelRequest]) -> list[ModelReply]:
        """Return the function's answer to each request, in order."""
        self.calls.append(tuple(requests))
        return [_reply(request, self._function(request)) for request in requests]

    @property
    def requests(self) -> list[ModelRequest]:
        """Every request so far, whatever batch it came in."""
        return [request for batch in self.calls for request in batch]


def _reply(request: ModelRequest, answer: Answer) -> ModelReply:
    if isinstance(answer, ModelReply):
        return answer
    if isinstance(answer, str):
        usage = _usage(request, answer)
        if request.choices and answer not in request.choices:
            raise ValueError(f"the fake answered {answer!r}; the choices are {request.choices!r}")
        if request.schema is not None:
            return json_reply(answer, "stop", usage, request.schema)
        return ModelReply(answer, usage=usage)
    if not isinstance(answer, Sequence):
        raise TypeError(
            f"the fake answered {type(answer).__name__}; return a string, a ModelReply, or one "
            "log-probability a choice"
        )
    if len(answer) != len(request.choices):
        raise ValueError(
            f"the fake gave {len(answer)} log-probabilities for {len(request.choices)} choices"
        )
    return chosen(request.choices, [float(one) for one in answer], _usage(request, ""))


def _usage(request: ModelRequest, answer: str) -> Usage:
    words = sum(len(message.content.split()) for message in request.messages)
    return Usage(requests=1, prompt_tokens=words, completion_tokens=len(answer.split()))
