"""The kinds of job there are, and who does them."""

from __future__ import annotations

from collections.abc import Callable

from persona_agent.memory.fact_rows import JOB, fact_job
from persona_agent.memory.jobs import Handler
from persona_agent.memory.summary_job import summary_job
from persona_agent.memory.summary_rows import SUMMARY_JOB
from persona_agent.ports import LLM
from persona_agent.sensitive import WordLists
from persona_agent.types import Scope

KINDS = (JOB, SUMMARY_JOB)


def handlers(
    llm: LLM,
    *,
    words: WordLists | None = None,
    salt: Callable[[Scope], str | None] = lambda scope: None,
) -> dict[str, Handler]:
    """Return the handlers of all kinds of job, for `run_jobs`; see `fact_job` for the arguments."""
    return {
        JOB: fact_job(llm, words=words, salt=salt),
        SUMMARY_JOB: summary_job(llm, words=words, salt=salt),
    }
