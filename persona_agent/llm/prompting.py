"""Requests in tokens, for engines that take tokens: the same prompt whichever engine reads it.

What a message says can never pose as the control tokens of a chat, whatever it spells.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Protocol

from persona_agent.errors import BackendError, ContextTooLong
from persona_agent.llm.scoring import Split, split
from persona_agent.types import Message, ModelRequest


class Tokeniser(Protocol):
    """What a model makes of text."""

    @property
    def context_tokens(self) -> int:
        """How many tokens of prompt and answer the model can hold."""
        ...

    def tokenise(self, text: str, *, start: bool, special: bool) -> tuple[int, ...]:
        """Return the tokens of `text`.

        `start` adds what the model wants at the beginning of a prompt, such as BOS. `special`
        reads the names of control tokens in the text as these tokens; else they are just text.
        """
        ...

    def apply_template(self, messages: Sequence[Message]) -> str:
        """Return the chat as the model was trained to see it, ready for the assistant's turn."""
        ...


def prepared(request: ModelRequest, model: Tokeniser) -> Split:
    """Return the prompt of a request in tokens, and those of each of its choices after it.

    Raises ContextTooLong where prompt and answer do not fit, and BackendError for a prompt that
    cannot be written safely.
    """
    prompt = _prompt(model, request)
    tokens = _tokens(model, prompt)
    if not request.choices:
        if len(tokens) >= model.context_tokens:
            raise ContextTooLong(
                f"the prompt has {len(tokens)} tokens; the context holds "
                f"{model.context_tokens}, of which the answer needs at least one"
            )
        return Split(tokens, ())
    whole = [_tokens(model, [*prompt, (choice, False)]) for choice in request.choices]
    longest = max(map(len, whole))
    if longest > model.context_tokens:
        raise ContextTooLong(
            f"the prompt with its longest choice has {longest} tokens; the context holds "
            f"{model.context_tokens}"
        )
    return split(tokens, whole)


# A prompt is a list of pieces of text; a piece is marked True if its control tokens are ours.
_Prompt = list[tuple[str, bool]]


def _prompt(model: Tokeniser, request: ModelRequest) -> _Prompt:
    messages = request.messages
    if not request.template:
        return [("\n\n".join(message.content for message in messages), False)]
    begun = ""
    if messages[-1].role == "assistant":
        begun = messages[-1].content
        messages = messages[:-1]
        if not messages:
            raise BackendError("the only message is the beginning of the answer; add a question")
    contents = [message.content for message in messages]
    if all(_is_plain(model, text) for text in contents):
        return [(model.apply_template(messages), True), (begun, False)]
    return [*_guarded(model, messages), (begun, False)]


def _guarded(model: Tokeniser, messages: Sequence[Message]) -> _Prompt:
    """Return the templated chat in pieces, so that messages cannot pose as its control tokens."""
    nonce = secrets.token_hex(8)
    marks = [f"[{nonce}-{i}]" for i in range(len(messages))]
    stand_ins = [Message(m.role, mark) for m, mark in zip(messages, marks, strict=True)]
    rest = model.apply_template(stand_ins)
    pieces: _Prompt = []
    for message, mark in zip(messages, marks, strict=True):
        before, found, rest = rest.partition(mark)
        if not found:
            raise BackendError(
                "a message spells a control token of the model, and the model's chat template "
                "leaves no safe place for it; remove the token from the message"
            )
        pieces += [(before, True), (message.content, False)]
    return [*pieces, (rest, True)]


def _is_plain(model: Tokeniser, text: str) -> bool:
    return model.tokenise(text, start=False, special=True) == model.tokenise(
        text, start=False, special=False
    )


def _tokens(model: Tokeniser, prompt: _Prompt) -> tuple[int, ...]:
    """Return the tokens of a prompt; as one text where that is safe, for tokens to merge."""
    pieces = [(text, ours) for text, ours in prompt if text]
    text = "".join(piece for piece, _ in pieces)
    if not any(ours for _, ours in pieces):
        return model.tokenise(text, start=True, special=False)
    if all(ours or _is_plain(model, piece) for piece, ours in pieces):
        return model.tokenise(text, start=True, special=True)
    tokens: tuple[int, ...] = ()
    for i, (piece, ours) in enumerate(pieces):
        tokens += model.tokenise(piece, start=i == 0, special=ours)
    return tokens
