"""What batches, prefixes and slots are worth: the same alignments, driven in different ways.

Real histories (MovieLens-100K) are aligned with an embedded model; nothing is simulated but the
users' patience. Every figure is a ratio of two runs of the same work on the same engine in the same
process, each from an empty prefix cache.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from persona_agent.agent import PersonaAgent
from persona_agent.align import AlignOptions
from persona_agent.eval.movielens import RATING, interaction, load
from persona_agent.llm import LocalLLM, servable
from persona_agent.llm.scoring import Tokens
from persona_agent.llm.served import served
from persona_agent.llm.serving import serving, this_machine
from persona_agent.llm.vllm import VLLM, engine_defaults
from persona_agent.memory.embed import HashEmbedder
from persona_agent.ports import LLM
from persona_agent.propose import miner
from persona_agent.types import Interaction, Message, ModelReply, ModelRequest, Sampling

USERS = 32
HISTORY = 40  # ratings of each user that are remembered
OPTIONS = AlignOptions(rounds=1, recent=3, held_out=10, anchors=4)
CONTEXT = 2048
PORT = 8127
VLLM_KEYS = (
    "speedup_vs_sequential",
    "raw_speedup",
    "gain_share",
    "engine_share",
    "cached_token_share",
    "layout_speedup",
)
Tell = Callable[[str], None]


def measure(*, quick: bool, compare: bool, tell: Tell) -> dict[str, float | None]:
    """Return the figures; those that need vLLM are None when `quick`, `naive_ratio` unless asked.

    `speedup_vs_sequential`: one call at a time over `run_many`, in seconds of the same alignments.
    `raw_speedup`: what vLLM itself gains on the same engine requests, one by one over all in one
    call; `gain_share` is ours over that. `engine_share`: the raw engine's one call over our whole
    time. `cached_token_share`: prompt tokens that came from the prefix cache. `layout_speedup`: the
    same prompts with the query first over ours. `slots_speedup`: llama.cpp with one slot over all.
    `naive_ratio`: one user and one call after another through a server over us through it.
    """
    figures: dict[str, float | None] = {
        "users": USERS,
        "slots_speedup": _slots(2 if quick else 8, tell),
    }
    if quick:
        return figures | dict.fromkeys([*VLLM_KEYS, "naive_ratio"])
    model = servable("local")
    figures |= _in_process(model, USERS, tell)
    figures["naive_ratio"] = _naive(model, 8, tell) if compare else None
    return figures


def _slots(users: int, tell: Tell) -> float:
    """Return what slots are worth, scoring only."""
    histories = _histories(users)
    seconds = []
    for slots in (1, 4):
        with LocalLLM(slots=slots, context_tokens=CONTEXT) as llm:
            seconds.append(_align(llm, histories, summary=False))
        tell(f"llama.cpp, {slots} slots: {seconds[-1]:.1f} s for {users} users")
    return seconds[0] / seconds[1]


def _in_process(model: str, users: int, tell: Tell) -> dict[str, float | None]:
    histories = _histories(users)
    with _Watched(model, context_tokens=CONTEXT) as engine:
        _align(engine, histories[:2])  # what is compiled or allocated at first use
        engine.forget()
        ours = _align(engine, histories)
        asked, requests = engine.asked, list(engine.requests)
        cached, prompts = sum(one.cached for one in asked), sum(len(one.tokens) for one in asked)
        tell(f"run_many: {ours:.1f} s, {len(requests)} requests, {len(asked)} of the engine")
        engine.forget()
        one_by_one = _align(_OneAtATime(engine), histories)
        tell(f"one call at a time: {one_by_one:.1f} s")
        layouts = []
        for change in (lambda one: one, query_first):
            engine.forget()
            begun = time.perf_counter()
            engine.complete([change(one) for one in requests])
            layouts.append(time.perf_counter() - begun)
        tell(f"the same prompts: {layouts[0]:.1f} s, with the query first: {layouts[1]:.1f} s")
    batch, single = _raw(model, asked)
    tell(f"vLLM itself: {batch:.1f} s in one call, {single:.1f} s one by one")
    speedup, raw = one_by_one / ours, single / batch
    return {
        "requests": len(requests),
        "seconds": ours,
        "speedup_vs_sequential": speedup,
        "raw_speedup": raw,
        "gain_share": speedup / raw,
        "engine_share": batch / ours,
        "cached_token_share": cached / prompts,
        "layout_speedup": layouts[1] / layouts[0],
    }


def _naive(model: str, users: int, tell: Tell) -> float:
    """Return how much longer one user and one call after another takes, through one server."""
    from persona_agent.llm.openai import OpenAILLM

    histories = _histories(users)
    seconds = []
    plan = serving(model, this_machine(), port=PORT, name="bench", context_tokens=CONTEXT)
    with served(plan, PORT) as base_url:
        for alone in (False, True):
            with OpenAILLM("bench", base_url=base_url, vllm=True, concurrency=64) as llm:
                llm.complete([ModelRequest((Message("user", "hi"),), Sampling(max_tokens=2))])
                begun = time.perf_counter()
                if alone:
                    for one in histories:
                        _align(_OneAtATime(llm), [one])
                else:
                    _align(llm, histories)
                seconds.append(time.perf_counter() - begun)
            tell(f"through a server, {'one by one' if alone else 'run_many'}: {seconds[-1]:.1f} s")
    return seconds[1] / seconds[0]


def _histories(users: int) -> list[list[Interaction]]:
    """Return the first ratings of the first users that have enough of them."""
    data = load()
    long = [ratings for ratings in data.ratings.values() if len(ratings) >= HISTORY]
    return [[interaction(data, one) for one in ratings[:HISTORY]] for ratings in long[:users]]


def _align(llm: LLM, histories: Sequence[Sequence[Interaction]], *, summary: bool = True) -> float:
    """Return the seconds that aligning these users takes, storing their events excluded.

    Candidates come from the miner. With `summary` the model writes one of each history first. It
    writes no critiques: three times as many tokens, for no more to see.
    """
    agent = PersonaAgent.open(
        ":memory:",
        llm=llm,
        embedder=HashEmbedder(32),
        task=RATING,
        options=OPTIONS,
        proposers=(miner,),
        summarise_history=summary,
    )
    agent.llm = None  # closing the agent leaves the model open
    for events in histories:
        agent.add(events)
    agent.llm = llm
    begun = time.perf_counter()
    results = agent.align()
    seconds = time.perf_counter() - begun
    agent.llm = None
    agent.close()
    for result in results:
        result.unwrap()
    return seconds


class _OneAtATime:
    """A model that is asked one request after another."""

    honours_salt = True

    def __init__(self, inner: LLM) -> None:
        self._inner = inner

    def complete(self, requests: Sequence[ModelRequest]) -> list[ModelReply]:
        return [self._inner.complete([one])[0] for one in requests]


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request of the engine: its tokens, its settings, and how many tokens were cached."""

    tokens: Tokens
    params: Any  # vLLM's own type
    cached: int


class _Watched(VLLM):
    """vLLM that notes what it is asked; the salts of one tenant do not matter here."""

    def __init__(self, *given: Any, **settings: Any) -> None:  # Any: passed on
        self.requests: list[ModelRequest] = []
        self.asked: list[_Asked] = []
        super().__init__(*given, **settings)

    def submit(self, requests: Sequence[ModelRequest]) -> Future[list[ModelReply]]:
        self.requests += requests
        return super().submit(requests)

    def forget(self) -> None:
        """Empty the prefix cache and the notes."""
        self.requests, self.asked = [], []
        asyncio.run_coroutine_threadsafe(self._engine.reset_prefix_cache(), self._loop).result()

    async def _run(self, request: ModelRequest, tokens: Tokens, params: Any) -> Any:
        done = await super()._run(request, tokens, params)
        self.asked.append(_Asked(tokens, params, done.num_cached_tokens or 0))
        return done


def query_first(request: ModelRequest) -> ModelRequest:
    """Return the same prompt as most people lay it out: the question before what is known.

    The last paragraph comes first; the words are the same, and so is what the answer begins with.
    """
    *rest, last = request.messages
    before, _, question = last.content.rpartition("\n\n")
    asked, line, label = question.rpartition("\n")
    if request.template or not (before and asked):
        return request
    known = Message("user", "\n\n".join([*(one.content for one in rest), before]) + line + label)
    return replace(request, messages=(Message("user", asked), known))


def _raw(model: str, asked: Sequence[_Asked]) -> tuple[float, float]:
    """Return the seconds vLLM's own batch interface takes for these, in one call and one by one."""
    from vllm import LLM as Engine

    cpu = not this_machine().gpus
    engine = Engine(model, max_model_len=CONTEXT, **engine_defaults(cpu=cpu))
    prompts = [{"prompt_token_ids": list(one.tokens)} for one in asked]
    params = [one.params for one in asked]

    def run(size: int) -> float:
        engine.reset_prefix_cache()
        begun = time.perf_counter()
        for start in range(0, len(prompts), size):
            part = slice(start, start + size)
            engine.generate(prompts[part], params[part], use_tqdm=False)
        return time.perf_counter() - begun

    engine.generate(prompts[:64], params[:64], use_tqdm=False)
    figures = run(len(prompts)), run(1)
    engine.llm_engine.engine_core.shutdown()
    return figures
