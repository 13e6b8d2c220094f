"""The semantic memory of stored users: what a plan's prompts hold of it, and bringing it up to date."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from persona_agent.aligner import Aligner
from persona_agent.dual import MemoryPlan, lines_of
from persona_agent.memory.fact_rows import facts_of
from persona_agent.memory.store import Store
from persona_agent.memory.summary_job import refresh, standing, summaries_of
from persona_agent.persona import Persona, PersonaLine
from persona_agent.ports import LLM
from persona_agent.semantic import Description, summary_lines
from persona_agent.sensitive import WordLists
from persona_agent.task import Task
from persona_agent.types import Scope


class SemanticMemory:
    """Reads what is known of a store's users, of now, as lines of prompts."""

    def __init__(
        self,
        store: Store,
        aligner: Aligner,
        salt: Callable[[Scope], str | None] = lambda scope: None,
    ) -> None:
        """Use these parts; `aligner` knows what a user's task is."""
        self._store = store
        self._aligner = aligner
        self._salt = salt

    def lines(
        self, persona: Persona, plan: MemoryPlan, query: str = "", task: Task | None = None
    ) -> tuple[PersonaLine, ...]:
        """Return the lines that a plan puts into a prompt for a query of now.

        Only what the plan asks for is read. `task` is inferred where it is not given.
        """
        scope = persona.scope
        history = self._aligner.labelled(scope) if plan.statistics else []
        if history and task is None:
            task = self._aligner.task(history)
        summary = standing(self._store, scope) if plan.summary else None
        return lines_of(
            plan,
            query,
            persona=persona.lines,
            history=history,
            task=task,
            facts=facts_of(self._store, scope) if plan.facts else (),
            summaries=() if summary is None else (summary,),
        )

    def described(self, scope: Scope, as_of: datetime | None = None) -> Description:
        """Return the summary of a user, of now or as it was said of a moment."""
        lines = summary_lines(summaries_of(self._store, scope), now=as_of)
        return Description(scope.user, tuple(lines), as_of)

    def refresh(self, scope: Scope, llm: LLM, words: WordLists | None = None) -> Description:
        """Bring a user's summaries up to date and return what they say; see `summary_job`."""
        refresh(self._store, scope, llm, words=words, salt=self._salt(scope))
        return self.described(scope)
