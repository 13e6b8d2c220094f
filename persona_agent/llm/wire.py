"""What an OpenAI-compatible endpoint is sent, and what its answers mean: no network here."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Literal, TypeAlias

from pydantic import BaseModel, ValidationError

from persona_agent.errors import ReplyFormatError
from persona_agent.llm.structured import shortened
from persona_agent.types import Json, Message, ModelRequest, Usage

Body: TypeAlias = dict[str, Json]
TOP = 20  # the most likely tokens an endpoint reveals
_FENCE = re.compile(r"\A\s*```\w*\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)


class _Likely(BaseModel):
    token: str
    logprob: float


class _Position(BaseModel):
    top_logprobs: list[_Likely] = []


class _Logprobs(BaseModel):
    content: list[_Position] | None = None


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Details(BaseModel):
    cached_tokens: int | None = None


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None


class Answer(BaseModel):
    """The part of a chat completion that we read."""

    choices: list[_Choice]
    usage: _Usage | None = None

    @property
    def text(self) -> str:
        """The first choice's text; raises ReplyFormatError if there is none."""
        message = self.choices[0].message
        if message.refusal:
            raise ReplyFormatError(f"the model refused: {shortened(message.refusal)}")
        if not message.content:
            reason = self.choices[0].finish_reason
            hint = "; raise max_tokens, it may all have gone into reasoning"
            raise ReplyFormatError(
                f"the answer is empty (finish reason {reason!r}){hint if reason == 'length' else ''}"
            )
        return message.content

    @property
    def finish(self) -> Literal["stop", "length"]:
        """Why it ended."""
        return "length" if self.choices[0].finish_reason == "length" else "stop"

    @property
    def cost(self) -> Usage:
        """Its tokens, without counting a request."""
        if self.usage is None:
            return Usage()
        details = self.usage.prompt_tokens_details
        return Usage(
            prompt_tokens=self.usage.prompt_tokens,
            cached_tokens=(details.cached_tokens or 0) if details else 0,
            completion_tokens=self.usage.completion_tokens,
        )

    def first_token(self) -> dict[str, float]:
        """The log-probabilities of the likeliest first tokens, by text; empty if not told."""
        logprobs = self.choices[0].logprobs
        if logprobs is None or not logprobs.content:
            return {}
        return {one.token: one.logprob for one in logprobs.content[0].top_logprobs}


def read(raw: str) -> Answer:
    """Return the answer in a response body; raises ReplyFormatError if it is not one."""
    try:
        answer = Answer.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the body"
        raise ReplyFormatError(
            f"the endpoint's answer is not a chat completion: {place}: {first['msg']}; "
            f"it says {shortened(raw)}"
        ) from error
    if not answer.choices:
        raise ReplyFormatError(f"the endpoint answered with no choices: {shortened(raw)}")
    return answer


def body_of(request: ModelRequest, *, model: str, vllm: bool, openai: bool) -> Body:
    """Return the body of a chat completion.

    `vllm` uses what only vLLM understands: prefill, salts and adapters. `openai` uses the newer
    name of max_tokens, which OpenAI asks for and others do not know.
    """
    sampling = request.sampling
    body: Body = {
        "model": request.adapter or model,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_completion_tokens" if openai else "max_tokens": sampling.max_tokens,
    }
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if vllm and request.cache_salt is not None:
        body["cache_salt"] = request.cache_salt
    messages = _messages(request)
    begun = prefill(request)
    if begun and vllm:
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    elif begun:
        messages = _told(messages[:-1], f"Begin your answer with: {begun}")
    body["messages"] = messages
    return body


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


def answer_part(text: str) -> str:
    """Return `text` without reasoning before it and a code fence around it.

    >>> answer_part("<think>well</think>```json\\n{}\\n```")
    '{}'
    """
    rest = text.rpartition("</think>")[2].strip()
    fenced = _FENCE.match(rest)
    return fenced.group(1).strip() if fenced else rest


def _bare(text: str) -> str:
    return text.strip().strip("\"'`*.").strip().casefold()


def _messages(request: ModelRequest) -> list[Json]:
    if not request.template:
        text = "\n\n".join(message.content for message in request.messages)
        return [{"role": "user", "content": text}]
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
