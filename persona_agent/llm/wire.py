"""What an OpenAI-compatible endpoint is sent, and the choices its words name: no network here."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TypeAlias

from persona_agent.errors import ReplyFormatError
from persona_agent.llm.structured import answer_part, shortened
from persona_agent.types import Json, Message, ModelRequest

Body: TypeAlias = dict[str, Json]
TOP = 20  # the most likely tokens an endpoint reveals


def body_of(request: ModelRequest, *, model: str, vllm: bool, openai: bool) -> Body:
    """Return the body of a chat completion.

    `vllm` uses what only vLLM understands: prefill, salts and adapters. `openai` uses the newer
    name of max_tokens, which OpenAI asks for and others do not know.
    """
    name = "max_completion_tokens" if openai else "max_tokens"
    body = _sampled(request, model, name, vllm)
    return body | (chat_of(request) if vllm else {"messages": _prompted(request)})


def text_body(request: ModelRequest, *, model: str) -> Body:
    """Return the body of a text completion for vLLM: the messages as plain text."""
    return _sampled(request, model, "max_tokens", True) | {"prompt": plain_text(request)}


def label_body(
    request: ModelRequest, prompt: Sequence[int], labels: Sequence[int], *, model: str
) -> Body:
    """Return the body that asks vLLM how likely each of some tokens is to follow a prompt."""
    return _forced(request, prompt, model) | {
        "logprobs": len(labels),
        "logprob_token_ids": list(labels),
        "return_tokens_as_token_ids": True,
    }


def prompt_body(request: ModelRequest, prompt: Sequence[int], *, model: str) -> Body:
    """Return the body that asks vLLM how likely each token of a prompt was."""
    return _forced(request, prompt, model) | {"prompt_logprobs": 0}


def chat_of(request: ModelRequest) -> Body:
    """Return the messages of a chat as vLLM takes them, whose last one may be continued."""
    begun: Body = {}
    if prefill(request):
        begun = {"continue_final_message": True, "add_generation_prompt": False}
    return begun | {"messages": _messages(request)}


def plain_text(request: ModelRequest) -> str:
    """Return the messages joined by blank lines."""
    return "\n\n".join(message.content for message in request.messages)


def prefill(request: ModelRequest) -> str:
    """Return the beginning of the answer that the request gives; empty if it gives none."""
    last = request.messages[-1]
    return last.content if request.template and last.role == "assistant" else ""


def with_schema(body: Body, schema: Json) -> Body:
    """Return the body that asks for JSON of a schema by constrained decoding."""
    wanted: Body = {"name": "answer", "schema": schema, "strict": True}
    return body | {"response_format": {"type": "json_schema", "json_schema": wanted}}


def with_schema_told(body: Body, schema: Json) -> Body:
    """Return the body that asks for JSON of a schema in words, for endpoints without the other."""
    line = f"Answer only with JSON of this schema: {json.dumps(schema, ensure_ascii=False)}"
    return body | {"messages": _told(body["messages"], line)}


def with_choices_told(body: Body, choices: Sequence[str]) -> Body:
    """Return the body that names the choices in words, without surrounding space."""
    names = json.dumps([choice.strip() for choice in choices], ensure_ascii=False)
    return body | {"messages": _told(body["messages"], f"Answer with exactly one of: {names}")}


def with_logprobs(body: Body) -> Body:
    """Return the body that asks for one token, and for the likeliest in its place."""
    name = "max_completion_tokens" if "max_completion_tokens" in body else "max_tokens"
    return body | {name: 1, "logprobs": True, "top_logprobs": TOP}


def choice_schema(choices: Sequence[str]) -> Json:
    """Return the schema of an object whose `choice` is one of the choices."""
    return {
        "type": "object",
        "properties": {"choice": {"type": "string", "enum": list(choices)}},
        "required": ["choice"],
        "additionalProperties": False,
    }


def may_be_tokens(choices: Sequence[str]) -> bool:
    """Whether each choice may be one token of its own: short, one word, told apart by it.

    >>> may_be_tokens((" 1", " 2")), may_be_tokens(("Toy Story", "Heat"))
    (True, False)
    """
    words = [choice.strip() for choice in choices]
    return len(set(words)) == len(words) and all(
        len(word.split()) == 1 and len(word) <= 16 for word in words
    )


def score(choices: Sequence[str], first: dict[str, float]) -> tuple[float, ...] | None:
    """Return the log-probability of each choice as a first token, or None if one is missing.

    Spellings with and without a space before are one choice; their probabilities add up.
    """
    logprobs = []
    for choice in choices:
        found = [value for token, value in first.items() if token.strip() == choice.strip()]
        if not found:
            return None
        logprobs.append(min(0.0, math.log(sum(map(math.exp, found)) or 5e-324)))
    return tuple(logprobs)


def matched(text: str, choices: Sequence[str]) -> str:
    """Return the choice that `text` names, whatever its case and surrounding marks.

    Raises ReplyFormatError if it names none of them, or more than one.
    """
    said = _bare(answer_part(text))
    found = [choice for choice in choices if _bare(choice) == said]
    if len(found) != 1:
        raise ReplyFormatError(
            f"the answer {shortened(text)} is none of the choices {list(choices)!r}"
        )
    return found[0]


def picked(text: str, choices: Sequence[str]) -> str:
    """Return the choice in an answer to `choice_schema`, or in plain text; raises as `matched`."""
    try:
        value = json.loads(answer_part(text))
    except json.JSONDecodeError:
        value = text
    said = value.get("choice", value) if isinstance(value, dict) else value
    return matched(str(said), choices)


def _bare(text: str) -> str:
    return text.strip().strip("\"'`*.").strip().casefold()


def _sampled(request: ModelRequest, model: str, max_tokens: str, vllm: bool) -> Body:
    sampling = request.sampling
    body: Body = {
        "model": request.adapter or model,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        max_tokens: sampling.max_tokens,
    }
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    return body | (_salt(request) if vllm else {})


def _forced(request: ModelRequest, prompt: Sequence[int], model: str) -> Body:
    body: Body = {"model": request.adapter or model, "max_tokens": 1, "temperature": 0.0}
    return body | {"prompt": list(prompt)} | _salt(request)


def _salt(request: ModelRequest) -> Body:
    return {} if request.cache_salt is None else {"cache_salt": request.cache_salt}


def _prompted(request: ModelRequest) -> list[Json]:
    """Return the messages, the beginning of the answer asked for in words."""
    messages = _messages(request)
    begun = prefill(request)
    return _told(messages[:-1], f"Begin your answer with: {begun}") if begun else messages


def _messages(request: ModelRequest) -> list[Json]:
    if not request.template:
        return [{"role": "user", "content": plain_text(request)}]
    return [_message(message) for message in request.messages]


def _message(message: Message) -> Json:
    if message.role == "tool":  # the protocol takes tool results only with the call's id
        return {"role": "user", "content": f"Result of a tool:\n{message.content}"}
    return {"role": message.role, "content": message.content}


def _told(messages: Json, line: str) -> list[Json]:
    """Return the messages with a line added to the last one of the user."""
    row = list(messages) if isinstance(messages, list) else []
    for i in range(len(row) - 1, -1, -1):
        one = row[i]
        if isinstance(one, dict) and one["role"] == "user":
            row[i] = one | {"content": f"{one['content']}\n\n{line}"}
            return row
    return [*row, {"role": "user", "content": line}]
