"""A conversation with one person: turns driven, what they teach written to memory."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from persona_agent.bridge.history import LIKES, Likes
from persona_agent.chat.deciding import Policy
from persona_agent.chat.domain import Domain
from persona_agent.chat.hearing import Names
from persona_agent.chat.learned import Learned, history, interaction, keep, remembered
from persona_agent.chat.likeness import LIKENESS, Likeness
from persona_agent.chat.linking import LINK, Linker
from persona_agent.chat.state import ChatState
from persona_agent.chat.turn import Setting, Turn, begin, turn
from persona_agent.chat.words import shipped
from persona_agent.drive import Ports, run
from persona_agent.memory.episodic import EpisodicMemory
from persona_agent.ports import LLM
from persona_agent.program import salted
from persona_agent.types import Record, Scope

NOTHING = Learned()


@dataclass(frozen=True, slots=True)
class Exchange(Record):
    """One exchange: what is said, how it came about, and what was kept of it."""

    turn: Turn
    learned: Learned = NOTHING

    def __str__(self) -> str:
        return self.turn.say

    @property
    def state(self) -> ChatState:
        """The conversation's state after it."""
        return self.turn.state


class ChatSession:
    """A conversation with one person about one domain. Safe to use from several threads.

    `start` greets, `say` answers. The state is JSON both ways, so that whoever serves people can
    keep it and go on with it elsewhere. What is learned is stored before `say` returns.
    """

    def __init__(
        self,
        domain: Domain,
        memory: EpisodicMemory,
        llm: LLM | None,
        scope: Scope,
        *,
        linker: Linker | None = None,
        policy: Policy | None = None,
        likes: Likes = LIKES,
        state: ChatState | None = None,
        conversation: str | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        salt: str | None = None,
    ) -> None:
        """Open a conversation, or go on with that of `state`.

        Without `llm` exact words alone are understood. `likes` says which ratings are likings.
        `conversation` names it; by default a name that is taken by no other.
        """
        self._domain = domain
        self._memory = memory
        self._likes = likes
        self._clock = clock
        self._salt = salt
        self._names = Names(domain, shipped())
        self._policy = Policy() if policy is None else policy
        name = conversation or secrets.token_hex(8)
        events = memory.store.get_all(scope.owner)
        self._state = state or ChatState(domain.name, name, opinions=remembered(events, domain))
        self._scope = Scope(scope.user, scope.tenant, scope.agent, self._state.conversation)
        found = Linker(domain, memory.embedder) if linker is None else linker
        self._ports = Ports(llm, memory, {LINK: found, LIKENESS: Likeness(memory.embedder)})
        self._words_alone = llm is None
        self._asked = ""
        self._lock = threading.Lock()

    @property
    def state(self) -> ChatState:
        """The state now."""
        return self._state

    def start(self) -> Exchange:
        """Return the greeting, or the question that is open in a conversation that goes on."""
        with self._lock:
            return self._told(begin(self._setting(), self._state))

    def say(self, text: str) -> Exchange:
        """Return what comes of a person's words, after what they teach is stored.

        If the store refuses, the conversation stays as it was before. Raises StoreError, or
        BackendError if the model as a whole is unusable.
        """
        with self._lock:
            program = turn(self._setting(), self._state, text, words_alone=self._words_alone)
            made = run(salted(program, self._salt), self._ports)
            now = self._clock()
            event = interaction(made, self._scope, now, self._asked)
            learned = NOTHING
            if event is not None:
                learned = keep(self._memory, event, made, self._domain, now)
            return self._told(made, learned)

    def _told(self, made: Turn, learned: Learned = NOTHING) -> Exchange:
        self._state = made.state
        self._asked = made.say
        return Exchange(made, learned)

    def _setting(self) -> Setting:
        """Return the setting of a turn; what is liked is read anew, since it may be forgotten."""
        past = history(self._memory.store.get_all(self._scope.owner), self._domain, self._likes)
        return Setting(self._domain, self._names, self._scope, past.liked, past.seen, self._policy)
