"""What the answers of an OpenAI-compatible endpoint mean: no network here."""

from __future__ import annotations

from typing import Literal, TypeVar

from pydantic import BaseModel, ValidationError

from persona_agent.errors import ReplyFormatError
from persona_agent.llm.structured import shortened
from persona_agent.types import Usage

M = TypeVar("M", bound=BaseModel)
TOKEN = "token_id:"  # how vLLM writes a token where ids are asked for


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
    reasoning_content: str | None = None
    reasoning: str | None = None  # what newer servers call it


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


class _Told(BaseModel):
    top_logprobs: list[dict[str, float] | None] = []


class _Place(BaseModel):
    logprob: float


class _Continuation(BaseModel):
    text: str
    finish_reason: str | None = None
    logprobs: _Told | None = None
    prompt_logprobs: list[dict[int, _Place] | None] | None = None


class _Tokens(BaseModel):
    tokens: list[int]


class _Text(BaseModel):
    prompt: str


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
            hint = ""
            if message.reasoning_content or message.reasoning:
                hint = "; it is all reasoning: raise max_tokens, or turn reasoning off"
            elif reason == "length":
                hint = "; raise max_tokens, it may all have gone into reasoning"
            raise ReplyFormatError(f"the answer is empty (finish reason {reason!r}){hint}")
        return message.content

    @property
    def continued(self) -> str:
        """The first choice's text, which may be empty: a continuation may end at once."""
        return self.choices[0].message.content or ""

    @property
    def text_so_far(self) -> str:
        """The first choice's text, empty if it was cut off before there was any."""
        return self.continued if self.finish == "length" else self.text

    @property
    def finish(self) -> Literal["stop", "length"]:
        """Why it ended."""
        return "length" if self.choices[0].finish_reason == "length" else "stop"

    @property
    def cost(self) -> Usage:
        """Its tokens, without counting a request."""
        return _cost(self.usage)

    def first_token(self) -> dict[str, float]:
        """The log-probabilities of the likeliest first tokens, by text; empty if not told."""
        logprobs = self.choices[0].logprobs
        if logprobs is None or not logprobs.content:
            return {}
        return {one.token: one.logprob for one in logprobs.content[0].top_logprobs}


class Continuation(BaseModel):
    """The part of a text completion that we read."""

    choices: list[_Continuation]
    usage: _Usage | None = None

    @property
    def cost(self) -> Usage:
        """Its tokens, without counting a request."""
        return _cost(self.usage)

    @property
    def answer(self) -> Answer:
        """The same as the answer of a chat."""
        one = self.choices[0]
        choice = _Choice(message=_Message(content=one.text), finish_reason=one.finish_reason)
        return Answer(choices=[choice], usage=self.usage)

    @property
    def labels(self) -> dict[int, float]:
        """The log-probabilities told of the first token, by token id."""
        told = self.choices[0].logprobs
        first = (told.top_logprobs[0] or {}) if told and told.top_logprobs else {}
        return {
            int(name.removeprefix(TOKEN)): value
            for name, value in first.items()
            if name.startswith(TOKEN)
        }

    @property
    def prompt(self) -> list[dict[int, float]]:
        """The log-probabilities told of each token of the prompt, by token id."""
        told = self.choices[0].prompt_logprobs or []
        return [{token: one.logprob for token, one in (place or {}).items()} for place in told]


def read(raw: str) -> Answer:
    """Return the answer in a response body; raises ReplyFormatError if it is not one."""
    answer = _read(raw, Answer, "a chat completion")
    _check_one(len(answer.choices), raw)
    return answer


def read_continuation(raw: str) -> Continuation:
    """Return the text completion in a response body; raises ReplyFormatError if it is not one."""
    found = _read(raw, Continuation, "a text completion")
    _check_one(len(found.choices), raw)
    return found


def read_tokens(raw: str) -> tuple[int, ...]:
    """Return what vLLM's /tokenize answered; raises ReplyFormatError if that is something else."""
    return tuple(_read(raw, _Tokens, "a list of tokens").tokens)


def read_text(raw: str) -> str:
    """Return what vLLM's /detokenize answered; raises ReplyFormatError for something else."""
    return _read(raw, _Text, "a text of tokens").prompt


def _read(raw: str, kind: type[M], what: str) -> M:
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the body"
        raise ReplyFormatError(
            f"the endpoint's answer is not {what}: {place}: {first['msg']}; "
            f"it says {shortened(raw)}"
        ) from error


def _check_one(choices: int, raw: str) -> None:
    if choices != 1:
        raise ReplyFormatError(
            f"the endpoint answered with {choices or 'no'} choices where one was asked for: "
            f"{shortened(raw)}"
        )


def _cost(usage: _Usage | None) -> Usage:
    if usage is None:
        return Usage()
    details = usage.prompt_tokens_details
    return Usage(
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=(details.cached_tokens or 0) if details else 0,
        completion_tokens=usage.completion_tokens,
    )
