"""Makes an LLM agent personal, and proves it.

    from persona_agent import PersonaAgent

    with PersonaAgent.open("persona.db", llm="local") as agent:
        agent.add("I only read short books.", user_id="alice")
        print(agent.ask("What should I read?", user_id="alice"))

Names are loaded when they are first used, so that `import persona_agent` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from persona_agent.act import Answer
    from persona_agent.agent import PersonaAgent
    from persona_agent.align import Alignment, AlignOptions
    from persona_agent.clients.wrap import wrap
    from persona_agent.drive import Ports, run, run_many
    from persona_agent.errors import PersonaAgentError
    from persona_agent.llm import FakeLLM, LocalLLM, ReplayLLM, open_llm
    from persona_agent.memory.episodic import EpisodicMemory
    from persona_agent.memory.store import Store
    from persona_agent.persona import Persona, PersonaLine
    from persona_agent.task import Situation, Task
    from persona_agent.types import Interaction, Scope

_HOME = {
    "AlignOptions": "align",
    "Alignment": "align",
    "Answer": "act",
    "EpisodicMemory": "memory.episodic",
    "FakeLLM": "llm",
    "Interaction": "types",
    "LocalLLM": "llm",
    "Persona": "persona",
    "PersonaAgent": "agent",
    "PersonaAgentError": "errors",
    "PersonaLine": "persona",
    "Ports": "drive",
    "ReplayLLM": "llm",
    "Scope": "types",
    "Situation": "task",
    "Store": "memory.store",
    "Task": "task",
    "open_llm": "llm",
    "run": "drive",
    "run_many": "drive",
    "wrap": "clients.wrap",
}

__all__ = [
    "AlignOptions",
    "Alignment",
    "Answer",
    "EpisodicMemory",
    "FakeLLM",
    "Interaction",
    "LocalLLM",
    "Persona",
    "PersonaAgent",
    "PersonaAgentError",
    "PersonaLine",
    "Ports",
    "ReplayLLM",
    "Scope",
    "Situation",
    "Store",
    "Task",
    "open_llm",
    "run",
    "run_many",
    "wrap",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'persona_agent' has no attribute {name!r}")
    return getattr(import_module(f"persona_agent.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
