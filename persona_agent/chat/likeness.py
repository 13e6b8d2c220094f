"""Which examples of the prompt an answer is most like, by meaning: a second opinion on answers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from persona_agent import prompts
from persona_agent.chat.state import MEANINGS, Meaning
from persona_agent.ports import Embedder
from persona_agent.types import Json, Scope, ToolRequest

LIKENESS = "like_examples"
SHARPNESS = 16.0  # of the cosine: an example that is .1 nearer counts five times as much
EXAMPLE = re.compile(r"^Answer: (.*)\nMeaning: (\w+)$", re.MULTILINE)
PARAMETERS: Mapping[str, Json] = {
    "type": "object",
    "properties": {"answers": {"type": "array", "items": {"type": "string"}}},
    "required": ["answers"],
    "additionalProperties": False,
}


class Likeness:
    """Says how likely each meaning is by the examples that are near; a tool for programs.

    p(meaning) is proportional to the mean of exp(16 cosine) over the meaning's examples, which are
    those of the prompt "answer". Examples are embedded when first asked.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        found = EXAMPLE.findall(prompts.text("answer", "examples"))
        self._texts = [text for text, _ in found]
        member = np.array([[means == one for one in MEANINGS] for _, means in found], np.float64)
        self._shares = member / member.sum(axis=0)
        self._vectors: npt.NDArray[np.float32] | None = None

    @property
    def name(self) -> str:
        """How programs call it."""
        return LIKENESS

    @property
    def description(self) -> str:
        """What it does."""
        return "Tells how likely each meaning of an answer is by the examples most like it."

    @property
    def parameters(self) -> Mapping[str, Json]:
        """A JSON schema of its arguments."""
        return PARAMETERS

    def call(self, scope: Scope, arguments: Mapping[str, Json]) -> str:
        """Return log-probabilities of the meanings for each answer, as JSON."""
        return json.dumps(self.logprobs(cast("list[str]", arguments["answers"])).tolist())

    def logprobs(self, answers: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return an array of shape (answers, meanings), rows in the order of MEANINGS."""
        if self._vectors is None:
            self._vectors = self._embedder.embed(self._texts)
        cosines = (self._embedder.embed(list(answers)) @ self._vectors.T).astype(np.float64)
        weights = np.exp(SHARPNESS * cosines) @ self._shares
        found: npt.NDArray[np.float64] = np.log(weights / weights.sum(axis=1, keepdims=True))
        return found

    def nearest(self, answers: Sequence[str]) -> list[Meaning]:
        """Return the likeliest meaning of each answer."""
        return [MEANINGS[at] for at in self.logprobs(answers).argmax(axis=1).tolist()]


def ask(scope: Scope, answers: Sequence[str]) -> ToolRequest:
    """Return the request for the likenesses of answers."""
    return ToolRequest(scope, LIKENESS, {"answers": list(answers)})
