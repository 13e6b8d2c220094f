"""The service: the parts of a running server, made once and closed in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from persona_agent.agent import PersonaAgent
from persona_agent.closing import Closing
from persona_agent.context import Context
from persona_agent.cores import usable_cores
from persona_agent.errors import InputError, PersonaAgentError
from persona_agent.llm import LocalLLM, open_llm
from persona_agent.llm.metered import metered
from persona_agent.llm.openai import DEFAULT_BASE_URL
from persona_agent.memory.api_keys import ApiKeys
from persona_agent.memory.embed import open_embedder
from persona_agent.memory.episodic import EpisodicMemory
from persona_agent.memory.index import Index
from persona_agent.memory.index_file import index_path
from persona_agent.memory.operations import Operations
from persona_agent.memory.store import Store
from persona_agent.personas import Personas
from persona_agent.ports import LLM, Embedder
from persona_agent.predict import RecallPlan
from persona_agent.salts import CacheSalts
from persona_agent.serve.auth import Guard
from persona_agent.serve.config import Config
from persona_agent.serve.gather import Gathering
from persona_agent.serve.inprocess import ModelUpstream
from persona_agent.serve.journal import Journal
from persona_agent.serve.known import Question, know
from persona_agent.serve.learner import Keeper
from persona_agent.serve.metrics import Metrics
from persona_agent.serve.personal import Asked
from persona_agent.serve.segments import Entry
from persona_agent.serve.turns import Turns
from persona_agent.serve.upstream import EndpointUpstream, Upstream, in_pool
from persona_agent.types import Scope

if TYPE_CHECKING:
    from persona_agent.serve.shop import Shop

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("persona_agent.serve")


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a server is made of beside its configuration; None is opened by the configuration."""

    llm: LLM | None = None
    upstream: Upstream | None = None
    embedder: Embedder | None = None


class Service:
    """Everything a route may use. Blocking work goes through `call`, which bounds it."""

    def __init__(
        self, config: Config, parts: Parts = Parts(), *, clock: Callable[[], datetime] = utc_now
    ) -> None:
        """Open the parts; raises StoreError, BackendError, InputError or ValueError."""
        self.config = config
        self.now = clock
        self._open = contextlib.ExitStack()
        try:
            self._begin(parts)
        except BaseException:
            self._open.close()
            raise

    def _begin(self, parts: Parts) -> None:
        config = self.config
        own = self._open.enter_context
        self.store = own(Store.open(config.database, outbox=config.learn.kinds))
        # Half of the cores: what was said is embedded in the background, beside the chats.
        threads = max(1, usable_cores() // 2)
        embedder = parts.embedder or open_embedder(config.embedder, threads=threads)
        path = self.store.database.path
        index = Index(
            embedder.name,
            max_bytes=config.index_bytes,
            file=None if path is None else index_path(path),
        )
        self.memory = EpisodicMemory(self.store, embedder, index)
        self._open.callback(lambda: self.memory.close(self.now()))
        model = parts.llm if parts.llm is not None else _model(config)
        if parts.llm is None and isinstance(model, Closing):
            own(model)
        self.upstream = parts.upstream or _upstream(config, model)
        self.llm = metered(model)  # chats go by the upstream: what is metered is learning
        self.personas = Personas(self.store, self.now)
        self.keys = ApiKeys(self.store)
        self.guard = Guard(config, self.keys)
        self.operations = Operations(self.store)
        self.metrics = Metrics()
        self.salts = CacheSalts(
            config.cache_policy or "tenant", config.cache_key.get_secret_value().encode()
        )
        self.turns = Turns(self.memory, clock=self.now, implicit=config.memory.implicit)
        self.pool = ThreadPoolExecutor(config.threads_for_memory, "memory")
        self._open.callback(self.pool.shutdown)
        plan = RecallPlan(
            recent=config.memory.recent,
            similar=config.memory.similar,
            max_tokens=config.memory.max_tokens,
        )
        known: Gathering[Question, Context] = own(
            Gathering(partial(know, self.memory, plan, summary=config.memory.summary), name="know")
        )
        self._known = known
        self.asked = Asked(known.ask, deadline_s=config.memory.deadline_s)
        self.loading = True
        self._loading: asyncio.Task[None] | None = None
        self.journal = Journal(
            journal_folder(config, path),
            self._put_in,
            sync=config.journal_sync,
            tell=self.metrics.waiting.set,
        )
        self._open.callback(lambda: self.journal.close(config.drain_s))
        self._agents: dict[str, PersonaAgent] = {}
        self.learned_tokens = 0
        self.stopping = False
        self.shop: Shop | None = None
        if config.recommend.folder:
            from persona_agent.serve.shop import open_shop  # heavy: the extra `recommend`

            self.shop = open_shop(config.recommend, self.store)
        self._keeper: Keeper | None = None

    async def call(self, function: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
        """Return what a blocking function returns, run in the bounded pool."""
        result: T = await in_pool(self.pool, partial(function, *given, **named))
        return result

    def agent(self, tenant: str) -> PersonaAgent:
        """Return the agent of a tenant; all share one memory. It is not to be closed."""
        known = self._agents.get(tenant)
        if known is None:
            salts = self.salts if self.config.cache_policy else None
            known = PersonaAgent(
                self.memory,
                self.llm,
                tenant=tenant,
                cache_salts=salts,
                cache_key=self.config.cache_key.get_secret_value(),
                clock=self.now,
            )
            self._agents[tenant] = known
        return known

    async def start(self) -> None:
        """Check that the upstream keeps the promise on caches, and begin to learn and to load."""
        policy = self.config.cache_policy
        if policy not in ("", "off") and not await self.upstream.takes_salt():
            raise InputError(
                f"cache_policy is {policy!r}, but the upstream does not keep prefix caches apart "
                "(or does not answer); use vLLM or the local model, or cache_policy off"
            )
        if self.config.learn.enabled:
            self._keeper = self._open.enter_context(self._keep())
        self._loading = asyncio.create_task(self._load())

    async def stop(self) -> None:
        """Close everything, turns first: what cannot be stored now stays on the disk."""
        self.stopping = True
        await self.upstream.close()
        if self._loading is not None:
            await self._loading
        with ThreadPoolExecutor(1, "closing") as last:  # the other pool is among what is closed
            await in_pool(last, self._open.close)

    async def _load(self) -> None:
        """Let all that a first answer would wait for be loaded now; `loading` ends with it."""
        try:
            await self.call(self.memory.embedder.embed, ["ready"])
            await self._known.ask(Question(Scope("ready", self.config.tenant), "ready"))
        except PersonaAgentError as error:
            log.warning("memory cannot be used", extra={"reason": str(error)})
        except Exception:  # whatever breaks in a model: answers come without memory
            log.exception("memory cannot be used")
        self.loading = False

    def _put_in(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Put turns into the store; return those that it can never hold."""
        refused = self.turns.apply(entries)
        self.metrics.index_bytes.set(self.memory.index.nbytes)
        return refused

    def wake(self) -> None:
        """Let the keeper look for work now."""
        if self._keeper is not None:
            self._keeper.wake()

    def worked(self, kind: str, end: str) -> int:
        """Note that background work ended; return the tokens that it asked for."""
        usage = self.llm.take().usage
        tokens = usage.prompt_tokens + usage.completion_tokens
        self.learned_tokens += tokens
        self.metrics.tokens.inc(tokens)
        self.metrics.jobs.labels(kind, end).inc()
        return tokens

    def _keep(self) -> Keeper:
        return Keeper(
            self.config.learn,
            self.store,
            self.operations,
            agent_of=self.agent,
            spending=self.worked,
            clock=self.now,
            tenant=self.config.tenant,
        )

    def span(self, name: str) -> AbstractContextManager[Any]:
        """Surround work with an OpenTelemetry span, if those are wanted; Any: the library's."""
        if not self.config.spans:
            return nullcontext()
        from opentelemetry import trace  # only where spans are wanted

        return trace.get_tracer("persona_agent.serve").start_as_current_span(name)


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[Service]:
    """Start a service, and stop it with the block."""
    try:
        await service.start()
        yield service
    finally:
        await service.stop()


def journal_folder(config: Config, database: Path | None) -> Path:
    """Return where turns wait: as configured, else beside the database file, else here."""
    if config.journal:
        return Path(config.journal)
    if database is None:
        return Path("persona-agent-journal")
    return database.with_name(database.name + "-journal.d")


def _model(config: Config) -> LLM:
    is_endpoint = config.llm.startswith("openai:")
    return open_llm(
        config.llm,
        base_url=config.base_url or None,
        api_key=config.api_key.get_secret_value() or None,
        timeout_s=config.timeout_s if is_endpoint else None,
        threads=config.threads,
    )


def _upstream(config: Config, llm: LLM) -> Upstream:
    """Return where chat requests go: to the endpoint itself, or to the model in this process.

    The embedded engine speaks OpenAI's protocol on loopback; it knows no salts there, so that it
    reads every prompt anew unless everybody may share.
    """
    if config.llm.startswith("openai:"):
        return EndpointUpstream(
            config.base_url or DEFAULT_BASE_URL,
            config.api_key.get_secret_value(),
            config.timeout_s,
        )
    name = config.llm.partition(":")[0]
    if isinstance(llm, LocalLLM):
        alone = {} if config.cache_policy == "off" else {"cache_prompt": False}
        return EndpointUpstream(
            llm.base_url, llm.api_key, config.timeout_s, {"model": name, **alone}, salted=True
        )
    return ModelUpstream(llm, name)
