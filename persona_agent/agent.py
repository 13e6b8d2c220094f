"""PersonaAgent: the facade that wires store, model and programs together."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias, overload

from persona_agent import prompts
from persona_agent.act import Answer, answer, requests
from persona_agent.align import Alignment, AlignOptions
from persona_agent.aligner import Aligner, Progress
from persona_agent.closing import Closing
from persona_agent.context import Context, fitted
from persona_agent.distil import Distilled, TraceOptions
from persona_agent.drive import Ports, arun, run, run_many
from persona_agent.dual import MemoryPlan, foresee
from persona_agent.errors import InputError, UnknownUser
from persona_agent.llm import open_llm
from persona_agent.memory.adapter_files import AdapterFiles, adapters_path
from persona_agent.memory.adapter_rows import Adapter
from persona_agent.memory.adapters import adapters_of
from persona_agent.memory.embed import open_embedder
from persona_agent.memory.episodic import EpisodicMemory
from persona_agent.memory.fact_rows import JOB, facts_of
from persona_agent.memory.forget import Receipt, Vacuum, forget
from persona_agent.memory.handlers import handlers
from persona_agent.memory.index import Index
from persona_agent.memory.index_file import index_path
from persona_agent.memory.jobs import Ran, run_jobs
from persona_agent.memory.rows import Added, Change
from persona_agent.memory.screen import Screen
from persona_agent.memory.store import Store
from persona_agent.memory.summary_rows import SUMMARY_JOB
from persona_agent.persona import Persona
from persona_agent.personas import PersonaHandle, Personas
from persona_agent.ports import LLM, Embedder, Forgetter, SaltedLLM, Tool
from persona_agent.predict import Job, RecallPlan, remember
from persona_agent.program import Program, Result, adapted, salted
from persona_agent.propose import Proposer, miner, textual_gradient
from persona_agent.records import TICK, chat, interaction
from persona_agent.salts import CacheSalts
from persona_agent.semantic import Description
from persona_agent.semantic_memory import SemanticMemory
from persona_agent.sensitive import WordLists
from persona_agent.task import Prediction, Situation, Task
from persona_agent.tools import FunctionTool
from persona_agent.train.base import Base
from persona_agent.train.options import TrainOptions
from persona_agent.train.traces import NO_TRACES, TracesByUser, thought_about
from persona_agent.train.trainer import Learned, Tell, quietly, train_all
from persona_agent.types import (
    Fact,
    Interaction,
    Json,
    Recalled,
    RecallRequest,
    Record,
    Sampling,
    Scope,
)

if TYPE_CHECKING:
    from persona_agent.chat.deciding import Policy
    from persona_agent.chat.domain import Domain
    from persona_agent.chat.session import ChatSession
    from persona_agent.chat.state import ChatState

Content: TypeAlias = "str | Interaction | Mapping[str, Any]"  # Any: foreign data, checked inside

CACHE_KEY = "PERSONA_AGENT_CACHE_KEY"
PROPOSERS: tuple[Proposer, ...] = (miner, textual_gradient)


@dataclass(frozen=True, slots=True)
class AddResult(Record):
    """What was stored, changed and skipped, and why, in the order given."""

    results: tuple[Added, ...]

    def __str__(self) -> str:
        return "\n".join(
            f"{one.event} {one.id}" + (f": {one.reason}" if one.reason else "")
            for one in self.results
        )


@dataclass(frozen=True, slots=True)
class SearchResult(Record):
    """Memories with their scores, best first."""

    results: tuple[Recalled, ...]

    def __str__(self) -> str:
        return "\n".join(
            f"{hit.score:.3f} {hit.interaction.when:%Y-%m-%d} {prompts.as_data(hit.interaction.text)}"
            for hit in self.results
        )


def _tool(tool: Callable[..., Any] | Tool) -> Tool:
    """Return a tool as it is, a function made into one."""
    if isinstance(tool, FunctionTool) or not callable(tool):
        return tool
    return FunctionTool(tool)


def _now() -> datetime:
    return datetime.now(UTC)


class PersonaAgent(Closing):
    """An agent that knows each of its users: remembers, aligns, answers.

    `open` builds one from names; the constructor takes the parts. Close it, or use it in a
    `with` block. Methods may be called from several threads.
    """

    def __init__(
        self,
        memory: EpisodicMemory,
        llm: LLM | None,
        *,
        tenant: str = "default",
        task: Task | None = None,
        plan: RecallPlan = RecallPlan(recent=4, similar=4),
        options: AlignOptions = AlignOptions(),
        proposers: Sequence[Proposer] = PROPOSERS,
        summarise_history: bool = True,
        clock: Callable[[], datetime] = _now,
        cache_salts: CacheSalts | None = None,
        cache_key: str = "",
        adapters: AdapterFiles | None = None,
        forgetters: Mapping[str, Forgetter] | None = None,
    ) -> None:
        """Use these parts.

        `adapters` are where trained adapters are kept. `forgetters` know of users outside the
        database, such as `RecommenderTools` or `Hosted` adapters; `forget` reaches them.

        `cache_salts` says who may share the engine's prefix cache; None: the users of a tenant,
        where the engine keeps caches apart, by `cache_key`, which processes that share an engine
        should have in common. Given ones are an error where it does not.
        """
        self.memory = memory
        self.llm = llm
        self._store = memory.store
        self._tenant = tenant
        self._plan = plan
        self._options = options
        self._now = clock
        self._ports = Ports(llm, memory)
        self._salts = cache_salts
        self._cache_key = cache_key.encode()
        self._adapters = adapters
        self._forgetters = {
            **(forgetters or {}),
            **({} if adapters is None else {"adapters on disk": adapters}),  # after their hosts
        }
        self._personas = Personas(memory.store, clock)
        self._aligner = Aligner(
            memory.store,
            self._personas,
            self._ports,
            clock=clock,
            task=task,
            proposers=proposers,
            summarise_history=summarise_history,
            salt=self._salt,
        )
        self._semantic = SemanticMemory(memory.store, self._aligner, self._salt)

    @classmethod
    def open(
        cls,
        database: str | Path = "persona.db",
        *,
        llm: str | LLM | None = "local",
        embedder: str | Embedder = "minilm",
        base_url: str | None = None,
        api_key: str | None = None,
        threads: int | None = None,
        environ: Mapping[str, str] = os.environ,
        facts: bool = False,
        summaries: bool = False,
        screen: Screen = Screen(),
        adapters: str | Path | None = None,
        **settings: Any,  # Any: passed on to the constructor, which checks them
    ) -> Self:
        """Return an agent on a database file or URL (created if absent).

        `llm` is a model specification (`local`, `gguf:PATH`, `openai:MODEL`) or any LLM, None
        for work that needs no model; the same for `embedder` (`minilm`, `hash`, `st:MODEL`).
        `threads` are the embedded model's. An endpoint's address and key that are not given are
        looked up in `environ`, and so is PERSONA_AGENT_CACHE_KEY (`cache_key`). With `facts`, what
        users write asks for jobs that extract facts, with `summaries` for jobs that sum it up;
        `run_jobs` does them. `screen` says what is stored and how secrets are treated. `adapters`
        is the folder of trained adapters, by default beside the database's file. Raises
        StoreError, BackendError or ValueError, each
        saying the way out.
        """
        embed = open_embedder(embedder) if isinstance(embedder, str) else embedder
        outbox = [kind for kind, on in ((JOB, facts), (SUMMARY_JOB, summaries)) if on]
        store = Store.open(database, screen=screen, outbox=outbox)
        try:
            model = (
                open_llm(llm, base_url=base_url, api_key=api_key, threads=threads, environ=environ)
                if isinstance(llm, str)
                else llm
            )
            is_file = str(database) != ":memory:" and "://" not in str(database)
            index = Index(embed.name, file=index_path(database) if is_file else None)
            settings.setdefault("cache_key", environ.get(CACHE_KEY, ""))
            folder = adapters_path(Path(database)) if is_file and adapters is None else adapters
            if folder is not None:
                settings["adapters"] = AdapterFiles(store, Path(folder))
                settings["adapters"].sweep()
            return cls(EpisodicMemory(store, embed, index), model, **settings)
        except BaseException:
            store.close()
            raise

    def close(self) -> None:
        """Close the database and the model; what was recalled how often is written first.

        So is the index, if a good part of it is not saved yet: the next process starts warm.
        """
        self.memory.close(self._now())
        self._store.close()
        close = getattr(self.llm, "close", None)  # a model that holds nothing has no close
        if close is not None:
            close()

    # --- memories ---------------------------------------------------------------------------

    def add(
        self,
        content: Content | Sequence[Content],
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        metadata: Mapping[str, Json] | None = None,
        idempotency_key: str | None = None,
    ) -> AddResult:
        """Remember interactions, chat messages or a plain text; returns after they are durable.

        A mapping with `role` and `content` is a chat message, any other is an interaction by its
        keys (`query`, `outcome`, `when`, …). The user is named once for all by `user_id`, or by
        each interaction. An event that is already there is skipped, by its id. The same write
        with the same `idempotency_key` again changes nothing and returns the same. Secrets are
        taken out first, and the result says so. Raises InputError for what cannot be read; then
        nothing is stored.
        """
        given = [content] if isinstance(content, (str, Interaction, Mapping)) else list(content)
        scope = self._scope(user_id, agent_id, run_id) if user_id is not None else None
        events = self._read(given, scope, metadata)
        return AddResult(
            tuple(self.memory.add(events, self._now(), idempotency_key=idempotency_key))
        )

    def search(
        self,
        query: str,
        *,
        user_id: str,
        agent_id: str | None = None,
        run_id: str | None = None,
        top_k: int = 10,
    ) -> SearchResult:
        """Return a user's memories most similar to `query`, best first; none for a stranger."""
        scope = self._scope(user_id, agent_id, run_id)
        request = RecallRequest(scope, "similar", query, top_k, max_tokens=1_000_000)
        return SearchResult(self.memory.recall([request])[0].memories)

    def get(self, memory_id: str, *, user_id: str) -> Interaction:
        """Return one memory; raises StoreError if this user has none of that id."""
        return self._store.get(self._scope(user_id), memory_id)

    def get_all(
        self,
        *,
        user_id: str,
        agent_id: str | None = None,
        run_id: str | None = None,
        limit: int | None = None,
    ) -> list[Interaction]:
        """Return a user's memories in time order, the latest `limit` of them."""
        scope = self._scope(user_id, agent_id, run_id)
        return self._store.get_all(scope) if limit is None else self._store.recent(scope, limit)

    def update(self, memory_id: str, *, user_id: str, **changes: Any) -> Interaction:
        """Change a memory's query, response, outcome or metadata and return it; history is kept.

        Adapters that learned what is replaced or taken away go.
        Any: the values are checked as those of an Interaction. Raises ValueError or StoreError.
        """
        changed = self.memory.update(self._scope(user_id), memory_id, changes, self._now())
        self._sweep()
        return changed

    def delete(self, memory_id: str, *, user_id: str) -> None:
        """Delete one memory, its vector, its history, and the adapters that it is in."""
        self.memory.delete(self._scope(user_id), memory_id, self._now())
        self._sweep()

    def delete_all(self, *, user_id: str) -> int:
        """Delete all that is stored about a user; returns the number of memories deleted."""
        gone = self.memory.delete_all(self._scope(user_id), self._now())
        self._sweep()
        return gone

    def forget(self, user_id: str, *, dry_run: bool = False, vacuum: Vacuum = "plain") -> Receipt:
        """Forget all about a user, and return the receipt; with `dry_run`, tell what would go.

        So do adapters that the user's events are in, others' too, and all `forgetters`.
        `vacuum` is for PostgreSQL, see `memory.forget`.

        Work in flight for that user writes nothing any more.
        """
        scope = self._scope(user_id)
        drop = self.memory.index.forget
        return forget(
            self._store,
            scope,
            self._now(),
            dry_run=dry_run,
            drop_index=drop,
            vacuum=vacuum,
            forgetters=self._forgetters,
        )

    def facts(self, user_id: str, *, as_of: datetime | None = None) -> list[Fact]:
        """Return the facts that hold about a user now, or held at a time, oldest first."""
        return facts_of(self._store, self._scope(user_id), as_of)

    def summary(self, user_id: str, *, as_of: datetime | None = None) -> Description:
        """Return what a user's memories say in short, now or as it was said of a time.

        Summaries are made by `run_jobs`, with `open(summaries=True)`, or by `summarise`.
        """
        return self._semantic.described(self._scope(user_id), as_of)

    def summarise(self, user_id: str, *, sensitive_words: WordLists | None = None) -> Description:
        """Bring a user's summary up to date and return it; only what is new is asked for.

        Raises UnknownUser, or BackendError where the model cannot sum the user up.
        """
        if self.llm is None:
            raise ValueError("a summary asks a model, but none was given; open with llm=")
        return self._semantic.refresh(self._known(user_id), self.llm, sensitive_words)

    def run_jobs(
        self, *, limit: int | None = None, sensitive_words: WordLists | None = None
    ) -> list[Ran]:
        """Do the jobs that are due, facts and summaries; return how each attempt ended.

        Nothing is said that has one of `sensitive_words`, by default the lists that ship.
        """
        if self.llm is None:
            raise ValueError("extracting facts asks a model, but none was given; open with llm=")
        work = handlers(self.llm, words=sensitive_words, salt=self._salt)
        return run_jobs(self._store, work, limit=limit, clock=self._now)

    def history(self, memory_id: str, *, user_id: str) -> list[Change]:
        """Return what happened to a memory, oldest first."""
        return self._store.history(self._scope(user_id), memory_id)

    def users(self) -> list[str]:
        """Return the ids of all users of this tenant, sorted."""
        return self._store.users(self._tenant)

    def context(
        self,
        user_id: str,
        query: str,
        *,
        max_tokens: int = 1024,
        plan: MemoryPlan = MemoryPlan(summary=True),
    ) -> str:
        """Return what a prompt should know of the user: persona, summary, facts and memories.

        At most `max_tokens` by estimate; the persona comes first and is not cut, what is recalled
        fills the rest. `plan` says which memories take part. Raises UnknownUser, or ValueError if
        the persona alone does not fit.
        """
        return self.know(user_id, query, max_tokens=max_tokens, plan=plan).text

    def know(
        self,
        user_id: str,
        query: str,
        *,
        max_tokens: int = 1024,
        shown: Collection[str] = (),
        plan: MemoryPlan = MemoryPlan(summary=True),
    ) -> Context:
        """Return what `context` does, with the persona version, memories and facts it holds.

        Memories whose query is one of `shown`, such as earlier turns of the same conversation,
        are left out.
        """
        stored = self._persona(self._scope(user_id))
        persona = stored if plan.persona else replace(stored, lines=())
        replies = self.memory.recall(requests(plan.recall or self._plan, persona.scope, query))
        hits = [hit for one in replies for hit in one.memories]
        lines = self._semantic.lines(persona, plan, query)
        return fitted(persona, hits, max_tokens=max_tokens, shown=shown, lines=lines)

    # --- acting -----------------------------------------------------------------------------

    def ask(
        self,
        question: str,
        *,
        user_id: str,
        tools: Sequence[Callable[..., Any] | Tool] = (),
        max_steps: int = 4,
        max_tokens: int = 400,
        temperature: float = 0.0,
        plan: MemoryPlan = MemoryPlan(summary=True),
    ) -> Answer:
        """Return the agent's answer to a user, with the persona version and memories it used.

        `tools` are Python functions (any signature) or Tools that the model may use on the way,
        at most `max_steps` times. `plan` says which memories take part, and whether the model
        thinks before it answers. Raises UnknownUser, ValueError or BackendError.
        """
        program, ports = self._asking(
            question, user_id, tools, max_steps, Sampling(max_tokens, temperature), plan
        )
        return run(program, ports)

    async def aask(
        self,
        question: str,
        *,
        user_id: str,
        tools: Sequence[Callable[..., Any] | Tool] = (),
        max_steps: int = 4,
        max_tokens: int = 400,
        temperature: float = 0.0,
        plan: MemoryPlan = MemoryPlan(summary=True),
    ) -> Answer:
        """Return what `ask` returns, without blocking the event loop."""
        program, ports = await asyncio.to_thread(
            self._asking,
            question,
            user_id,
            tools,
            max_steps,
            Sampling(max_tokens, temperature),
            plan,
        )
        return await arun(program, ports)

    def predict(
        self,
        queries: Sequence[Situation | str],
        *,
        user_id: str,
        task: Task | None = None,
        plan: MemoryPlan = MemoryPlan(),
    ) -> list[Prediction]:
        """Return what the user is expected to do in each situation, by the aligned persona.

        The task is inferred from the user's outcomes unless it is given. `plan` says which
        memories take part; the gate judged the persona with none but those that are recalled.
        """
        scope = self._scope(user_id)
        persona = self._aligner.begun(scope, self._options)
        task = task or self._aligner.task(self._aligner.labelled(scope))
        block = [Situation(one, task.options) if isinstance(one, str) else one for one in queries]
        recalled = plan.recall or self._options.plan
        memories = run(remember(scope, recalled, block, None), self._ports)
        shared = None if plan.facts else self._semantic.lines(persona, plan, task=task)
        jobs = [
            Job(
                self._semantic.lines(persona, plan, one.query, task) if shared is None else shared,
                known,
                one,
            )
            for known, one in zip(memories, block, strict=True)
        ]
        program = foresee(jobs, task, plan, calibration=self._options.calibration)
        return run(salted(program, self._salt(scope)), self._ports)

    def chat(
        self,
        domain: Domain,
        *,
        user_id: str,
        agent_id: str | None = None,
        policy: Policy | None = None,
        state: ChatState | None = None,
    ) -> ChatSession:
        """Open a conversation that asks or recommends, or go on with that of `state`.

        It starts from what is remembered of the user, and what it learns is remembered before it
        answers. Needs the extra `recommend`.
        """
        from persona_agent.chat.session import ChatSession  # late: scipy and pandas are heavy

        scope = self._scope(user_id, agent_id)
        return ChatSession(
            domain,
            self.memory,
            self.llm,
            scope,
            policy=policy,
            state=state,
            clock=self._now,
            salt=self._salt(scope),
        )

    # --- the persona and its alignment ------------------------------------------------------

    def persona(self, user_id: str) -> PersonaHandle:
        """Return a handle on a user's persona; raises UnknownUser.

        One that is stored can be read when all memories are deleted: it still stands in prompts.
        """
        scope = self._scope(user_id)
        if self._personas.head(scope) is None:
            scope = self._known(user_id)
        return PersonaHandle(
            scope, self._personas, lambda: self._aligner.start(scope, self._options)
        )

    @overload
    def align(  # type: ignore[overload-overlap]  # a str is a sequence of str, too
        self, users: str, *, options: AlignOptions | None = None
    ) -> Alignment: ...

    @overload
    def align(
        self,
        users: Sequence[str] | None = None,
        *,
        options: AlignOptions | None = None,
        on_round: Callable[[Progress], None] | None = None,
    ) -> list[Result[Alignment]]: ...

    def align(
        self,
        users: str | Sequence[str] | None = None,
        *,
        options: AlignOptions | None = None,
        on_round: Callable[[Progress], None] | None = None,
    ) -> Alignment | list[Result[Alignment]]:
        """Optimise personas against what users really did; a change must prove itself.

        One user id gives that user's Alignment, or raises. Several, or None for all, give a
        Result each, in order: one that fails disturbs no other. An alignment that was stopped
        resumes where it was; one that is done for the same data is returned as it was.
        """
        if isinstance(users, str):
            scope = self._scope(users)
            return self._aligner.align([scope], options or self._options)[0].unwrap()
        names = self.users() if users is None else list(users)
        if len(set(names)) != len(names):
            raise ValueError("a user is named twice; name each user once")
        scopes = [self._scope(name) for name in names]
        return self._aligner.align(scopes, options or self._options, on_round)

    # --- weights ----------------------------------------------------------------------------

    def train(
        self,
        users: str | Sequence[str] | None = None,
        *,
        options: TrainOptions = TrainOptions(),
        base: str | Base = "local",
        cohort: bool = False,
        start: str | None = None,
        task: Task | None = None,
        traces: TracesByUser = NO_TRACES,
        tell: Tell = quietly,
    ) -> list[Result[Learned]]:
        """Train an adapter of each user, or with `cohort` one of all; return a result each.

        A user id, several, or None for all users. `base` is the model that is adapted: "local", a
        folder or a GGUF file. `start` names an adapter to begin with, such as a cohort's. `traces`
        are by user, as `distil` makes them. The task is inferred unless given. What cannot be
        trained disturbs nobody. Needs the extra `train`. Raises ValueError where no folder for adapters was given.
        """
        if self._adapters is None:
            raise ValueError("there is no folder for adapters; open the agent with adapters=")
        scopes = self._scopes(users)
        return train_all(
            self._adapters,
            Base.open(base) if isinstance(base, str) else base,
            scopes,
            lambda scope: task or self._aligner.task(self._aligner.labelled(scope)),
            options,
            cohort=cohort,
            start=start,
            traces=traces,
            clock=self._now,
            tell=tell,
        )

    def distil(
        self,
        users: str | Sequence[str] | None = None,
        *,
        options: TraceOptions = TraceOptions(),
        held_out: int = 0,
        task: Task | None = None,
    ) -> list[Result[Distilled]]:
        """Return the model's own thoughts that led to what each user did, for `train` by "traces".

        A user id, several, or None for all users, whose thoughts are drawn in the same batches.
        The latest `held_out` outcomes, which `train` is to hold out, too, are not thought about.
        A user who has none to think about has NotEnoughData as a result.
        """
        programs = [
            salted(
                thought_about(
                    self._store.get_all(scope),
                    lambda labelled: task or self._aligner.task(labelled),
                    options,
                    held_out=held_out,
                ),
                self._salt(scope),
            )
            for scope in self._scopes(users)
        ]
        return run_many(programs, self._ports)

    def adapters(self, user_id: str | None = None) -> list[Adapter]:
        """Return the adapters there are, newest first: of a user, or of all users and cohorts."""
        return adapters_of(self._store, self._tenant, user_id)

    def adapter_folder(self, name: str) -> Path:
        """Return the folder of an adapter, which vLLM and peft load; raises StoreError."""
        if self._adapters is None:
            raise ValueError("there is no folder for adapters; open the agent with adapters=")
        return self._adapters.path(name)

    # --- inside -----------------------------------------------------------------------------

    def _sweep(self) -> None:
        if self._adapters is not None:
            self._adapters.sweep()

    def _scope(self, user: str, agent: str | None = None, run_id: str | None = None) -> Scope:
        return Scope(user, self._tenant, agent, run_id)

    def _scopes(self, users: str | Sequence[str] | None) -> list[Scope]:
        names = [users] if isinstance(users, str) else self.users() if users is None else users
        return [self._scope(name) for name in names]

    def _known(self, user: str) -> Scope:
        """Return the scope of a user of whom something is stored; raises UnknownUser."""
        scope = self._scope(user)
        if not self._store.count(scope):
            raise UnknownUser(f"nothing is stored about user {user!r}; add interactions first")
        return scope

    def _salt(self, scope: Scope) -> str | None:
        """Return the name of the prefix cache that a user's prompts may use."""
        if self._salts is None or self._salts.policy != "off":
            honoured = isinstance(self.llm, SaltedLLM) and self.llm.honours_salt
            if not honoured and self._salts is not None:
                raise ValueError(
                    f"the cache policy is {self._salts.policy!r}, but the model does not keep "
                    "prefix caches apart; use one that does (local, vllm:, or openai: before "
                    "vLLM), or the policy 'off'"
                )
            if not honoured:
                return None
        if self._salts is None:
            self._salts = CacheSalts(key=self._cache_key)
        return self._salts.of(scope)

    def _persona(self, scope: Scope) -> Persona:
        return self._personas.head(scope) or self._aligner.start(scope, self._options)

    def _read(
        self,
        given: Sequence[Content],
        scope: Scope | None,
        metadata: Mapping[str, Json] | None,
    ) -> list[Interaction]:
        """Return foreign content as interactions; neighbouring messages are one conversation."""
        now = self._now()
        read: list[Interaction] = []
        talk: list[Mapping[str, Any]] = []
        for one in [*given, None]:
            message = {"role": "user", "content": one} if isinstance(one, str) else one
            if isinstance(message, Mapping) and "content" in message:
                talk.append(message)
                continue
            if talk:
                if scope is None:
                    raise InputError("chat messages need a user: pass user_id")
                start = now + len(read) * TICK
                read += chat(talk, scope=scope, now=start, metadata=metadata)
                talk = []
            if isinstance(message, Interaction):
                read.append(self._own(message, scope))
            elif message is not None:
                fields = {"metadata": dict(metadata), **message} if metadata else message
                when = now + len(read) * TICK
                read.append(interaction(fields, scope=scope, now=when, tenant=self._tenant))
        return read

    def _own(self, one: Interaction, scope: Scope | None) -> Interaction:
        if one.scope.tenant != self._tenant:
            raise InputError(
                f"interaction {one.id!r} belongs to tenant {one.scope.tenant!r}; this agent "
                f"serves {self._tenant!r}"
            )
        if scope is not None and one.scope.user != scope.user:
            raise InputError(
                f"interaction {one.id!r} belongs to user {one.scope.user!r}, not {scope.user!r}"
            )
        return one

    def _asking(
        self,
        question: str,
        user_id: str,
        tools: Sequence[Callable[..., Any] | Tool],
        max_steps: int,
        sampling: Sampling,
        plan: MemoryPlan,
    ) -> tuple[Program[Answer], Ports]:
        begun = self._aligner.begun(self._scope(user_id), self._options)
        persona = begun if plan.persona else replace(begun, lines=())
        stated = {line.id for line in persona.lines}
        lines = self._semantic.lines(persona, plan, question)
        made = [_tool(tool) for tool in tools]
        ports = replace(self._ports, tools={tool.name: tool for tool in made})
        program = answer(
            question,
            persona,
            plan=plan.recall or self._plan,
            tools=made,
            max_steps=max_steps,
            sampling=sampling,
            lines=[line for line in lines if line.id not in stated],
            think=plan.think,
        )
        return salted(adapted(program, plan.adapter), self._salt(persona.scope)), ports
